# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate backup: every key in one file, gone on with after an interruption, or why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quorate.cli import patience
from quorate.cli.archive import ArchivedKey, ArchiveReader
from quorate.core.values.events import Get, Scan
from quorate.errors import QuorumUnreachable
from tests.http_served import Served
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import Answer, Request, ScriptedNode, dead_port, problem, reply

FUTURE_MS = 1_900_000_000_000
METRICS = reply(200, b'quorate_node_info{version="1",cluster="c",url="u",id="i"} 1\n')


pytestmark = pytest.mark.usefixtures("impatient")


def archived(path: str) -> dict[bytes, ArchivedKey]:
    with open(path, "rb") as file:
        reader = ArchiveReader(file, path)
        keys = [key for chunk in reader.chunks() for key in chunk.keys]
    assert len(keys) == len({each.key for each in keys})
    return {each.key: each for each in keys}


def fill(served: Served, count: int, *, value: bytes = b"v") -> None:
    for number in range(count):
        served.store.fill(b"k%04d" % number, value)


def paged(pages: list[dict[str, Any]]) -> Answer:
    """A node with these pages, of which the last goes on being said."""
    said: Iterator[dict[str, Any]] = iter(pages)
    last = pages[0]

    def answer(request: Request) -> bytes:
        if request.target == "/nodes":
            return reply(200, b'[{"id": "0123456789ab"}, {"id": ""}]')
        if request.target == "/metrics":
            return METRICS
        if request.target.startswith("/keys"):
            nonlocal last
            last = next(said, last)
            return reply(200, json.dumps(last).encode())
        if request.target.startswith("/batch"):
            operations = json.loads(request.body)["operations"]
            results = [{"key": each["key"], "status": 404} for each in operations]
            return reply(200, json.dumps({"results": results}).encode())
        return problem(404, "not_found")

    return answer


def saying(body: bytes) -> Answer:
    """No node, but something that answers so."""
    return lambda _: reply(200, body)


def test_each_key_is_in_it_with_value_version_and_expiry(
    run: Run, served: Served, target: str, path: str
) -> None:
    written = {
        b"text": (b"value", 0),
        b"\xff\n": (b"\0\xfe\n", FUTURE_MS),
        b"empty": (b"", 0),
        "ключ".encode(): ("значение".encode(), FUTURE_MS + 1),
    }
    versions = {}
    for key, (value, expires_ms) in written.items():
        versions[key] = served.store.fill(key, value, expires_ms=expires_ms).version
    served.store.fill(b"deleted", None)
    served.store.fill(b"expired", b"x", expires_ms=1)
    ran = run("backup", path, target)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.decode().startswith(f"{path}: 4 keys, ")
    assert archived(path) == {
        key: ArchivedKey(key, value, expires_ms, versions[key])
        for key, (value, expires_ms) in written.items()
    }


def test_it_tells_programs_what_it_wrote(run: Run, served: Served, target: str, path: str) -> None:
    fill(served, 3)
    told = json.loads(run("backup", path, target, "--json").out)
    assert told["began_ms"] <= told.pop("ended_ms")
    del told["began_ms"]
    size = Path(path).stat().st_size
    assert told == {"archive": path, "cluster": "quorate", "keys": 3, "bytes": size}


def test_one_prefix_alone(run: Run, served: Served, target: str, path: str) -> None:
    fill(served, 3)
    served.store.fill(b"app:1", b"x")
    ran = run("backup", path, "--prefix=app:", target)
    assert b"1 key that begin with 'app:'" in ran.out
    assert list(archived(path)) == [b"app:1"]


def test_pages_and_answers_that_are_full_make_chunks(
    run: Run, served: Served, target: str, path: str
) -> None:
    """30 values of 1 MiB do not fit into one answer, and the next page is smaller."""
    fill(served, 30, value=b"v" * (1 << 20))
    assert run("backup", path, target).code == 0
    assert len(archived(path)) == 30
    with open(path, "rb") as file:
        reader = ArchiveReader(file, path)
        sizes = [len(chunk.keys) for chunk in reader.chunks()]
    assert sum(sizes) == 30
    assert max(sizes) < 30


