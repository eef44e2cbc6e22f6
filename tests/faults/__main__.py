# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault at every call of the scenario, one after another: `scripts/faults`. Takes an hour and
more; with numbers as arguments only every so many-th call."""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.faults.calls import FOR_EVER, Action, Kind, build
from tests.faults.node import Fault, run

_DISK: Final = ((Action.FAIL, errno.EIO), (Action.FAIL, errno.ENOSPC), (Action.CUT, 0))
_WIRE: Final = ((Action.FAIL, errno.ECONNRESET), (Action.STALL, 1_500), (Action.CUT, 0))
_MEETS: Final = {
    Kind.OPEN: ((Action.FAIL, errno.EIO), (Action.FAIL, errno.EMFILE)),
    Kind.READ: ((Action.FAIL, errno.EIO), (Action.CUT, 0)),
    Kind.WRITE: (*_DISK, (Action.STALL, 1_500)),
    Kind.SYNC: ((Action.FAIL, errno.EIO), (Action.STALL, 1_500)),
    Kind.LOG: ((Action.FAIL, errno.EPIPE), (Action.STALL, 1_500)),
    Kind.ACCEPT: ((Action.FAIL, errno.EMFILE), (Action.FAIL, errno.ECONNABORTED)),
    Kind.SEND: _WIRE,
    Kind.RECEIVE: _WIRE,
}


def _faults(counts: dict[Kind, int], *, every: int, at_start: bool) -> Iterator[Fault]:
    for kind, meets in _MEETS.items():
        for action, value in meets:
            for first in range(1, counts[kind] + 1, every):
                yield Fault(kind, first, action, value, at_start=at_start)
            yield Fault(kind, 1, action, value, times=FOR_EVER, at_start=at_start)


def _wrong(directory: Path, library: Path, fault: Fault) -> list[str]:
    directory.mkdir()
    try:
        return run(directory, library, fault).wrong
    except AssertionError as error:
        return [str(error)]


def _counts(directory: Path, library: Path, *, at_start: bool) -> dict[Kind, int]:
    """Calls of each kind where nothing is disturbed."""
    directory.mkdir()
    calm = Fault(Kind.LOG, 0, Action.NOTHING, at_start=at_start)
    return run(directory, library, calm).counts


def _try_all(directory: Path, library: Path, *, every: int) -> int:
    faults: list[Fault] = []
    for at_start in (False, True):
        counts = _counts(directory / f"calm{at_start}", library, at_start=at_start)
        faults += _faults(counts, every=every, at_start=at_start)
    failed = 0
    for number, fault in enumerate(faults):
        wrong = _wrong(directory / str(number), library, fault)
        if wrong:
            failed += 1
            print(f"{fault}: {wrong}", flush=True)
    print(f"{len(faults)} faults tried, {failed} with something wrong")
    return 1 if failed else 0


def main() -> int:
    """0 if nothing was wrong."""
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        if library is None:
            print("there is no C compiler to build the layer with")
            return 2
        every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
        return _try_all(Path(name), library, every=every)


if __name__ == "__main__":
    sys.exit(main())
