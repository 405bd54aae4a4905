"""`python -m lightrnn` is the command `lightrnn`."""

import sys

from lightrnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