def test_an_interrupted_one_is_gone_on_with(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(served, 2500)
    answer, scans = served.store._scan, 0

    def scan(event: Scan) -> Any:
        nonlocal scans
        scans += 1
        return QuorumUnreachable("gone", needed=2, live=1) if scans > 2 else answer(event)

    monkeypatch.setattr(served.store, "_scan", scan)
    ran = run("backup", path, target)
    assert ran.code == 3
    assert "; asking again, for 0.3 s at most" in ran.err
    assert f"{path} has 2,000 keys so far; the same command goes on from there" in ran.err
    before = archived_so_far(path)

    monkeypatch.setattr(served.store, "_scan", answer)
    served.store.events.clear()
    served.store.fill(min(before), b"a later value")
    ran = run("backup", path, target)
    assert ran.code == 0
    assert f"{path}: goes on behind 2,000 keys; it was begun " in ran.err
    assert sum(type(each) is Get for each in served.store.events) == 501  # One is for the label.
    assert len(archived(path)) == 2500
    assert archived(path)[min(before)].value == b"v"
    assert run("backup", path, target).err == (
        f"quorate: {path}: it is whole already, with 2,500 keys; name another file\n"
    )


def archived_so_far(path: str) -> list[bytes]:
    found: list[bytes] = []
    with open(path, "rb") as file:
        chunks = ArchiveReader(file, path).chunks()
        for _ in range(2):
            found += [each.key for each in next(chunks).keys]
    return found


def test_a_key_that_cannot_be_read_is_named_and_ends_it(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(served, 20)
    answer = served.store._get

    def get(event: Get) -> Any:
        return QuorumUnreachable("gone") if event.key == b"k0007" else answer(event)

    monkeypatch.setattr(served.store, "_get", get)
    ran = run("backup", path, target)
    assert ran.code == 3
    assert ran.err.splitlines()[-1] == "quorate: key 'k0007': gone"


def test_a_page_that_may_lack_a_key_is_asked_for_again(run: Run, path: str) -> None:
    short = {"keys": ["a"], "cursor": None, "complete": False}
    whole = {"keys": ["a", "b"], "cursor": None, "complete": True}
    with ScriptedNode(paged([short, whole])) as node:
        ran = run("backup", path, f"--target={node.url}")
    assert ran.code == 0
    with ScriptedNode(paged([short])) as node:
        ran = run("backup", f"{path}2", f"--target={node.url}")
    assert ran.code == 3
    assert "keys may be missing" in ran.err.splitlines()[-1]


def test_empty_pages_lead_on(run: Run, path: str) -> None:
    pages: list[dict[str, Any]] = [
        {"keys": [], "cursor": "1", "complete": True},
        {"keys": [], "cursor": None, "complete": True},
    ]
    with ScriptedNode(paged(pages)) as node:
        ran = run("backup", path, f"--target={node.url}")
        targets = [each.target for each in node.requests if each.target.startswith("/keys")]
    assert ran.code == 0
    assert [("cursor=1" in each) for each in targets] == [False, True]
    assert archived(path) == {}


def test_reads_that_may_be_stale_are_warned_of(run: Run, target: str, path: str) -> None:
    ran = run("backup", path, "--R=1", target)
    assert ran.code == 0
    assert "may miss the newest write" in ran.err


def test_all_is_read_of_as_many_replicas_as_are_asked_for(
    run: Run, served: Served, target: str, path: str
) -> None:
    fill(served, 3)
    assert run("backup", path, "--R=3", target).code == 0
    asked = [each for each in served.store.events if isinstance(each, Get | Scan)]
    assert {type(each) for each in asked} == {Get, Scan}
    assert {each.r for each in asked} == {3}


def test_more_replicas_than_there_are_are_refused_and_leave_no_file(
    run: Run, target: str, path: str
) -> None:
    ran = run("backup", path, "--R=4", target)
    assert (ran.code, "r is more than there are replicas" in ran.err) == (3, True)
    assert not Path(path).exists()


def test_what_is_no_node_and_who_is_not_there_leave_no_file(run: Run, path: str) -> None:
    for body, said in (
        (b"hello", "the answer is no JSON"),
        (b"{}", "it does not say which cluster"),
        (b"[5]", "it does not say which cluster"),
        (b'[{"id": "0123456789ab"}]', "it does not say which cluster"),
    ):
        with ScriptedNode(saying(body)) as node:
            ran = run("backup", path, f"--target={node.url}")
        assert (ran.code, said in ran.err) == (3, True)
    with dead_port() as url:
        ran = run("backup", path, f"--target={url}")
    assert (ran.code, "no answer from" in ran.err) == (2, True)
    assert not Path(path).exists()


@pytest.mark.parametrize("name", ["", "missing/a"])
def test_a_file_that_cannot_be_made_is_named(
    run: Run, target: str, tmp_path: Path, name: str
) -> None:
    where = str(tmp_path / name)
    ran = run("backup", where, target)
    assert (ran.code, ran.err.startswith(f"quorate: {where}: ")) == (2, True)


def test_after_an_interrupt_it_says_how_it_goes_on(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(served, 10)

    monkeypatch.setattr("quorate.cli.backup.read_keys", _interrupted)
    ran = run("backup", path, target)
    assert ran.code == 130
    assert ran.err == f"quorate: {path} has 0 keys so far; the same command goes on from there\n"


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_pace_is_kept(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(served, 100)
    pauses: list[float] = []
    clock = SimpleNamespace(sleep=pauses.append, monotonic=lambda: 7.0 + sum(pauses))
    monkeypatch.setattr(patience, "time", clock)
    assert run("backup", path, "--rate=200", target).code == 0
    assert pauses == pytest.approx([0, 0.1, 0.1, 0.1, 0.1])
    ran = run("backup", path, "--rate=quick", target)
    assert (ran.code, "is no rate" in ran.err) == (2, True)
