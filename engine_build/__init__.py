"""Calotype's build stage, from a checkpoint to a model package: the only room with PyTorch."""
