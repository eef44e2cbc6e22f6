# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault at every call, one after another: `scripts/faults`. For a kind of call and what it
meets the first call is disturbed, then the second, ..., until there was none left to disturb; and
at last all of them.

Takes hours. With `--every N` only every so many-th call, with `--nodes N` one of the two scenarios.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.faults.alone import Alone
from tests.faults.calls import FOR_EVER, Action, Kind, build
from tests.faults.node import Fault, Found
from tests.faults.three import Three

_FAULTS: Final[dict[tuple[Action, int], tuple[Kind, ...]]] = {
    (Action.FAIL, errno.EIO): (Kind.OPEN, Kind.READ, Kind.WRITE, Kind.SYNC),
    (Action.FAIL, errno.ENOSPC): (Kind.WRITE,),
    (Action.FAIL, errno.EMFILE): (Kind.OPEN, Kind.ACCEPT),
    (Action.FAIL, errno.EPIPE): (Kind.LOG,),
    (Action.FAIL, errno.ECONNABORTED): (Kind.ACCEPT,),
    (Action.FAIL, errno.ECONNRESET): (Kind.SEND, Kind.RECEIVE),
    (Action.STALL, 1_500): tuple(Kind),
    (Action.CUT, 0): (Kind.READ, Kind.WRITE, Kind.LOG, Kind.SEND, Kind.RECEIVE),
}
"""What is done, and to which kinds of calls."""
_MEETS: Final = [(kind, *does) for does, kinds in _FAULTS.items() for kind in kinds]

_SLOW_MS: Final = 100
"""What each call of a start is stalled for where all are, as there are hundreds."""

Meet = Callable[[Fault], Found]


@contextmanager
def one(directory: Path, library: Path) -> Iterator[Meet]:
    """A new node for each fault, so that the n-th call is the same one each time."""

    def meet(fault: Fault) -> Found:
        with (
            tempfile.TemporaryDirectory(dir=directory) as name,
            Alone(Path(name), library) as alone,
        ):
            return alone.meet(fault)

    yield meet


@contextmanager
def three(directory: Path, library: Path) -> Iterator[Meet]:
    """The same nodes for all faults, new ones after one that they did not bear."""
    with ExitStack() as stack:
        nodes: Three | None = None

        def meet(fault: Fault) -> Found:
            nonlocal nodes
            if nodes is None:
                name = stack.enter_context(tempfile.TemporaryDirectory(dir=directory))
                nodes = stack.enter_context(Three(Path(name), library))
            found = nodes.meet(fault)
            if found.wrong:
                stack.close()
                nodes = None
            return found

        yield meet


SCENARIOS: Final = {"1": one, "3": three}


class Trial:
    """All faults of one scenario."""

    def __init__(self, meet: Meet, *, every: int) -> None:
        self._meet = meet
        self._every = every
        self.met = 0
        self.failed = 0

    def run(self) -> None:
        """Try them all, and tell of each that something came of."""
        for at_start, (kind, action, value) in itertools.product((False, True), _MEETS):
            for first in itertools.count(1, self._every):
                if not self._is_met(Fault(kind, first, action, value, at_start=at_start)):
                    break
            if at_start and action is Action.STALL:
                value = _SLOW_MS
            self._is_met(Fault(kind, 1, action, value, times=FOR_EVER, at_start=at_start))

    def _is_met(self, fault: Fault) -> bool:
        found = self._meet(fault)
        is_met = found.has_met(fault)
        self.met += is_met
        # Something may be wrong before it is met, and then the calls after it are not tried.
        if found.wrong:
            self.failed += 1
            print(f"{fault}{'' if is_met else ', not met'}: {found.wrong}", flush=True)
        return is_met


def main() -> int:
    """0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--nodes", choices=SCENARIOS)
    chosen = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        if library is None:
            print("there is no C compiler to build the layer with")
            return 2
        for nodes in [chosen.nodes] if chosen.nodes else SCENARIOS:
            began_s = time.monotonic()
            with SCENARIOS[nodes](Path(name), library) as meet:
                trial = Trial(meet, every=chosen.every)
                trial.run()
            minutes = (time.monotonic() - began_s) / 60
            print(
                f"nodes: {nodes}, faults met: {trial.met}, with something wrong: {trial.failed},"
                f" minutes: {minutes:.0f}"
            )
            failed += trial.failed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
