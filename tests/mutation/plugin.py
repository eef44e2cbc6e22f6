# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest, in the process that runs the tests: `-p tests.mutation.plugin`.

With MUTATION_REACH=FILE it writes which functions of the package each test calls, and how long each
takes. With MUTATION_CHOSEN=FILE it runs the tests that the file names, a line each, in that order.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import msgspec
import pytest

import quorate
from tests.mutation.reach import Test

PACKAGE: Final = str(Path(quorate.__file__).parent) + os.sep
_REACH: Final = os.environ.get("MUTATION_REACH", "")
_CHOSEN: Final = os.environ.get("MUTATION_CHOSEN", "")

_called: dict[int, CodeType] = {}
"""By its id, which stays its own while it is kept here."""
_tests: list[Test] = []
_failed: set[str] = set()


def _note(frame: FrameType, event: str, arg: object) -> None:
    del event, arg
    code = frame.f_code
    _called[id(code)] = code


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch one test, with its fixtures."""
    if not _REACH:
        yield
        return
    _called.clear()
    begun = time.perf_counter()
    threading.settrace(_note)
    sys.settrace(_note)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)
        seconds = time.perf_counter() - begun
        ours = {
            f"{code.co_filename[len(PACKAGE) :]}:{code.co_firstlineno}"
            for code in list(_called.values())
            if code.co_filename.startswith(PACKAGE)
        }
        if item.nodeid not in _failed:
            _tests.append(Test(item.nodeid, seconds, sorted(ours)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that fails, or is left out, cannot notice anything."""
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Keep what was seen."""
    if _REACH:
        Path(_REACH).write_bytes(msgspec.json.encode(_tests))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the chosen tests, in their order."""
    if not _CHOSEN:
        return
    names = Path(_CHOSEN).read_text(encoding="utf-8").splitlines()
    by_name = {item.nodeid: item for item in items}
    chosen = [by_name[name] for name in names if name in by_name]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
