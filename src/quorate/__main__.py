# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m quorate` is `quorate`."""

import sys

from quorate.cli import main

if __name__ == "__main__":
    sys.exit(main())
