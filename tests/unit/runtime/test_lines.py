# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the log on pipes that are read, are not read, and have no reader."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import pytest

from quorate.runtime.lines import BYTES_MAX, LINES_MAX, LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading end, which a test may close, and its writing end, as small as can be."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    with contextlib.suppress(OSError):
        os.close(reader)
    os.close(writer)


def read_lines(reader: int, *, until: bytes) -> list[bytes]:
    """Lines up to that one."""
    text = b""
    while not text.endswith(until + b"\n"):
        text += os.read(reader, 65536)
    return text.splitlines()


def test_lines_come_in_order_and_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = LineWriter(writer)
    sent = ["x" * 10_000, *map(str, range(1000)), "\udcff"]
    for each in sent:
        lines.info(each)
    assert read_lines(reader, until=b"\\udcff") == [
        each.encode(errors="backslashreplace") for each in sent
    ]
    assert lines.flush(seconds=10)
    assert lines.lost == 0


@pytest.mark.parametrize(("line", "fit"), [("short", LINES_MAX), ("x" * 65_535, BYTES_MAX >> 16)])
def test_on_a_pipe_that_nobody_reads_what_does_not_fit_is_lost_and_nobody_waits(
    line: str, fit: int, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    lines = LineWriter(writer)
    lines.info("x" * 8192)  # The thread waits with this one.
    for _ in range(fit + 1_000):
        lines.info(line)
    assert lines.lost == 1_000 + 1
    assert not lines.flush(seconds=0.01)
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        lines.warning("lost")

    lines.tell_lost = tell
    lines.critical("why it ends")
    found = read_lines(reader, until=b"lost")
    assert len(found) == 1 + (fit - 1) + 2
    assert found[-2:] == [b"why it ends", b"lost"]
    assert told == [1_001]


def test_without_a_reader_lines_are_lost_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    lines = LineWriter(writer)
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(lines, level)("told")
    assert lines.flush(seconds=10)
    assert lines.lost == 5


def test_a_descriptor_that_does_not_wait_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    lines = LineWriter(writer)
    for number in range(5_000):
        lines.info(str(number))
    assert len(read_lines(reader, until=b"4999")) == 5_000
    assert lines.flush(seconds=10)
    assert lines.lost == 0
