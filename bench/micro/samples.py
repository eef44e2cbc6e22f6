# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks work on: keys and values as `quorate bench` has them, and records of them."""

from __future__ import annotations

from typing import Final

from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version

BATCH: Final = 64
"""Operations at once: as many as connections ask when a node is busy."""
VALUE: Final = b"v" * 64
KEYS: Final = [b"quorate-bench:%015d" % number for number in range(BATCH)]
ROWS: Final = [row_of(key) for key in KEYS]
RECORDS: Final = [Record(pack_version(1 << 40, number), VALUE) for number in range(BATCH)]
PAIRS: Final = list(zip(ROWS, RECORDS, strict=True))
