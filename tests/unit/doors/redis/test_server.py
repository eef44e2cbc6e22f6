# SPDX-License-Identifier: GPL-3.0-or-later
"""INFO, CONFIG GET, TIME, DBSIZE, WAIT."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from quorate.config import Config
from quorate.core.values.events import PutResult, UpdateResult
from quorate.doors.redis import server
from quorate.doors.redis.server import SECTIONS
from quorate.errors import QuorumUnreachable
from tests.fake_store import NODES
from tests.unit.doors.redis.turns import Client, TurnStore


def info(client: Client, *sections: str) -> dict[str, str]:
    text = client.ask("INFO", *sections).decode()
    assert text.count("\n") == text.count("\r\n")
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def test_info_tells_what_clients_decide_by(client: Client) -> None:
    facts = info(client)
    assert facts["redis_version"].startswith("7.")
    assert facts["loading"] == "0"
    assert facts["role"] == "master"
    assert facts["cluster_enabled"] == "1"
    assert facts["connected_clients"] == "1"
    assert facts["replicas"] == "3"
    client.store.is_ready = False
    facts = info(client, "persistence", "quorate")
    assert (facts["loading"], facts["reason"]) == ("1", "the disk is stuck")


def test_info_gives_the_sections_asked_for(client: Client) -> None:
    assert client.ask("INFO", "cluster") == b"# Cluster\r\ncluster_enabled:1\r\n"
    assert client.ask("INFO", "nonsense") == b""
    for section in SECTIONS:
        assert client.ask("INFO", section.upper()).startswith(f"# {section}\r\n".encode())
    assert info(client).keys() == info(client, "everything").keys() == info(client, "all").keys()


def test_config_get_answers_all_patterns_that_match(client: Client) -> None:
    assert client.ask("CONFIG", "GET", "save") == [b"save", b""]
    assert client.ask("CONFIG", "GET", "maxmem*", "SAVE") == [
        b"maxmemory", b"0", b"maxmemory-policy", b"noeviction", b"save", b"",
    ]  # fmt: skip
    assert client.ask("CONFIG", "GET", "nothing") == []
    assert client.ask("CONFIG", "GET", "*a" * 50_000) == "ERR pattern too long"


def test_config_writes_no_file(client: Client) -> None:
    assert client.ask("CONFIG", "REWRITE") == ("ERR unknown subcommand 'REWRITE'. Try CONFIG HELP.")


def test_resetstat_begins_the_counters_of_info_anew_and_no_others(client: Client) -> None:
    client.store.counters = {"reads_hedged": 7}
    client.send(*[["PING"]] * 5)
    client.settle()
    client.answered()
    before = info(client, "stats")
    assert (before["total_commands_processed"], before["reads_hedged"]) == ("6", "7")
    assert client.ask("CONFIG", "RESETSTAT") == b"OK"
    client.store.counters = {"reads_hedged": 9, "writes_restamped": 1}
    assert info(client, "stats") == {
        "total_connections_received": "0",
        "total_commands_processed": "1",
        "reads_hedged": "2",
        "writes_restamped": "1",
    }
    assert client.connection.id == 1
    assert client.door.answered.operations["ping"].ok == 5
    other = Client(client.store, client.door)
    assert other.connection.id == 2


def test_config_set_accepts_what_is_so_already_and_nothing_else(client: Client) -> None:
    assert client.ask("CONFIG", "SET", "save", "", "maxmemory", "0", "Timeout", "0") == b"OK"
    assert client.ask("CONFIG", "SET", "save", "", "maxmemory", "1gb") == (
        "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - "
        "can't set immutable config: it is '0' while the node runs"
    )
    assert client.ask("CONFIG", "SET", "nothing", "1") == (
        "ERR Unknown option or number of arguments for CONFIG SET - 'nothing'"
    )
    assert "wrong number" in client.ask("CONFIG", "SET", "save", "", "maxmemory")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("notify-keyspace-events", ""),
        ("slowlog-log-slower-than", "-1"),
        ("slowlog-max-len", "128"),
        ("latency-monitor-threshold", "0"),
        ("Hash-Max-Listpack-Entries", "512"),
        ("hash-max-ziplist-value", "64"),
        ("set-max-intset-entries", "0"),
        ("list-max-listpack-size", "-2"),
    ],
)
def test_config_set_accepts_what_changes_nothing_here_and_keeps_nothing(
    client: Client, name: str, value: str
) -> None:
    """What test suites and monitors set; of hashes, sets and lists there are none here."""
    before = client.ask("CONFIG", "GET", "*")
    assert client.ask("CONFIG", "SET", name, value) == b"OK"
    assert client.ask("CONFIG", "GET", "*") == before


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("notify-keyspace-events", "Ex", "no events of keys are sent: it is ''"),
        ("slowlog-log-slower-than", "10000", "slow commands are not kept: it is '-1'"),
        ("latency-monitor-threshold", "100", "latencies are not kept: it is '0'"),
        ("slowlog-max-len", "many", "it is a whole number"),
        ("hash-max-listpack-entries", "", "it is a whole number"),
        ("list-max-listpack-size", "9" * 5000, "it is a whole number"),
    ],
)
def test_config_set_refuses_what_asks_for_more_than_is_done_here(
    client: Client, name: str, value: str, why: str
) -> None:
    assert client.ask("CONFIG", "SET", name, value) == (
        f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
    )


def test_config_get_tells_how_many_replicas_a_read_and_a_write_need() -> None:
    """Clients compare these before they trust what a label says."""
    client = Client(TurnStore(Config(nodes=NODES, advertise=NODES[0], r=1, w=3)))
    assert client.ask("CONFIG", "GET", "quorate-w", "quorate-r") == [
        b"quorate-r", b"1", b"quorate-w", b"3",
    ]  # fmt: skip
    assert client.ask("CONFIG", "SET", "quorate-w", "3", "quorate-r", "1") == b"OK"
    assert "it is '3'" in client.ask("CONFIG", "SET", "quorate-w", "2")


def test_info_tells_what_memory_the_process_has(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = info(client, "memory")
    assert facts["used_memory"] == facts["used_memory_rss"]
    assert 10 << 20 < int(facts["used_memory"]) < 1 << 40
    monkeypatch.setattr(server, "_STATM", Path("/nowhere/statm"))
    assert not {"used_memory", "used_memory_rss"} & set(info(client, "memory"))


def test_info_tells_no_number_that_is_not_counted(client: Client) -> None:
    """Redis's `expired_keys` are keys, and copies are counted here."""
    facts = info(client)
    for name in ("keyspace_hits", "keyspace_misses", "expired_keys", "instantaneous_ops_per_sec"):
        assert name not in facts


