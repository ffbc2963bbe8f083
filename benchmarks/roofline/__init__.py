"""Prediction of a compiled graph's time on a GPU, kernel by kernel, without the GPU."""
