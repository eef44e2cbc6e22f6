# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that tells with each SIGUSR1 which modules it has entered since the one before.

python -m tests.cluster.traced_node DIRECTORY serve FLAGS...
"""

from __future__ import annotations

import signal
import sys
import threading
from itertools import count
from pathlib import Path
from types import FrameType

import quorate
from quorate.cli import main


def trace_into(directory: Path) -> None:
    """Write the first telling into the file `1`, a line for each module, and so on."""
    entered: set[str] = set()
    numbers = count(1)
    root = Path(quorate.__file__).parent

    def enter(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.add(frame.f_code.co_filename)

    def tell(*_: object) -> None:
        paths = [Path(name) for name in entered.copy()]
        entered.clear()
        modules = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
        part = directory / "part"
        part.write_text("".join(f"{module.with_suffix('').as_posix()}\n" for module in modules))
        part.rename(directory / str(next(numbers)))

    signal.signal(signal.SIGUSR1, tell)
    threading.setprofile(enter)
    sys.setprofile(enter)


if __name__ == "__main__":
    trace_into(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
