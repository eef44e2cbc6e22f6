# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate restore: what an archive has is written as it was, or a line says why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from quorate.cli import restore
from quorate.cli.archive import ArchiveChunk, ArchivedKey, ArchiveHeader, ArchiveWriter
from quorate.cli.patience import Found, KeyRate, read_keys
from quorate.client.blocking import Client
from quorate.client.calls import BatchPut
from quorate.core.values.events import Put, Update
from quorate.doors.http import batch
from quorate.errors import InvalidRequest, Outcome, QuorumUnreachable
from tests.http_served import Served
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import CUT, ScriptedNode, dead_port

FUTURE_MS = 1_900_000_000_000
VERSION = bytes(13) + b"\1"


pytestmark = pytest.mark.usefixtures("impatient")


def key(key: bytes, value: bytes = b"v", expires_ms: int = 0) -> ArchivedKey:
    return ArchivedKey(key, value, expires_ms, VERSION)


def archive(path: str, *chunks: Iterable[ArchivedKey], prefix: bytes = b"") -> None:
    with ArchiveWriter(path, ArchiveHeader("quorate", ["a"], prefix, 1)) as writer:
        for each in chunks:
            writer.add(ArchiveChunk(list(each), ""))
        writer.finish()


def stored(served: Served) -> dict[bytes, tuple[bytes | None, int]]:
    records = served.store.records.items()
    return {key: (record.value, record.expires_ms) for key, record in records}


def puts(served: Served) -> int:
    return sum(type(each) in (Put, Update) for each in served.store.events)


def written_meanwhile(served: Served, patch: pytest.MonkeyPatch, *names: bytes) -> None:
    """Have a client write these keys after each look of the restore at what is there."""
    look = read_keys

    def looking(*given: Any, **named: Any) -> Found:
        found = look(*given, **named)
        for name in names:
            served.store.fill(name, b"client's")
        return found

    patch.setattr(restore, "read_keys", looking)


def test_each_key_is_written_byte_for_byte_with_its_expiry(
    run: Run, served: Served, target: str, path: str
) -> None:
    written = {
        b"text": (b"value", 0),
        b"\xff\n": (b"\0\xfe\n", FUTURE_MS),
        b"empty": (b"", 0),
        "ключ".encode(): ("значение".encode() * 1000, FUTURE_MS + 1),
    }
    archive(path, [key(name, *each) for name, each in written.items()])
    ran = run("restore", path, target)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.decode() == f"{path}: wrote 4 keys (16.0 kB), of 4 keys\n"
    assert stored(served) == written


