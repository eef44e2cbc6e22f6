# SPDX-License-Identifier: GPL-3.0-or-later
"""What `app` decides by itself; nodes as a whole are in `tests/cluster`."""

from __future__ import annotations

import asyncio
import resource

import pytest
from structlog.testing import capture_logs

from quorate import app
from quorate.config import Config
from quorate.errors import StorageError
from quorate.runtime.process import close_in_time
from quorate.storage.memory import MemoryEngine
from quorate.storage.tuning import OPEN_FILES_MAX


@pytest.mark.parametrize(
    ("files", "wanted"),
    [(1 << 20, 10_000), (4096, 4096 - app.FILES_RESERVED), (1024, 576), (512, 128), (256, 64)],
)
def test_clients_leave_the_engine_and_the_links_their_files(
    files: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7. Where even those are too many, clients get a quarter."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert app._connections_max(Config(connections_max=10_000)) == wanted
    assert app.FILES_RESERVED >= OPEN_FILES_MAX + 64 + 128


class Failing(MemoryEngine):
    """An engine that cannot be closed well."""

    def close(self) -> None:
        raise StorageError("Input/output error")


def test_an_engine_that_fails_to_close_is_told_and_hides_no_other_error() -> None:
    assert asyncio.run(close_in_time(MemoryEngine().close, seconds=10))
    with capture_logs() as lines:
        assert not asyncio.run(close_in_time(Failing().close, seconds=10))
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("close_failed", "Input/output error")
    ]


def test_what_fails_while_starting_is_one_line() -> None:
    with pytest.raises(app.StartError, match="in use"), app._starting():
        raise StorageError("in use")
