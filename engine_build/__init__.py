"""Calotype's build stage: from a checkpoint to a model package. The only room that knows PyTorch."""
