# SPDX-License-Identifier: GPL-3.0-or-later
"""Order and endings of a client's connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.events import Get
from quorate.doors import answered
from quorate.doors.answered import BOUNDS_NS
from quorate.doors.limits import LINGER_SECONDS
from quorate.doors.limits import REQUEST_SECONDS as STALL_SECONDS
from quorate.doors.redis import connection
from quorate.doors.redis.session import WINDOW_FIRST
from quorate.errors import Outcome, QuorumUnreachable
from quorate.wire.resp import ARGS_MAX
from tests.unit.doors.redis.turns import Client, encode, plain, three_nodes

PING = b"*1\r\n$4\r\nPING\r\n"


def texts(client: Client) -> list[object]:
    return [plain(reply) for reply in client.replies()]


# --- order -----------------------------------------------------------------------------------


def test_answers_keep_the_order_of_commands_and_leave_in_one_write(client: Client) -> None:
    client.store.fill(b"a", b"1")
    client.send(["PING"], ["GET", "a"], ["ECHO", "x"], ["GET", "b"], ["SET", "c", "3"], ["NO"])
    assert client.transport.writes == []
    replies = texts(client)
    assert replies[:5] == [b"PONG", b"1", b"x", None, b"OK"]
    assert str(replies[5]).startswith("ERR unknown command 'NO'")
    assert len(client.transport.writes) == 1


def test_answers_are_counted_by_command_and_outcome_and_timed_if_they_read_or_write(
    client: Client,
) -> None:
    client.store.fill(b"a", b"-not an error")
    client.send(["get", "a"], ["MGET", "a", "b"], ["set", "k", "v"], ["SET", "k", "v", "OOPS"])
    client.send(["PING"], ["NO"], ["GET"], ["config", "get", "port"], ["MSET", "a", "1", "b", "2"])
    client.settle()
    client.store.fail_next = [QuorumUnreachable("few", outcome=Outcome.UNKNOWN)]
    client.send(["DEL", "a"])
    client.settle()
    client.store.fail_keys = {b"a": QuorumUnreachable("few")}
    client.send(["GET", "a"])
    client.settle()
    client.send(["CLIENT", "outcome=unknown"], ["AUTH", "stranger", "word"])
    client.settle()
    client.feed(b"*1\r\nnonsense\r\n")
    client.settle()
    operations = client.door.answered.operations.values()
    assert {each.name: each.ok for each in operations if each.ok} == {
        "get": 1,
        "mget": 1,
        "set": 1,
        "ping": 1,
        "config|get": 1,
        "mset": 1,
    }
    assert {each.name: each.errors for each in operations if each.errors} == {
        "get": {"not_applied": 1, "failed": 1},
        "set": {"not_applied": 1},
        "del": {"unknown": 1},
        "auth": {"not_applied": 1},
        "client": {"not_applied": 1},
        "unknown": {"not_applied": 2},
    }
    answered = client.door.answered
    assert (sum(answered.reads.counts), sum(answered.writes.counts)) == (4, 4)


def test_a_time_runs_from_the_packet_to_the_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "monotonic_ns", lambda: 1_000)
    monkeypatch.setattr(answered, "monotonic_ns", lambda: 7_000_000)
    client.send(["GET", "a"], ["GET", "b"])
    client.settle()
    reads = client.door.answered.reads
    assert reads.total_ns == 2 * 6_999_000
    assert reads.counts[BOUNDS_NS.index(10_000_000)] == 2


def test_an_answer_that_comes_early_waits_for_those_before_it(client: Client) -> None:
    client.store.hold()
    client.send(["GET", "a"], ["PING"])
    client.connection.flush()
    assert client.answered() == []
    assert client.replies() == [None, b"PONG"]


def test_10000_pipelined_commands_are_answered_in_order(client: Client) -> None:
    client.send(
        *[["SET", f"k{i}", str(i)] for i in range(5_000)], *[["GET", f"k{i}"] for i in range(5_000)]
    )
    replies = client.replies()
    assert replies == [b"OK"] * 5_000 + [b"%d" % i for i in range(5_000)]


def test_a_pipelined_read_sees_the_writes_before_it(client: Client) -> None:
    client.send(
        ["SET", "k", "1"], ["GET", "k"], ["SET", "k", "2"], ["EXPIRE", "k", "10"], ["TTL", "k"]
    )
    assert client.replies() == [b"OK", b"1", b"OK", 1, 10]


def test_a_pipelined_write_does_not_reach_reads_before_it(client: Client) -> None:
    client.store.reads_last = True
    client.send(["GET", "k"], ["SET", "k", "1"])
    client.store.turn()
    assert [type(event) for event in client.store.events[:1]] == [Get]
    assert client.replies() == [None, b"OK"]
    client.send(["MGET", "k", "l"], ["MSET", "l", "5", "m", "6"], ["EXISTS", "k", "l", "m"])
    assert client.replies() == [[b"1", None], b"OK", 3]


def test_reads_of_one_key_and_commands_on_different_keys_share_a_turn(client: Client) -> None:
    client.send(
        ["GET", "k"], ["GET", "k"], ["SET", "a", "1"], ["SET", "b", "1"], ["MGET", "k", "k"]
    )
    client.store.turn()
    assert len(client.answered()) == 5


def test_a_walk_over_keys_waits_for_what_was_before_it_and_holds_what_comes_after(
    client: Client,
) -> None:
    client.store.reads_last = True
    client.send(["SET", "a", "1"], ["KEYS", "*"], ["SET", "b", "1"], ["KEYS", "*"], ["DEL", "a"])
    first, second = (sorted(reply) for reply in client.replies() if isinstance(reply, list))
    assert (first, second) == ([b"a"], [b"a", b"b"])


def test_the_protocol_version_changes_between_commands_and_not_under_them(client: Client) -> None:
    client.send(["GET", "a"], ["HELLO", "3"], ["GET", "a"], ["HELLO", "2"], ["GET", "a"])
    client.settle()
    data = b"".join(client.transport.writes)
    assert data.startswith(b"$-1\r\n%")
    assert b"\r\n_\r\n*" in data
    assert data.endswith(b"$-1\r\n")


keys = st.sampled_from(["a", "b", "c"])
pipelines = st.lists(
    st.one_of(
        st.tuples(st.just("SET"), keys, st.integers(0, 9)),
        st.tuples(st.just("SET"), keys, st.integers(0, 9), st.just("GET")),
        st.tuples(st.just("GET"), keys),
        st.tuples(st.just("GETDEL"), keys),
        st.tuples(st.just("DEL"), keys, keys),
        st.tuples(st.just("EXISTS"), keys, keys),
        st.tuples(st.just("MGET"), keys, keys),
        st.tuples(st.just("MSET"), keys, st.integers(0, 9), keys, st.integers(0, 9)),
        st.tuples(st.just("STRLEN"), keys),
        st.tuples(st.just("EXPIRE"), keys, st.integers(5, 9)),
        st.tuples(st.just("PERSIST"), keys),
        st.tuples(st.just("TTL"), keys),
        st.just(("DBSIZE",)),
        st.just(("PING",)),
    ),
    max_size=30,
)


@given(pipelines, st.integers(1, 400), st.booleans())
def test_a_pipeline_is_answered_as_if_its_commands_came_one_by_one(
    pipeline: list[tuple[str | int, ...]], cut: int, reads_last: bool
) -> None:
    one_by_one, at_once = Client(), Client()
    at_once.store.reads_last = reads_last
    expected = [one_by_one.ask(*command) for command in pipeline]
    data = b"".join(encode(command) for command in pipeline)
    at_once.feed(data[:cut])
    at_once.feed(data[cut:])
    assert at_once.replies() == expected
    assert at_once.connection.flow.reply_bytes == 0


# --- half commands -------------------------------------------------------------------------------


def test_a_command_in_single_bytes_is_served(client: Client) -> None:
    for byte in encode(["SET", "key", "value\r\n"]):
        client.feed(bytes([byte]))
        client.timers.advance(0.5)
    assert client.replies() == [b"OK"]
    assert client.store.records[b"key"].value == b"value\r\n"


@pytest.mark.parametrize("half", [b"*2\r\n$3\r\nGET\r\n$1\r\n", b"*1\n$4\nPING\n", b"PING"])
def test_half_a_command_is_given_its_time_and_then_the_connection_closes(
    client: Client, half: bytes
) -> None:
    client.feed(PING + half)
    client.timers.advance(STALL_SECONDS - 1)
    assert client.replies() == [b"PONG"]
    assert not client.transport.is_closing()
    client.timers.advance(1)
    assert texts(client) == ["ERR Protocol error: command not completed in time"]
    client.timers.advance(LINGER_SECONDS)
    assert client.transport.is_closing()
    assert client.store.events == []


def test_each_half_command_has_a_time_of_its_own(client: Client) -> None:
    whole = encode(["ECHO", "x"])
    client.feed(whole[:5])
    for _ in range(10):
        client.timers.advance(STALL_SECONDS * 0.7)
        client.feed(whole[5:] + whole[:5])
    assert client.replies() == [b"x"] * 10
    assert not client.transport.is_closing()


def test_the_time_for_half_a_command_stands_still_while_the_node_does_not_read(
    client: Client,
) -> None:
    client.transport.is_stuck = True
    client.store.fill(b"k", b"v" * 100_000)
    client.send(["GET", "k"])
    client.feed(b"*1\r\n$4\r\n")
    client.settle()
    assert not client.transport.is_reading()
    client.timers.advance(STALL_SECONDS * 0.9)
    client.transport.take(50_000)
    client.timers.advance(STALL_SECONDS * 0.9)
    client.transport.take(client.transport.unread)
    client.feed(b"PING\r\n")
    assert client.replies()[1:] == [b"PONG"]


def test_a_connection_that_is_idle_between_commands_has_no_timers_and_stays(client: Client) -> None:
    client.ask("PING")
    client.timers.advance(STALL_SECONDS)
    assert client.timers.count == 0
    client.timers.advance(100 * STALL_SECONDS)
    assert client.ask("PING") == b"PONG"


# --- endings -------------------------------------------------------------------------------------


def test_half_a_command_then_eof_executes_nothing(client: Client) -> None:
    client.feed(encode(["SET", "k", "v"])[:-1])
    assert client.connection.eof_received()
    client.settle()
    assert client.transport.is_closing()
    assert client.store.events == []
    assert client.transport.writes == []


def test_what_was_asked_before_eof_is_answered_before_the_connection_closes(client: Client) -> None:
    client.send(*[["GET", f"k{i}"] for i in range(3 * WINDOW_FIRST)])
    client.connection.eof_received()
    assert not client.transport.is_closing()
    assert client.replies() == [None] * (3 * WINDOW_FIRST)
    assert client.transport.is_closing()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (b"*2147483648\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$10000000000\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'"),
        (b"x" * 70_000, "ERR Protocol error: too big inline request"),
    ],
)
def test_a_protocol_fault_is_told_after_the_answers_before_it_and_ends_the_connection(
    client: Client, fault: bytes, text: str
) -> None:
    client.send(["GET", "k"])
    client.feed(PING + fault + encode(["SET", "k", "v"]))
    *before, told = texts(client)
    assert before == [None, b"PONG"]
    assert str(told).startswith(text)
    # What is still sent is read, and nothing of it is done.
    assert client.transport.is_reading()
    client.send(["SET", "k", "v"])
    client.timers.advance(LINGER_SECONDS)
    assert client.transport.is_closing()
    assert client.answered() == client.written == []


def test_an_http_request_is_dropped_without_a_word(client: Client) -> None:
    client.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nSET a b\r\nPING\r\n")
    client.settle()
    assert client.transport.writes == []
    assert client.transport.is_closing()
    assert client.store.events == []


def test_quit_answers_what_was_before_it_and_nothing_after(client: Client) -> None:
    client.send(["GET", "k"], ["QUIT"], ["SET", "k", "v"])
    assert client.replies() == [None, b"OK"]
    assert client.transport.is_closing()
    assert client.written == []


def test_answers_that_come_after_the_client_has_gone_are_let_go(client: Client) -> None:
    client.send(["GET", "k"], ["MGET", "a", "b"], ["DEL", "x"], ["SET", "y", "z"])
    client.connection.connection_lost(None)
    client.settle()
    assert client.transport.writes == []
    assert client.door.sessions == {}
    client.timers.advance(STALL_SECONDS)
    assert client.timers.count == 0


def test_nothing_is_written_to_a_transport_that_is_closing(client: Client) -> None:
    """uvloop raises on a write after close."""
    client.send(["GET", "k"])
    client.transport.close()
    client.settle()
    assert client.transport.writes == []


def test_a_closing_connection_whose_last_answers_are_not_read_is_aborted(client: Client) -> None:
    client.transport.is_stuck = True
    client.send(["PING"], ["QUIT"])
    client.settle()
    assert not client.transport.aborted
    client.timers.advance(STALL_SECONDS)
    assert client.transport.aborted


# --- errors --------------------------------------------------------------------------------------


def test_a_failed_request_names_its_facts_and_its_outcome(client: Client) -> None:
    client.store.failure = QuorumUnreachable("too few replicas can be reached", needed=2, live=1)
    assert client.ask("GET", "k") == (
        "NOREPLICAS too few replicas can be reached (needed=2 live=1)"
    )


def test_a_strange_command_name_is_cut_and_cleaned(client: Client) -> None:
    name = b"a\r\n+OK\r\n" + b"x" * 10_000
    reply = client.ask_raw(name, b"\r\n-ERR", b"y" * 10_000)
    assert reply.startswith(b"-ERR unknown command 'a  +OK  xxx")
    assert reply.count(b"\r\n") == 1
    assert len(reply) < 400
    assert client.ask("") == "ERR unknown command '', with args beginning with: "
    assert (
        client.ask(b"\xff\xfe") == "ERR unknown command '\ufffd\ufffd', with args beginning with: "
    )


@pytest.mark.parametrize("name", ["get", "Get", "GET", "gEt"])
def test_command_names_are_taken_in_any_case(client: Client, name: str) -> None:
    client.store.fill(b"k", b"v")
    assert client.ask(name, "k") == b"v"


def test_a_command_of_a_million_keys_is_refused_and_the_connection_stays() -> None:
    client = Client(three_nodes())
    client.feed(b"*1000000\r\n$4\r\nMGET\r\n" + b"$1\r\nk\r\n" * 999_999)
    assert texts(client) == [f"ERR a command may have {ARGS_MAX} arguments"]
    assert client.ask("PING") == b"PONG"
    assert client.store.events == []
