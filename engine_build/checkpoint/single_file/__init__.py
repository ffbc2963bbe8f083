"""Single-file checkpoints: what a file is, and where in it each network's tensors lie."""
