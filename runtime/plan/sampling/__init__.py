"""Samplers as tables of numbers: pure functions on the host."""
