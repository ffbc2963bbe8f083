"""AUTOMATIC1111's API in terms of ours: names, bodies, answers, and what its callers draw."""
