"""`python -m exeunt` is the command `exeunt`."""

from exeunt.searcher.cli.main import main

main()
