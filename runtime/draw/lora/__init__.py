"""The effective weights of LoRA sets, and the switch that puts them on a network."""
