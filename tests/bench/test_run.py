# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_row_is_measured_from_starting_the_nodes_to_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [sys.executable, "-m", "bench", "--quick", "--only=http-put", f"--output={page}"]
    command += [f"--directory={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "| HTTP PUT W=2, `os`, with a client library" in page.read_text()
    assert "## Not measured" not in page.read_text()
    assert list(tmp_path.iterdir()) == [page]


def test_what_was_measured_before_an_interruption_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [
        sys.executable,
        "-m",
        "bench",
        "--quick",
        "--only=memory-connections",
        "--only=bare-get",
    ]
    command += ["--only=limit-sync", f"--output={page}", f"--directory={tmp_path}"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "bare-get" in line:
                process.terminate()
        assert process.wait(60) == 143
    assert "- bare-get: interrupted" in page.read_text()
    assert "memory of an idle connection" in page.read_text()
    assert list(tmp_path.iterdir()) == [page]
