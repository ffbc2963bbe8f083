"""Long runs against real processes: the promises of a server, kept under kills and under load."""
