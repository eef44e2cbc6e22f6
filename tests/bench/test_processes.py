# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.processes import Process, ProcessFailed, cpu_seconds, resident_bytes, wait_for
from bench.systems import Running

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'while True: pass'])"
WAIT = "; import time; time.sleep(600)"


def python(code: str, directory: Path) -> Process:
    return Process([sys.executable, "-c", code], log=directory / "log")


def test_leaving_a_store_ends_its_processes(tmp_path: Path) -> None:
    with Running([]) as running:
        running.processes.append(python("pass" + WAIT, tmp_path))
        assert running.processes[0].exit_code is None
    assert running.processes[0].exit_code is not None


def test_a_process_that_does_not_heed_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.processes.STOP_SECONDS", 0.1)
    process = python(DEAF + WAIT, tmp_path)
    wait_for(lambda: "deaf" in process.log.read_text(), [process], what="deafness")
    process.stop()
    assert process.exit_code == -9


def test_waiting_for_what_died_tells_its_last_words(tmp_path: Path) -> None:
    process = python("import sys; sys.exit('no room left')", tmp_path)
    with pytest.raises(ProcessFailed, match="no room left"):
        wait_for(lambda: False, [process], what="never")


def test_a_process_is_charged_with_what_its_children_use(tmp_path: Path) -> None:
    process = python(PARENT + WAIT, tmp_path)
    try:
        wait_for(lambda: cpu_seconds([process.pid]) > 0.3, [process], what="the child's work")
        assert resident_bytes(process.pid) > 1 << 20
    finally:
        process.kill()
