"""A GPU: its memory, streams, graphs and kernels, and what runs engines of any vendor on it."""
