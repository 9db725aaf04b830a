"""`python -m dhtmeta` is the command line."""

from dhtmeta.cli.main import main

main()
