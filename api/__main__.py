"""`python -m exeunt` is the command `exeunt`."""

import os
import sys

# `-m` puts the current folder first, where a file may have any module's name.
if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from exeunt.searcher.cli.main import main

main()
