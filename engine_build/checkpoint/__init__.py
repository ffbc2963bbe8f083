"""Files of a checkpoint to tensors by name."""
