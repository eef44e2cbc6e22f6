# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose disk confirms no sync for as long as a file exists.

python -m tests.cluster.stuck_node FILE serve FLAGS...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from quorate.cli import main
from quorate.errors import StorageError
from quorate.storage.database import Database
from quorate.storage.rocks import RocksEngine


def stick_while(file: Path) -> None:
    """Patch the engine, as no file system at hand gets stuck when told to."""
    sync = RocksEngine._sync

    def stuck_sync(self: RocksEngine, rocks: Database) -> None:
        while file.exists():
            if file.read_text() == "fails":
                raise StorageError("Input/output error")
            time.sleep(0.01)
        sync(self, rocks)

    setattr(RocksEngine, "_sync", stuck_sync)  # noqa: B010


if __name__ == "__main__":
    stick_while(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
