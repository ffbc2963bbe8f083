"""`python -m engine_build`, the same as `engine-build`."""

from engine_build.cli import main

if __name__ == "__main__":
    main()
