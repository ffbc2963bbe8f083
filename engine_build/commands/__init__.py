"""The commands of `engine-build`, a file each: `configure` adds the flags, `run` does the work."""
