"""The worker process: receives jobs from the server, draws their pictures, and reports."""
