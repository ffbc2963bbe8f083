"""Calotype's runtime: from a request and a model package to pictures, with no PyTorch in it."""
