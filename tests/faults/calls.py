# SPDX-License-Identifier: GPL-3.0-or-later
"""The other half of `calls.c`: builds it, and tells a running node which calls to disturb."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("calls.c")
_CALLS: Final = struct.Struct("=QQQQQ")
_COUNTING: Final = struct.Struct("=Q")
FOR_EVER: Final = (1 << 64) - 1


class Kind(IntEnum):
    """Which calls; those on files only under the node's data directory."""

    OPEN = 0
    READ = 1
    WRITE = 2
    SYNC = 3
    LOG = 4
    ACCEPT = 5
    SEND = 6
    RECEIVE = 7


class Action(IntEnum):
    """What becomes of a call."""

    NOTHING = 0
    FAIL = 1
    """With the errno that is its value. What a failed sync should have covered is gone."""
    STALL = 2
    """For the milliseconds that are its value; then it goes on."""
    CUT = 3
    """It takes, or gives, half of the bytes."""


def build(directory: Path) -> Path | None:
    """The library, built in `directory`; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "calls.so"
    flags = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run([compiler, *flags], check=True, capture_output=True, timeout=60)
    return library


class Calls:
    """What a node that runs with `environment` is to meet. Counts are kept while `count` is on."""

    def __init__(self, library: Path, plan: Path, data: Path) -> None:
        plan.write_bytes(bytes(_COUNTING.size + len(Kind) * _CALLS.size))
        with plan.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTS_PLAN": str(plan),
            "FAULTS_DIRECTORY": str(data),
        }

    def close(self) -> None:
        """Let go of the plan; the node keeps its own view of it."""
        self._map.close()

    def clear(self) -> None:
        """Disturb nothing, and count from 0 again."""
        self._map[:] = bytes(len(self._map))

    def count(self, *, is_on: bool) -> None:
        """Begin to count and disturb, or end to."""
        _COUNTING.pack_into(self._map, 0, is_on)

    def disturb(
        self, kind: Kind, first: int, action: Action, value: int = 0, *, times: int = 1
    ) -> None:
        """Have `times` calls of a kind, from the `first` on, counted from 1, meet this."""
        last = min(first + times - 1, FOR_EVER)
        _CALLS.pack_into(
            self._map, self._place(kind), self.counted(kind), first, last, action, value
        )

    def counted(self, kind: Kind) -> int:
        """How many calls of a kind there were."""
        return int(_CALLS.unpack_from(self._map, self._place(kind))[0])

    def _place(self, kind: Kind) -> int:
        return _COUNTING.size + kind * _CALLS.size
