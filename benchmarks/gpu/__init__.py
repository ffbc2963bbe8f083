"""All that is measured of a family on one GPU in one run: `python -m benchmarks.gpu --help`."""