@pytest.mark.parametrize("byte", [b"\0", b'"', b"\xff", b"a", "é".encode()])
def test_the_largest_values_of_any_bytes_fit(
    run: Run, served: Served, target: str, path: str, byte: bytes
) -> None:
    """A zero byte is six characters of JSON."""
    value = byte * (served.store.config.value_bytes_max // len(byte))
    archive(path, [key(b"k", value), key(b"\0" * 1024, b"v"), *[key(b"%d" % n) for n in range(9)]])
    assert run("restore", path, target).code == 0
    assert stored(served)[b"k"] == (value, 0)
    assert len(stored(served)) == 11


def test_thousands_of_keys_are_written_in_portions(
    run: Run, served: Served, target: str, path: str
) -> None:
    names = [b"\0" * 900 + b"%04d" % number for number in range(2500)]
    archive(path, [key(each) for each in names])
    assert run("restore", path, target).code == 0
    assert set(stored(served)) == set(names)


def test_what_the_cluster_has_is_kept_unless_it_is_to_be_replaced(
    run: Run, served: Served, target: str, path: str
) -> None:
    archive(path, [key(b"a", b"old"), key(b"b", b"old"), key(b"c", b"old")])
    served.store.fill(b"a", b"newer")
    served.store.fill(b"b", None)  # Deleted since: what a restore is mostly for.
    ran = run("restore", path, target)
    told = f"{path}: wrote 2 keys (8 B), kept 1 that the cluster has, of 3 keys\n"
    assert (ran.code, ran.out.decode()) == (0, told)
    assert [stored(served)[each][0] for each in (b"a", b"b", b"c")] == [b"newer", b"old", b"old"]
    ran = run("restore", path, "--existing=replace", target)
    assert (ran.code, ran.out.decode()) == (0, f"{path}: wrote 3 keys (12 B), of 3 keys\n")
    assert stored(served)[b"a"][0] == b"old"
    ran = run("restore", path, "--existing=merge", target)
    assert (ran.code, "write keep or replace" in ran.err) == (2, True)


def test_what_is_kept_is_counted_over_all_portions_each_of_which_waits_for_its_turn(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(KeyRate, "wait", lambda _, count: counts.append(count))
    served.store.fill(b"a", b"v")
    served.store.fill(b"b", b"v")
    archive(path, [key(b"a")], [key(b"b"), key(b"c")])
    ran = run("restore", path, target)
    assert b": wrote 1 key (2 B), kept 2 that the cluster has, of 3 keys\n" in ran.out
    assert counts == [1, 2]


def test_what_a_client_writes_after_the_look_is_kept(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(path, [key(b"a", b"old", FUTURE_MS), key(b"b", b"old", FUTURE_MS)])
    written_meanwhile(served, monkeypatch, b"b")
    ran = run("restore", path, target)
    assert (ran.code, ran.err) == (0, "")
    assert b": wrote 1 key (4 B), kept 1 that the cluster has, of 2 keys\n" in ran.out
    assert stored(served) == {b"a": (b"old", FUTURE_MS), b"b": (b"client's", 0)}


def test_where_read_modify_writes_are_refused_keys_are_written_as_before_and_it_is_said(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "a read-modify-write needs a majority, and -W is set to less"
    refused = InvalidRequest(reason, outcome=Outcome.NOT_APPLIED, given=1, needed=2)
    monkeypatch.setattr(served.store, "_update", lambda _: refused)
    archive(path, *[[key(b"%d%d" % (chunk, n)) for n in range(20)] for chunk in range(3)])
    ran = run("restore", path, target)
    assert (ran.code, len(stored(served))) == (0, 60)
    assert ran.err.splitlines() == [
        f"quorate: {reason}: a client's write of a key between the look whether it is there and the"
        " write here is written over"
    ]
    assert sum(type(each) is Update for each in served.store.events) == 20, "asked for once"


def test_a_cluster_that_cannot_write_only_where_none_is_is_told_of_in_one_line(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Before(msgspec.Struct, forbid_unknown_fields=True):
        op: str
        key: str
        value: str | msgspec.UnsetType = msgspec.UNSET
        ttl: int | msgspec.UnsetType = msgspec.UNSET
        expires_ms: int | msgspec.UnsetType = msgspec.UNSET
        if_absent: ClassVar[msgspec.UnsetType] = msgspec.UNSET

    body = msgspec.defstruct("Body", [("operations", list[Before])])
    monkeypatch.setattr(batch, "_decoder", msgspec.json.Decoder(body))
    archive(path, [key(b"a"), key(b"b")])
    ran = run("restore", path, target)
    assert (ran.code, puts(served)) == (3, 0)
    *_, told = ran.err.splitlines()
    assert told.startswith("quorate: the cluster is of a release that cannot")
    assert "--existing=replace" in told
    assert "key 'a'" not in ran.err


def test_who_says_how_many_replicas_have_to_have_it_writes_as_before(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-modify-write takes no W."""
    archive(path, [key(b"a", b"old")])
    written_meanwhile(served, monkeypatch, b"a")
    ran = run("restore", path, "--W=3", target)
    assert (ran.code, ran.err) == (0, "")
    assert stored(served)[b"a"][0] == b"old"
    (put,) = [each for each in served.store.events if type(each) is Put]
    assert put.w == 3


def test_a_dry_run_writes_nothing_and_says_what_would_be(
    run: Run, served: Served, target: str, path: str
) -> None:
    archive(path, [key(b"a"), key(b"b", b"x" * 10), key(b"gone", b"x", 1)])
    served.store.fill(b"a", b"there")
    ran = run("restore", path, "--dry-run", target)
    origin, told = ran.out.decode().splitlines()
    assert origin.startswith(
        f"{path}: 3 keys of cluster quorate, each as it was at some time between 1970-01-01 "
    )
    assert told == (
        f"{path}: would write 1 key (11 B), kept 1 that the cluster has, left out 1 that have"
        " expired, of 3 keys"
    )
    figures = json.loads(run("restore", path, "--dry-run", "--json", target).out)
    assert figures == {
        "archive": path,
        "keys": 3,
        "written": 1,
        "bytes": 11,
        "kept": 1,
        "expired": 1,
        "failed": 0,
    }
    assert puts(served) == 0


def test_one_prefix_alone(run: Run, served: Served, target: str, path: str) -> None:
    archive(path, [key(b"app:1"), key(b"other")], [key(b"app:2")], prefix=b"")
    ran = run("restore", path, "--prefix=app:", target)
    assert ran.out.decode() == f"{path}: wrote 2 keys (12 B), of 2 keys\n"
    assert set(stored(served)) == {b"app:1", b"app:2"}
    archive(f"{path}2", [key(b"app:1")], prefix=b"app:")
    assert run("restore", f"{path}2", "--prefix=a", target).code == 0
    ran = run("restore", f"{path}2", "--prefix=b", target)
    assert (ran.code, "only keys that begin with 'app:'" in ran.err) == (2, True)


def test_a_damaged_or_cut_archive_is_refused_before_anything_is_written(
    run: Run, served: Served, target: str, path: str
) -> None:
    archive(path, [key(b"a")], [key(b"b")])
    content = Path(path).read_bytes()
    for changed, said in (
        (content[:-1], "cut short: it has 2 whole chunks of 2 keys and no end"),
        (content[:-1] + b"\xff", "behind 2 whole chunks of 2 keys"),
        (b"tar" + content, "not an archive of quorate backup; nothing was done"),
    ):
        Path(path).write_bytes(changed)
        for flags in ((), ("--dry-run",), ("--json",)):
            ran = run("restore", path, target, *flags)
            assert (ran.code, ran.err.count("\n"), said in ran.err) == (2, 1, True)
    assert json.loads(ran.out)["error"]["code"] == "archive"
    assert served.store.events == []


def test_a_time_that_no_calendar_has_is_no_crash(run: Run, target: str, path: str) -> None:
    with ArchiveWriter(path, ArchiveHeader("\x1b[2J", ["a"], b"", 1 << 62)) as writer:
        writer.finish()
    ran = run("restore", path, "--dry-run", target)
    assert ran.code == 0
    assert b"of cluster \\x1b[2J, each as it was at some time between None and 20" in ran.out


@pytest.mark.parametrize("name", ["", "missing"])
def test_an_archive_that_cannot_be_read_is_named(run: Run, tmp_path: Path, name: str) -> None:
    where = str(tmp_path / name)
    ran = run("restore", where)
    assert (ran.code, ran.err.startswith(f"quorate: {where}: ")) == (2, True)


def test_a_key_that_the_cluster_refuses_is_counted_and_the_others_are_written(
    run: Run, served: Served, target: str, path: str
) -> None:
    large = b"x" * (served.store.config.value_bytes_max + 1)
    archive(path, [key(b"a"), key(b"large", large), key(b"b")])
    ran = run("restore", path, target)
    assert ran.code == 3
    assert ran.err.startswith("quorate: key 'large': ")
    assert ran.out.decode() == f"{path}: wrote 2 keys (4 B), failed with 1, of 3 keys\n"
    assert set(stored(served)) == {b"a", b"b"}


def test_each_key_is_counted_once_though_one_is_refused_and_another_tried_again(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [QuorumUnreachable("too few")]

    def failing(answer: Callable[[Any], Any], event: Update) -> Any:
        return refusals.pop() if event.key == b"c" and refusals else answer(event)

    monkeypatch.setattr(served.store, "_update", partial(failing, served.store._update))
    config = msgspec.structs.replace(served.store.config, value_bytes_max=9)
    monkeypatch.setattr(served.store, "config", config)
    archive(path, [key(b"large", bytes(10)), *map(key, (b"a", b"b", b"c"))])
    ran = run("restore", path, "--json", target)
    told = json.loads(ran.out)
    figures = {name: told[name] for name in ("keys", "written", "kept", "expired", "failed")}
    assert figures == {"keys": 4, "written": 3, "kept": 0, "expired": 0, "failed": 1}
    assert not refusals
    assert (ran.code, ran.err.count("key 'large'")) == (3, 1)


def test_a_refused_key_among_many_is_found_in_few_requests(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def counted(client: Client, puts: Sequence[BatchPut], **given: Any) -> Any:
        batches.append(len(puts))
        return sent(client, puts, **given)

    sent = Client.batch
    archive(path, [*[key(b"%d" % n) for n in range(500)], key(b"x" * 1025)])
    monkeypatch.setattr(Client, "batch", counted)
    ran = run("restore", path, "--existing=replace", target)
    assert (ran.code, len(stored(served))) == (3, 500)
    assert "wrote 500 keys" in ran.out.decode()
    assert len(batches) < 25


def test_what_cannot_be_written_now_is_tried_again_and_in_the_end_told(
    run: Run, served: Served, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def failing(answer: Callable[[Any], Any], event: Put | Update) -> Any:
        nonlocal tries
        tries += event.key == b"k7"
        refused = QuorumUnreachable("too few")
        return refused if event.key == b"k7" and tries <= refusals else answer(event)

    for name in ("_put", "_update"):
        patched = partial(failing, getattr(served.store, name))
        monkeypatch.setattr(served.store, name, patched)
    archive(path, [key(b"k%d" % number) for number in range(20)])
    refusals = 3
    assert run("restore", path, target).code == 0
    assert len(stored(served)) == 20
    refusals = 10**9
    ran = run("restore", path, "--existing=replace", target)
    assert ran.code == 3
    assert "wrote 19 keys (67 B) so far, of 20 keys; the same command begins again" in ran.err
    assert ran.err.splitlines()[-1].startswith("quorate: too few")


def test_a_node_that_is_not_there_is_told_of_at_once(run: Run, path: str) -> None:
    archive(path, [key(b"a")])
    with dead_port() as url:
        ran = run("restore", path, f"--target={url}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_a_cluster_that_goes_away_is_waited_for_a_while(run: Run, path: str) -> None:
    archive(path, [key(b"a")])
    with ScriptedNode(lambda _: CUT) as node:
        ran = run("restore", path, f"--target={node.url}", "--existing=replace")
        assert len(node.requests) > 3
    assert ran.code == 2
    assert "asking again, for 0.3 s at most" in ran.err
    assert "wrote 0 keys (0 B) so far, of 1 key" in ran.err


def test_after_an_interrupt_it_says_what_was_written(
    run: Run, target: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(restore, "read_keys", interrupted)
    archive(path, [key(b"a")])
    ran = run("restore", path, target)
    assert (ran.code, ran.err.count("\n")) == (130, 1)
    assert "wrote 0 keys (0 B) so far, of 1 key; the same command begins again" in ran.err
