"""`python -m insitu` is the command `insitu`."""

from insitu.cli import main

main()
