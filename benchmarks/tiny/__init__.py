"""Tiny random pipelines of each family, for tests and for what needs the files around a model."""
