"""Inference backends: one protocol, opened lazily, vendor errors translated here."""
