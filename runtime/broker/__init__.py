"""Where jobs wait, are leased, and report."""
