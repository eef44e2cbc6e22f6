# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes whose parent was killed; with a whole `dev` in test_dev.py."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorate.cli import guardian

_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


@contextmanager
def node(*, is_stubborn: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is told to end, or killed."""
    program = f"{_STUBBORN if is_stubborn else ''}print(flush=True); signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-c", f"import signal; {program}"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_nodes_that_were_not_dropped_are_left_where_the_writer_ended_without_a_word() -> None:
    assert guardian.watch([b"+7\n", b"+8\n", b"-7\n", b"+9\n"]) == {8, 9}
    assert guardian.watch([b"+7\n", b"done\n"]) == set()
    assert guardian.watch([]) == set()


def test_what_is_left_is_asked_to_stop_even_where_it_stands_still() -> None:
    with node() as one, node() as two:
        two.send_signal(signal.SIGSTOP)
        # Until its parent has heard of its end a process is there.
        for each in (one, two):
            threading.Thread(target=each.wait).start()
        guardian.end({one.pid, two.pid})
        assert [one.wait(), two.wait()] == [-signal.SIGTERM] * 2


def test_what_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "STOP_SECONDS", 0.1)
    with node(is_stubborn=True) as stubborn:
        guardian.end({stubborn.pid})
        assert stubborn.wait() == -signal.SIGKILL


def test_a_guard_that_was_killed_itself_hinders_nobody(tmp_path: Path) -> None:
    guarding = guardian.Guardian(remove=str(tmp_path))
    guarding._process.kill()
    guarding._process.wait()
    guarding.add(2**22)
    guarding.drop(2**22)
    guarding.close()
    assert tmp_path.is_dir()


def test_a_directory_is_left_where_all_nodes_were_stopped_in_order(tmp_path: Path) -> None:
    guarding = guardian.Guardian(remove=str(tmp_path))
    guarding.add(2**22)
    guarding.close()
    assert tmp_path.is_dir()
