"""LoRA packs: what one is on disk, which there are, and the weights that a set of them gives."""
