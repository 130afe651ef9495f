"""`python -m uptake.cli`."""

from uptake.cli import main

if __name__ == "__main__":
    main()
