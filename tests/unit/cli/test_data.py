# SPDX-License-Identifier: GPL-3.0-or-later
"""put, get, delete and incr as people type them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from quorate.errors import DeadlineExceeded, Outcome, QuorumUnreachable, ValueTooLarge
from tests.http_served import Served
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import ScriptedNode, dead_port, problem, reply

ALL_BYTES = bytes(range(256))


@pytest.mark.parametrize(
    "arguments",
    [
        ["put", "--key=foo", "--value=bar"],
        ["put", "foo", "bar"],
        ["set", "foo", "bar"],
        ["-value", "bar", "put", "-key", "foo"],
    ],
)
def test_put_takes_flags_or_places_and_is_also_called_set(
    arguments: list[str], run: Run, served: Served, target: str
) -> None:
    ran = run(target, *arguments)
    assert (ran.code, ran.out, ran.err) == (0, b"ok\n", "")
    assert served.store.records[b"foo"].value == b"bar"


def test_a_value_may_be_empty(run: Run, served: Served, target: str) -> None:
    assert run("put", "foo", "", target).code == 0
    assert run("put", "--key=bar", "--value=", target).code == 0
    assert served.store.records[b"foo"].value == served.store.records[b"bar"].value == b""


def test_a_value_may_come_from_standard_input(
    run: Run, served: Served, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ALL_BYTES)))
    assert run("put", "foo", "-", target).code == 0
    assert served.store.records[b"foo"].value == ALL_BYTES


def test_any_bytes_can_be_key_and_value(run: Run, served: Served, target: str) -> None:
    raw = bytes(range(1, 256))
    assert run("put", os.fsdecode(raw), os.fsdecode(raw), target).code == 0
    assert served.store.records[raw].value == raw
    assert run("get", os.fsdecode(raw), target).out == raw


@pytest.mark.parametrize("value", [b"", b"bar", b"bar\n", ALL_BYTES])
def test_get_prints_the_value_and_nothing_else(
    value: bytes, run: Run, served: Served, target: str
) -> None:
    served.store.fill(b"foo", value)
    ran = run("get", "--key=foo", target)
    assert (ran.code, ran.out, ran.err) == (0, value, "")


def test_a_missing_key_is_1(run: Run, target: str) -> None:
    ran = run("get", "foo", target)
    assert (ran.code, ran.out, ran.err) == (1, b"", "quorate: no value under 'foo'\n")


def test_unreachable_is_2_and_says_what_to_do(run: Run) -> None:
    with dead_port() as url:
        ran = run("get", "foo", f"--target={url}")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == (
        f"quorate: no answer from {url}: Connection refused;"
        " check --target or --nodes, or start a node with: quorate serve\n"
    )


def test_refused_is_3(run: Run, served: Served, target: str) -> None:
    served.store.failure = QuorumUnreachable("too few live replicas", needed=2, live=1)
    ran = run("get", "foo", target)
    assert (ran.code, ran.out) == (3, b"")
    assert ran.err == "quorate: too few live replicas (needed=2 live=1)\n"


@pytest.mark.parametrize("arguments", [["get", "foo"], ["put", "foo", "x"], ["keys"]])
def test_json_is_printed_for_a_failure_too(
    arguments: list[str], run: Run, served: Served, target: str
) -> None:
    served.store.failure = QuorumUnreachable("too few", needed=2, live=1)
    ran = run(*arguments, target, "--json")
    error = json.loads(ran.out)["error"]
    assert (ran.code, error["code"], error["needed"]) == (3, "quorum_unreachable", 2)
    assert error["retryable"] is True
    with dead_port() as url:
        ran = run(*arguments, f"--target={url}", "--json")
    assert (ran.code, json.loads(ran.out)["error"]["code"]) == (2, "unreachable")
    assert ran.err.count("\n") == 1


def test_a_read_that_was_refused_says_nothing_about_writing(
    run: Run, served: Served, target: str
) -> None:
    served.store.failure = DeadlineExceeded("too late", outcome=Outcome.NOT_APPLIED)
    ran = run("get", "foo", target)
    assert (ran.code, ran.err) == (3, "quorate: too late\n")


def test_a_write_that_can_never_succeed_is_not_called_safe_to_repeat(
    run: Run, served: Served, target: str
) -> None:
    served.store.failure = ValueTooLarge("the value is too large", outcome=Outcome.NOT_APPLIED)
    ran = run("put", "foo", "bar", target)
    assert ran.code == 3
    assert ran.err.endswith("; nothing was written\n")


@pytest.mark.parametrize("command", ["get", "put", "delete", "incr", "explain"])
def test_a_key_that_is_too_long_is_told_before_a_node_is_asked(
    command: str, run: Run, served: Served, target: str
) -> None:
    ran = run(command, "k" * 100_000, *(["v"] if command == "put" else []), target)
    assert ran.code == 2
    assert ran.err == "quorate: --key: it has 100,000 bytes: a key has at most 1,024\n"
    assert served.store.events == []


def test_a_missing_key_that_is_no_text_is_shown_as_bytes(run: Run, target: str) -> None:
    ran = run("get", os.fsdecode(b"\xff\x02'"), target)
    assert (ran.code, ran.err) == (1, "quorate: no value under '\\xff\\x02''\n")


def test_on_a_terminal_a_value_ends_its_line(
    run: Run, served: Served, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for value, shown in ((b"", b"\n"), (b"bar", b"bar\n"), (b"bar\n", b"bar\n")):
        served.store.fill(b"foo", value)
        assert run("get", "foo", target).out == shown


def test_a_standard_input_that_cannot_be_read_is_one_line_and_2(
    run: Run, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _buffer: object) -> int:
            raise IsADirectoryError(21, "Is a directory")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    ran = run("put", "foo", "-", target)
    assert (ran.code, ran.err) == (2, "quorate: standard input: Is a directory\n")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.NOT_APPLIED, "nothing was written, and trying again is safe"),
        (Outcome.UNKNOWN, "it may have been written: read the key before trying again"),
    ],
)
def test_a_failed_write_says_whether_it_may_survive(
    outcome: Outcome, said: str, run: Run, served: Served, target: str
) -> None:
    served.store.failure = DeadlineExceeded("too late", outcome=outcome)
    ran = run("put", "foo", "bar", target)
    assert (ran.code, ran.err) == (3, f"quorate: too late; {said}\n")


def test_delete_is_done_also_where_nothing_is(run: Run, served: Served, target: str) -> None:
    served.store.fill(b"foo", b"bar")
    for _ in range(2):
        assert run("delete", "foo", target).out == b"ok\n"
    assert served.store.records[b"foo"].value is None


def test_put_and_delete_may_have_a_condition(run: Run, served: Served, target: str) -> None:
    assert run("put", "foo", "a", "--if-absent", target).code == 0
    version = json.loads(run("get", "foo", "--json", target).out)["version"]
    refused = run("put", "foo", "b", "--if-absent", target)
    assert (refused.code, refused.out) == (3, b"")
    assert refused.err.startswith("quorate: there is a value under this key (version=")
    assert run("put", "foo", "b", f"--if-version={version}", target).out == b"ok\n"
    refused = run("delete", "foo", "--if-version", version, target)
    assert refused.code == 3
    assert "nothing was written" in refused.err
    assert served.store.records[b"foo"].value == b"b"


def test_incr_prints_what_the_counter_comes_to(run: Run, served: Served, target: str) -> None:
    assert run("incr", "n", target).out == b"1\n"
    assert run("incr", "n", "-8", target).out == b"-7\n"
    assert run("incr", "--key=n", "--by=10", target).out == b"3\n"
    told = json.loads(run("incr", "n", "--json", target).out)
    assert told == {"value": 4, "version": served.store.records[b"n"].version.hex(), "acks": 2}
    assert run("incr", "n", "1.5", target).err == "quorate: by: it is a whole number, such as -5\n"
    run("put", "n", "x", target)
    refused = run("incr", "n", target)
    assert refused.code == 3
    assert "not an integer" in refused.err


def test_an_increment_that_was_found_out_late_has_no_number(run: Run) -> None:
    late = reply(200, Quorate_Version="07" * 22, Quorate_Repeated="true")
    with ScriptedNode(lambda _: late) as node:
        assert run("incr", "n", f"--target={node.url}").out == b"ok\n"


def test_options_reach_the_node(run: Run, served: Served, target: str) -> None:
    run("put", "foo", "bar", "-w=3", "--ttl=1m", "--timeout=1m", target)
    run("get", "foo", "-R", "1", target)
    put, get = served.store.events
    assert (put.w, put.timeout_ms) == (3, 60_000)  # type: ignore[union-attr]
    assert put.expires_ms == served.store.now_ms + 60_000  # type: ignore[union-attr]
    assert get.r == 1  # type: ignore[union-attr]


def test_json_says_all_there_is(run: Run, served: Served, target: str) -> None:
    written = json.loads(run("put", "foo", "bar", "--json", target).out)
    assert written == {"ok": True, "version": written["version"], "acks": 2}
    found = json.loads(run("get", "foo", "--json", target).out)
    assert found == {"key": "foo", "value": "bar", "version": written["version"]}
    served.store.fill(b"foo", b"\xff")
    assert json.loads(run("get", "foo", "--json", target).out)["value"] == {"base64": "/w=="}
    missing = run("--json", "get", "absent", target)
    assert missing.code == 1
    assert json.loads(missing.out) == {"key": "absent", "value": None, "version": None}


def test_the_first_live_node_of_the_list_is_used(run: Run, served: Served) -> None:
    with dead_port() as dead:
        nodes = f"--nodes={dead},http://127.0.0.1:{served.port}"
        assert run("put", "foo", "bar", nodes).code == 0
        assert run(nodes, "get", "foo").out == b"bar"


def test_a_target_is_the_only_node_that_is_asked(run: Run) -> None:
    with dead_port() as dead, ScriptedNode() as live:
        assert run("get", "foo", f"--target={dead}", f"--nodes={live.url}").code == 2
        assert live.connections == 0


def test_the_environment_names_nodes_where_flags_do_not(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dead_port() as dead:
        monkeypatch.setenv("QUORATE_NODES", dead)
        assert run("get", "foo").code == 2
        monkeypatch.setenv("QUORATE_TARGET", f"http://127.0.0.1:{served.port}")
        assert run("get", "foo").code == 1
        assert run("get", "foo", f"--target={dead}").code == 2


def test_nonsense_from_the_other_side_is_one_line(run: Run) -> None:
    with ScriptedNode(lambda _: b"+OK\r\n\r\n\r\n") as node:
        ran = run("put", "foo", "bar", f"--target={node.url}")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "not an HTTP response" in ran.err
    assert "it may have been written" in ran.err


def test_a_refused_write_by_a_proxy_is_not_called_safe_to_repeat(run: Run) -> None:
    with ScriptedNode(lambda _: problem(502, "bad_gateway")) as node:
        ran = run("put", "foo", "bar", f"--target={node.url}")
    assert ran.code == 3
    assert "it may have been written" in ran.err


def test_get_imports_nothing_that_takes_long(served: Served) -> None:
    served.store.fill(b"foo", b"bar")
    code = (
        "import sys; from quorate.cli import main;"
        f"main(['get', 'foo', '--timeout=2s', '--nodes=http://127.0.0.1:{served.port}']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "bar"
    slow = {"aiohttp", "asyncio", "click", "email", "http", "json", "msgspec", "rich", "ssl"}
    assert not slow & set(done.stderr.split())
