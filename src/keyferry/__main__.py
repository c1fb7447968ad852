"""`python -m keyferry`."""

from keyferry.cli import main

main()
