"""`python -m local` is `facerelay`."""

from local.cli import main

main()
