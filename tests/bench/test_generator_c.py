# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator in C: what it says it did is what a server saw."""

from __future__ import annotations

import ctypes
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import generator as bench_generator
from bench.generator import (
    PASSWORD,
    USER,
    Report,
    StoreLoad,
    http,
    http_with_headers,
    resp_logged_in,
    resp_logging_in,
)
from quorate.bench.protocols import RespCodec
from tests.authority import Authority
from tests.bench.conftest import Ask, Refused
from tests.bench.scripted import http_request, http_response, scripted
from tests.unit.bench.fake_redis import FakeRedis, Mood

LATENCY_MS_MAX = 600_000
PAUSE_SECONDS = 0.5


def key(number: int) -> bytes:
    return b"quorate-bench:%015d" % number


def plain(report: Report) -> None:
    """Nothing went otherwise than well, and all of it is in the histogram."""
    assert (report.errors, report.misses, report.backlog) == ({}, 0, 0)
    assert sum(count for _, count in report.histogram) == report.requests > 0
    assert 0 < report.in_time <= report.requests


# --- what is counted -----------------------------------------------------------------------------


@pytest.mark.parametrize(("connections", "pipeline"), [(1, 1), (3, 1), (1, 16), (4, 7)])
def test_each_key_in_order_is_asked_for_once(ask: Ask, connections: int, pipeline: int) -> None:
    asked: list[bytes] = []
    with FakeRedis(lambda command: asked.append(command[1])) as redis:
        load = StoreLoad(connections=connections, pipeline=pipeline, value_bytes=10)
        plain(found := ask(load, redis.target[1], in_order=100))
    assert found.requests == 100
    assert sorted(asked) == [key(number) for number in range(100)]
    assert redis.connections == connections


@pytest.mark.parametrize("pipeline", [1, 5])
def test_what_is_counted_is_what_the_server_was_asked(ask: Ask, pipeline: int) -> None:
    with FakeRedis(lambda _: b"+OK\r\n") as redis:
        load = StoreLoad(connections=3, reads=0.5, keys=10, pipeline=pipeline)
        plain(found := ask(load, redis.target[1], seconds=0.5))
    seen = Counter(redis.commands)
    assert found.requests == seen.total()
    assert min(seen[b"GET"], seen[b"SET"]) > 0
    assert found.seconds == pytest.approx(0.5)


def test_a_wait_is_sent_with_its_set_and_both_are_one_request(ask: Ask) -> None:
    with FakeRedis() as redis:
        plain(found := ask(StoreLoad(connections=2, wait=2), redis.target[1], seconds=0.5))
    assert redis.commands.count(b"SET") == redis.commands.count(b"WAIT") == found.requests


def test_keys_and_values_differ_from_request_to_request(ask: Ask) -> None:
    asked: list[list[bytes]] = []
    with FakeRedis(asked.append) as redis:
        plain(ask(StoreLoad(connections=1, keys=50, value_bytes=99), redis.target[1], seconds=1))
    asked = asked[:100]
    assert {len(value) for _, _, value in asked} == {99}
    assert len({value for _, _, value in asked}) > 95
    assert {name for _, name, _ in asked} <= {key(number) for number in range(50)}
    assert len({name for _, name, _ in asked}) > 30


def test_connections_are_spread_over_the_targets(ask: Ask) -> None:
    with FakeRedis() as one, FakeRedis() as other:
        plain(ask(StoreLoad(connections=6), one.target[1], other.target[1], in_order=60))
    assert (one.connections, other.connections) == (3, 3)


