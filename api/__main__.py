"""`python -m exeunt` is the command `exeunt`."""

from exeunt.searcher.cli import main

main()
