"""`python -m hdstbench` is `hdstbench`."""

from hdstbench.cli import main

if __name__ == "__main__":
    main()
