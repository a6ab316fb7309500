"""`python -m sameface` is `sameface`."""

from sameface.cli import main

main()
