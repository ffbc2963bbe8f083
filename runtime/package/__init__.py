"""A model package on disk: what the build writes and the runtime reads."""
