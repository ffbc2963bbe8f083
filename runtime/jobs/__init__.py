"""The server's side of jobs: queue, leases and reports, and the supervision of the worker."""
