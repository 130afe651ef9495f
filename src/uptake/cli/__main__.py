"""`python -m uptake.cli`."""

from uptake.cli import main

main()
