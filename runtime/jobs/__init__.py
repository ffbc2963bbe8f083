"""The server process: where jobs wait, are leased and report, and the worker that is kept alive."""
