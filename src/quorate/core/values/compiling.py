# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to the compiler (mypyc) alone. Not compiled: where it runs, it means nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_):
        """Leaves the class as it is."""
        return lambda kind: kind
