# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands run in this process against a real HTTP door with a make-believe store behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from quorate.cli import main, patience
from tests.fake_store import FakeStore
from tests.http_served import Served


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: bytes
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line: `run("get", "foo")`. The environment says nothing of ours."""
    for variable in [name for name in os.environ if name.startswith("QUORATE_")]:
        monkeypatch.delenv(variable)

    def run(*arguments: str) -> Ran:
        capsysbinary.readouterr()
        code = main(arguments)
        captured = capsysbinary.readouterr()
        return Ran(code, captured.out, captured.err.decode())

    return run


@pytest.fixture(scope="session")
def _served() -> Iterator[Served]:
    with Served(FakeStore()) as served:
        yield served


@pytest.fixture
def served(_served: Served) -> Iterator[Served]:
    """The HTTP door over an empty store. What it logs is no output of a command's."""
    _served.reset()
    with capture_logs():
        yield _served


@pytest.fixture
def target(served: Served) -> str:
    """The flag that leads to the door."""
    return f"--target=http://127.0.0.1:{served.port}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that go on after an outage wait for it a moment, and no longer."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", (0.01, 0.02))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where an archive may be."""
    return str(tmp_path / "a")
