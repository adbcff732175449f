"""`python -m braze`: the command line."""

import sys

from braze.cli import main

if __name__ == "__main__":
    sys.exit(main())
