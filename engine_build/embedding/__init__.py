"""Textual inversions: from files as trainers write them to packs of a model."""