def test_a_target_with_keys_of_its_own_is_asked_for_no_other(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: tuple[set[bytes], set[bytes]] = (set(), set())
    with (
        FakeRedis(lambda command: asked[0].add(command[1])) as low,
        FakeRedis(lambda command: asked[1].add(command[1])) as high,
    ):
        ports = low.target[1], high.target[1]
        monkeypatch.setattr(
            bench_generator, "_held_keys", lambda *_: {ports[0]: [1, 3], ports[1]: [2]}
        )
        plain(ask(StoreLoad(connections=2, route=True), *ports, seconds=0.5))
    assert asked == ({key(1), key(3)}, {key(2)})


def test_values_larger_than_any_buffer_go_there_and_back(ask: Ask) -> None:
    value = b"v" * (2 << 20)
    codec = RespCodec(value=value, wait=0)
    sizes = {b"*3": len(codec.write(0)), b"*2": len(codec.read(0))}
    answers = {b"*3": b"+OK\r\n", b"*2": b"$%d\r\n%b\r\n" % (len(value), value)}
    asked: list[bytes] = []

    def cut(data: bytes) -> int:
        size = sizes.get(data[:2], 0)
        return size if size <= len(data) else 0

    def answer(request: bytes) -> bytes:
        asked.append(request[:2])
        return answers[request[:2]]

    with scripted(cut, answer) as port:
        load = StoreLoad(connections=2, keys=3, value_bytes=len(value), reads=0.5)
        plain(found := ask(load, port, seconds=2.0))
    assert len(asked) == found.requests
    assert set(asked) == {b"*2", b"*3"}


# --- what goes wrong -----------------------------------------------------------------------------


def test_errors_are_counted_by_their_first_word_and_misses_apart(ask: Ask) -> None:
    said = {b"GET": b"$-1\r\n", b"SET": b'-BU"SY Please wait\r\n'}
    with FakeRedis(lambda command: said[command[0]]) as redis:
        found = ask(StoreLoad(connections=2, reads=0.5, keys=9), redis.target[1], seconds=0.5)
    seen = Counter(redis.commands)
    assert found.misses == seen[b"GET"] > 0
    assert found.errors == {"BU?SY": seen[b"SET"]}


def test_a_wait_that_reached_too_few_is_an_error(ask: Ask) -> None:
    with FakeRedis() as redis:  # It says 2.
        found = ask(StoreLoad(connections=1, wait=3), redis.target[1], in_order=5)
    assert found.errors == {"WAIT reached too few replicas": 5}


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        (lambda _: b"", "it closed"),
        (lambda _: b"+OK\r\n+OK\r\n", "a reply to nothing"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n", "no RESP reply: HTTP/1.1 400"),
        (lambda _: b"$abc\r\n", "no RESP reply: $abc"),
        (lambda _: b"\r\n", "no RESP reply"),
    ],
)
def test_what_means_nothing_is_no_measurement(ask: Ask, mood: Mood, said: str) -> None:
    with FakeRedis(mood) as redis, pytest.raises(Refused, match=said.replace("$", r"\$")):
        ask(StoreLoad(connections=1), redis.target[1], seconds=30)


def test_a_port_that_refuses_is_told(ask: Ask) -> None:
    with FakeRedis() as redis:
        pass
    with pytest.raises(Refused, match="refused"):
        ask(StoreLoad(connections=1), redis.target[1], seconds=30)


def test_what_is_not_answered_is_an_error(ask: Ask) -> None:
    with scripted(lambda _: 0, lambda _: b"") as port:
        found = ask(StoreLoad(connections=3, pipeline=2), port, seconds=0.1)
    assert (found.requests, found.errors) == (0, {"no answer": 6})


# --- a fixed rate --------------------------------------------------------------------------------


def test_a_pause_shows_in_every_request_that_was_due_meanwhile(ask: Ask) -> None:
    """At 100 a second a pause of half a second delays the 40 that are due in its first 400 ms by
    over 100 ms, though only one of them was under way."""
    pauses = [PAUSE_SECONDS]

    def mood(_: list[bytes]) -> None:
        if pauses:
            time.sleep(pauses.pop())

    with FakeRedis(mood) as redis:
        plain(found := ask(StoreLoad(connections=1, rate=100), redis.target[1], seconds=1))
    assert found.requests == len(redis.commands) == 99
    late = sum(count for us, count in found.histogram if us > 100_000)
    assert late >= 39


def test_what_was_due_and_not_sent_by_the_end_is_told(ask: Ask) -> None:
    with scripted(lambda _: 0, lambda _: b"") as port:
        found = ask(StoreLoad(connections=2, rate=50), port, seconds=0.5)
    assert found.errors == {"no answer": 2}
    assert found.backlog == 24 - 2


# --- HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 90])
@pytest.mark.parametrize("speak", [http, http_with_headers])
def test_http_replies_are_read_to_their_end_however_they_are_cut(
    ask: Ask, speak: bench_generator.DialectOf, pieces: int
) -> None:
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return http_response(200, b"v" * 64 if request.startswith(b"GET") else b"{}")

    with scripted(http_request, answer, pieces=pieces) as port:
        load = StoreLoad(speak=speak, connections=2, keys=4, reads=0.5)
        plain(found := ask(load, port, seconds=0.5))
    assert len(requests) == found.requests
    assert {request[:3] for request in requests} == {b"GET", b"PUT"}
    assert all(b"\r\nHost: 127.0.0.1:%d\r\n" % port in request for request in requests)
    full = b"\r\nConnection: keep-alive\r\n"
    assert all((full in request) is (speak is http_with_headers) for request in requests)


def test_http_statuses_are_misses_of_reads_and_errors_of_others(ask: Ask) -> None:
    statuses = {b"GET": 404, b"PUT": 503}
    with scripted(
        http_request, lambda request: http_response(statuses[request[:3]], b"{}")
    ) as port:
        found = ask(StoreLoad(speak=http, connections=1, reads=0.5, keys=4), port, seconds=0.5)
    assert found.misses > 0
    assert found.errors == {"503": found.requests - found.misses}


