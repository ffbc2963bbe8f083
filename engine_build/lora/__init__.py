"""LoRA files to LoRA packs."""
