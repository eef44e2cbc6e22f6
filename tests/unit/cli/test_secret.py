# SPDX-License-Identifier: GPL-3.0-or-later
"""`quorate secret new`."""

from __future__ import annotations

import json
from pathlib import Path

from quorate.security.secret import load_secrets, read_secret
from tests.unit.cli.conftest import Run


def test_a_secret_is_printed_and_is_another_each_time(run: Run) -> None:
    made = [run("secret", "new") for _ in range(2)]
    assert [(each.code, each.err) for each in made] == [(0, "")] * 2
    assert len({read_secret(each.out.decode()) for each in made}) == 2
    told = json.loads(run("secret", "new", "--json").out)
    assert read_secret(told["secret"])


def test_a_secret_for_a_file_is_in_the_file_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    ran = run("secret", "new", str(path))
    assert (ran.code, ran.out, ran.err) == (0, b"", "")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(load_secrets(path)) == 1
    kept = path.read_text()
    ran = run("secret", "new", str(path))
    assert ran.code == 2
    assert "is there already" in ran.err
    assert path.read_text() == kept


def test_what_is_no_act_and_a_file_that_cannot_be_are_one_line(run: Run, tmp_path: Path) -> None:
    assert "quorate secret new" in run("secret", "old").err
    assert "quorate secret ACT" in run("secret").err
    ran = run("secret", "new", str(tmp_path / "none" / "secret"))
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "No such file" in ran.err
