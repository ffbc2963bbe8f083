"""The worker process: takes jobs from the server, draws them, and reports."""
