"""`python -m allm`."""

import sys

from allm.cli import main

if __name__ == "__main__":
    sys.exit(main())
