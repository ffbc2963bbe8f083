"""The commands of `calotype`, one file each: `configure` adds the flags, `run` does the work."""
