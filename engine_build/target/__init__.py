"""A model package to a target: engines compiled for one GPU, verified where that GPU is."""
