"""A checkpoint to a model package: traced graphs, weights, the check and the manifest."""