def test_info_lastsave_and_role_say_what_tools_ask(client: Client) -> None:
    facts = info(client, "server", "cluster")
    assert (facts["redis_mode"], facts["cluster_enabled"]) == ("cluster", "1")
    assert facts["arch_bits"] in ("32", "64")
    assert client.ask("LASTSAVE") == client.store.now_ms // 1000
    assert client.ask("ROLE") == [b"master", 0, []]


def test_time_is_the_clock_that_keys_expire_by(client: Client) -> None:
    client.store.now_ms = 1_700_000_000_123
    assert client.ask("TIME") == [b"1700000000", b"123000"]


def test_dbsize_counts_each_key_once_though_it_has_copies(client: Client) -> None:
    for i in range(5):
        client.store.fill(b"k%d" % i, b"v")
    assert client.ask("DBSIZE") == 5


def test_dbsize_while_only_some_keys_have_their_third_copy(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes hold all, and a third one half so far."""
    status = client.store.status()
    held = [(1024, 1000), (1024, 1000), (512, 500)]
    members = [
        replace(member, partitions=partitions, keys=keys)
        for member, (partitions, keys) in zip(status.members, held, strict=True)
    ]
    monkeypatch.setattr(client.store, "status", lambda: replace(status, members=members))
    assert client.ask("DBSIZE") == 1000


# --- WAIT ----------------------------------------------------------------------------------------


def put_result(client: Client, acks: int) -> PutResult:
    return PutResult(client.store.next_version(), acks, 3)


def test_wait_tells_the_fewest_further_copies_of_the_writes_since_the_wait_before(
    client: Client,
) -> None:
    client.store.fail_next = [put_result(client, acks) for acks in (3, 2, 3)]
    client.send(["SET", "a", "1"], ["SET", "b", "1"], ["SET", "c", "1"], ["WAIT", "2", "100"])
    assert client.replies() == [b"OK", b"OK", b"OK", 1]
    client.store.fail_next = [put_result(client, 3)]
    client.send(["SET", "a", "1"], ["WAIT", "1", "0"])
    assert client.replies() == [b"OK", 2]


def test_wait_after_wait_says_the_same_and_never_more_than_is_known(client: Client) -> None:
    client.store.fail_next = [put_result(client, 1)]
    client.ask("SET", "a", "1")
    assert [client.ask("WAIT", 1, 0) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    "command",
    [
        ("DEL", "k"),
        ("MSET", "k", "v"),
    ],
)
def test_wait_counts_every_kind_of_write(client: Client, command: tuple[str, ...]) -> None:
    client.store.fill(b"k", b"v")
    client.store.fail_next = [put_result(client, 1)]
    client.ask(*command)
    assert client.ask("WAIT", 1, 0) == 0


@pytest.mark.parametrize(
    "command",
    [("EXPIRE", "k", "5"), ("SET", "k", "v", "GET"), ("GETDEL", "k"), ("APPEND", "k", "")],
)
def test_wait_counts_a_read_modify_write_that_wrote(
    client: Client, command: tuple[str, ...]
) -> None:
    record = client.store.fill(b"k", b"v")
    wrote = command[0] != "APPEND"
    client.store.fail_next = [UpdateResult(record, record if wrote else None, 1, 3)]
    client.ask(*command)
    assert client.ask("WAIT", 1, 0) == (0 if wrote else 2)


@pytest.mark.parametrize(
    "command", ["SET b 1", "INCR n", "MSET x 1", "DEL k", "RENAME k l", "COPY k l REPLACE"]
)
def test_wait_forgets_no_write_for_one_after_it_of_more_copies(
    client: Client, command: str
) -> None:
    client.store.fill(b"k", b"v")
    client.store.fail_next = [put_result(client, 1)]
    client.ask("SET", "a", "1")
    client.ask(*command.split())
    assert client.ask("WAIT", 1, 0) == 0


def test_wait_without_a_write_tells_how_many_copies_a_key_has(client: Client) -> None:
    assert client.ask("WAIT", 0, 0) == 2
    client.store.has_layout = False
    assert client.ask("WAIT", 0, 0) == "CLUSTERDOWN the cluster's layout is not known yet"


def test_wait_does_not_count_writes_that_failed(client: Client) -> None:
    client.store.fail_next = [QuorumUnreachable("too few replicas")]
    client.ask("SET", "a", "1")
    assert client.ask("WAIT", 0, 0) == 2


def test_wait_refuses_what_redis_refuses(client: Client) -> None:
    assert client.ask("WAIT", "a", 1) == "ERR value is not an integer or out of range"
    assert client.ask("WAIT", 1, -1) == "ERR timeout is negative"