def test_an_http_reply_of_no_stated_length_is_no_measurement(ask: Ask) -> None:
    with (
        scripted(http_request, lambda _: b"HTTP/1.1 200 OK\r\n\r\n") as port,
        pytest.raises(Refused, match="without its length"),
    ):
        ask(StoreLoad(speak=http, connections=1), port, seconds=30)


# --- TLS, logins, and connections of one request -------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("value_bytes", [1, 300_000])
def test_through_tls_all_is_counted_as_without(
    ask: Ask, authority: Authority, value_bytes: int
) -> None:
    """Values larger than a record of TLS, which come in many, too."""
    with FakeRedis(tls=authority.server("localhost")) as redis:
        load = StoreLoad(connections=2, pipeline=4, keys=8, value_bytes=value_bytes, tls=True)
        plain(ask(load, redis.target[1], in_order=8))
        plain(found := ask(replace(load, reads=0.5), redis.target[1], seconds=0.5))
    assert len(redis.commands) == found.requests + 8
    assert {len(value) for value in redis.values.values()} == {value_bytes}


def test_a_server_that_speaks_no_tls_is_no_measurement(ask: Ask) -> None:
    with (
        scripted(len, lambda _: b"-ERR what?\r\n") as port,
        pytest.raises(Refused, match="TLS: "),
    ):
        ask(StoreLoad(connections=1, tls=True), port, seconds=30)


@pytest.mark.parametrize("is_inside", [False, True])
def test_each_request_may_have_a_connection_of_its_own(
    ask: Ask, authority: Authority, is_inside: bool
) -> None:
    with FakeRedis(tls=authority.server("localhost") if is_inside else None) as redis:
        load = StoreLoad(connections=2, churn=True, tls=is_inside)
        plain(found := ask(load, redis.target[1], in_order=20))
        wait_for_connections(redis, 22)
    assert found.requests == redis.commands.count(b"SET") == 20


def wait_for_connections(redis: FakeRedis, count: int) -> None:
    """The last ones ask nothing any more, and are taken after the generator has ended."""
    until = time.monotonic() + 10
    while redis.connections < count and time.monotonic() < until:
        time.sleep(0.01)
    assert redis.connections == count


def test_a_connection_that_logs_in_waits_for_that(ask: Ask) -> None:
    asked: list[list[bytes]] = []

    def mood(command: list[bytes]) -> bytes | None:
        asked.append(command)
        return b"+OK\r\n" if command[0] == b"AUTH" else None

    with FakeRedis(mood) as redis:
        plain(ask(StoreLoad(speak=resp_logged_in, connections=3), redis.target[1], in_order=9))
        login = [b"AUTH", USER.encode(), PASSWORD.encode()]
        assert asked[:3] == [login] * 3
        assert [command[0] for command in asked[3:]] == [b"SET"] * 9
        asked.clear()
        load = StoreLoad(speak=resp_logging_in, connections=1, churn=True, reads=0.5, keys=9)
        plain(found := ask(load, redis.target[1], seconds=0.5))
    assert asked[::2] == [login] * found.requests
    assert {command[0] for command in asked[1::2]} == {b"GET", b"SET"}


def test_a_login_that_is_refused_is_no_measurement(ask: Ask) -> None:
    with (
        FakeRedis(lambda _: b"-WRONGPASS no\r\n") as redis,
        pytest.raises(Refused, match="the hello is refused"),
    ):
        ask(StoreLoad(speak=resp_logged_in, connections=1), redis.target[1], seconds=30)


# --- the histogram -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(generator: str) -> ctypes.CDLL:
    path = Path(generator).with_suffix(".so")
    source = Path(bench_generator.__file__).with_suffix(".c")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(path), str(source), "-lssl", "-lcrypto"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(path))
    library.bucket_of.argtypes = [ctypes.c_uint64]
    library.middle_of.restype = ctypes.c_uint64
    return library


@given(us=st.integers(0, LATENCY_MS_MAX * 1000), more=st.integers(0, 1000))
def test_a_latency_is_told_to_one_part_in_256(library: ctypes.CDLL, us: int, more: int) -> None:
    bucket = library.bucket_of(us)
    assert abs(library.middle_of(bucket) - us) <= us / 256
    assert library.bucket_of(library.middle_of(bucket)) == bucket
    assert library.bucket_of(us + more) >= bucket


def test_what_took_longer_than_the_histogram_goes_counts_as_its_last(library: ctypes.CDLL) -> None:
    assert library.bucket_of(1 << 62) == library.bucket_of(LATENCY_MS_MAX * 1000)
