"""Runs the command line as `python -m radpool_sv2`."""

from radpool_sv2.cli import main

if __name__ == "__main__":
    main()
