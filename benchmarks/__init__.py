"""Measurements of whole builds and servers; `results/` holds what was measured, and on what."""
