# SPDX-License-Identifier: GPL-3.0-or-later
"""Which command is meant, and mistakes answered with one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quorate.cli.commands import BY_NAME
from quorate.core import node
from tests.unit.cli.conftest import Run


def test_set_is_put_and_del_is_delete() -> None:
    assert BY_NAME["set"].name == "put"
    assert BY_NAME["del"].name == "delete"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["xyzzy"], "no such command: xyzzy; see quorate --help"),
        (["gett", "x"], "no such command: gett; did you mean get?"),
        (["get", "x", "--tagret=a:1"], "no such option: --tagret; did you mean --target?"),
        (["get", "x", "--time=1s"], "no such option: --time; did you mean --timeout?"),
        (["get"], "get: no key"),
        (["get", "a", "b"], "get: one argument too many: 'b'"),
        (["put", "a"], "put: no value: use - to read the value from standard input"),
        (["nodes", "extra"], "nodes: it takes flags alone, and 'extra' is no flag"),
        (["get", "--key"], "--key needs a value"),
        (["GET", "x"], "no such command: GET; did you mean get?"),
        (["get", "x", "--target="], "--target: it is empty: give it a value, or leave it out"),
        (["get", "x", "--nodes=,"], "--nodes: ',' names no node"),
        (["serve", "-nodes="], "-nodes: it is empty: give it a value, or leave it out"),
        (["dev", "--dir="], "--dir: it is empty"),
        (["bench", "--value-bytes=1GB"], "--value-bytes: 1GB is too large: the most is 16MiB"),
        (["sim", "--out=x.json"], "--out: it is what --shrink writes: add --shrink"),
        (["sim", "--shrink", "--out=/nowhere/x"], "--out: there is no directory /nowhere"),
        (["get", "x", "--json=maybe"], "--json takes no value"),
        (["get", "x", "--target=nonsense"], "--target: 'nonsense' has no port"),
        (["get", "x", "--nodes=ftp://a:1"], "--nodes: 'ftp://a:1': only http"),
        (["get", "x", "--timeout=5"], "--timeout: 5 has no unit: write 5s or 5ms"),
        (["get", "x", "--timeout=0s"], "--timeout: must be more than nothing"),
        (["get", "x", "--R=two"], "--R: 'two' is no whole number from 1 up"),
        (["put", "x", "y", "--W=0"], "--W: '0' is no whole number from 1 up"),
        (["put", "x", "y", "--ttl=1.5"], "--ttl: '1.5' is no time in whole seconds"),
        (["get", "foo", "--flub"], "no such option: --flub"),
        (["nodes", "--flub"], "no such option: --flub"),
        (["serve", "--port"], "--port needs a value"),
        (["serve", "--prot=1"], "quorate: --prot: no such flag; did you mean --port?"),
        (["serve", "-prot=1"], "quorate: -prot: no such flag; did you mean -port?"),
        (["get", ""], "--key: it is empty"),
        (["put", "", "x"], "--key: it is empty"),
        (["del", ""], "--key: it is empty"),
        (["explain", ""], "--key: it is empty"),
        (["ring", ""], "--key: it is empty"),
        (["help", "gett"], "no such command: gett; did you mean get?"),
        (["keys", "--limit=-1"], "--limit: '-1' is no whole number"),
        (["serve", "extra"], "serve: it takes flags alone, and 'extra' is no flag"),
        (["dev", "--nodes-count=99"], "--nodes-count: 99 is too large: the most is 16"),
        (["dev", "--base-port=65535"], "--base-port: ports end at 65535"),
        (["bench", "--protocol=smtp"], "--protocol: 'smtp' is neither resp nor http"),
        (["bench", "--reads=2"], "--reads: '2' is no share from 0 to 1"),
        (["bench", "--duration=5"], "--duration: 5 has no unit"),
        (["bench", "--value-bytes=x"], "--value-bytes: 'x' is no size"),
        (["bench", "--protocol=http", "--wait=1"], "--wait: only Redis has WAIT"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy_and_exit_code_2(
    arguments: list[str], said: str, run: Run
) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert said in ran.err
    assert ran.err.startswith("quorate: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["get", "x", "--flub"], "usage", "no such option: --flub"),
        (["get", "--target=nonsense", "x"], "usage", "--target: 'nonsense' has no port"),
        (["gett"], "usage", "no such command: gett"),
        (["serve", "-W=0"], "settings", "-W: 0 is too small"),
    ],
)
def test_json_is_printed_for_a_mistake_too(
    arguments: list[str], code: str, said: str, run: Run
) -> None:
    ran = run("--json", *arguments)
    assert ran.code == 2
    error = json.loads(ran.out)["error"]
    assert error.keys() == {"code", "detail", "outcome", "retryable"}
    assert (error["code"], error["retryable"]) == (code, False)
    assert error["detail"].startswith(said)
    assert ran.err == f"quorate: {error['detail']}\n"


@pytest.mark.parametrize("command", [["serve"], []])
def test_all_faults_of_the_settings_are_shown_one_line_each_and_nothing_starts(
    command: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*command, "-prot=1", "-W=9", "-R=0", "-engine=mysql", "-hb", "2")
    assert (ran.code, ran.out) == (2, b"")
    lines = ran.err.splitlines()
    assert len(lines) == 5
    for name in ("-prot: ", "-W: ", "-R: ", "-engine: ", "-hb: "):
        assert any(line.startswith(f"quorate: {name}") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_version_is_a_command_and_a_flag(run: Run) -> None:
    assert run("version").out == run("--version").out
    assert run("--version", "--json").out.startswith(b'{"version": ')


def test_version_tells_whether_the_node_is_compiled(run: Run) -> None:
    is_compiled = not node.__file__.endswith(".py")
    assert json.loads(run("version", "--json").out)["compiled"] is is_compiled
    assert (b"plain Python" in run("version").out) is not is_compiled
