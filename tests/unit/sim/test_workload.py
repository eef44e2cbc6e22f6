# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients follow their scripts."""

from __future__ import annotations

from quorate.core.values.events import Effects, Get, GetResult, PutResult
from quorate.core.values.record import Record
from quorate.errors import DeadlineExceeded
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.history import ClientOperation, Kind, parse_value
from quorate.sim.machine import Machine
from quorate.sim.plan import Request, Visit
from quorate.sim.workload import Clients
from tests.simulation import asking

KEY = b"k"
PUT = Request(1, Kind.PUT, KEY)
GET = Request(2, Kind.GET, KEY)


def _clients(cluster: SimCluster) -> Clients:
    return Clients(cluster, patience_ms=600)


def _play(cluster: SimCluster, *visits: Visit) -> Clients:
    clients = _clients(cluster)
    clients.start((visits,))
    cluster.run_until(lambda: not clients.busy)
    return clients


def test_a_client_does_one_visit_after_another_and_notes_what_it_sees() -> None:
    clients = _play(SimCluster(1), Visit(5.0, 0, (PUT,)), Visit(5.0, 1, (GET,)))
    put, get = clients.history.operations
    assert isinstance(put.result, PutResult)
    assert isinstance(get.result, GetResult)
    assert put.done_ms is not None
    assert get.asked_ms >= put.done_ms
    assert [put.node, get.node] == [0, 1]
    assert get.read is not None
    assert parse_value(get.read) == (0, 1, KEY)
    assert not clients.forgotten()


def test_a_visit_of_several_requests_is_one_step_of_the_node() -> None:
    cluster = SimCluster(1)
    asked: list[int] = []

    class Counting:
        def after_step(self, machine: Machine, effects: Effects) -> None:
            del effects
            asked.append(sum(isinstance(event, Get) for event in machine.events))

    cluster.observers.append(Counting())
    gets = tuple(Request(serial, Kind.GET, KEY) for serial in range(5))
    clients = _play(cluster, Visit(0.0, 2, gets))
    assert max(asked) == 5
    assert len({op.asked_ms for op in clients.history.operations}) == 1


def test_a_request_says_all_that_its_plan_says() -> None:
    cluster = SimCluster(1, 3)
    request = Request(1, Kind.PUT, KEY, value_bytes=300, ttl_ms=1_000, w=3, timeout_ms=20)
    operation = _clients(cluster).ask(4, 0, request)
    cluster.run(100)
    assert operation.value is not None
    assert len(operation.value) == 300
    assert operation.expires_ms == EPOCH_MS + int(operation.asked_ms) + 1_000
    assert isinstance(operation.result, PutResult)
    assert operation.result.acks == 3
    cluster.pause(1)
    late = _clients(cluster).ask(4, 0, request)
    cluster.run(100)
    assert isinstance(late.result, DeadlineExceeded)


def test_a_delete_writes_nothing() -> None:
    clients = _play(SimCluster(1), Visit(0.0, 0, (Request(1, Kind.DELETE, KEY),)))
    assert clients.history.operations[0].value is None
    assert isinstance(clients.history.operations[0].result, PutResult)


def _derived(cluster: SimCluster, request: Request) -> ClientOperation | None:
    """What a client writes once it has read; None if it writes nothing."""
    clients = _play(cluster, Visit(0.0, 1, (request,)))
    read, *writes = clients.history.operations
    assert read.kind is Kind.GET
    assert read.serial == request.serial
    assert not clients.forgotten()
    return writes[0] if writes else None


def test_an_expiry_is_changed_by_a_write_of_what_was_read_which_began_with_its_read() -> None:
    cluster = SimCluster(1)
    written = asking.must_put(cluster, 0, KEY, b"v")
    cluster.run(10)
    began_ms = cluster.world.now
    expire = _derived(cluster, Request(2, Kind.EXPIRE, KEY, ttl_ms=5_000, r=2, w=3, timeout_ms=90))
    assert expire is not None
    assert (expire.kind, expire.serial, expire.value) == (Kind.EXPIRE, 2, b"v")
    assert (expire.r, expire.w, expire.timeout_ms) == (2, 3, 90)
    assert expire.derived_from == written.version
    assert expire.asked_ms == began_ms
    assert 0 <= expire.expires_ms - EPOCH_MS - 5_000 - began_ms < 10
    record = asking.must_get(cluster, 0, KEY).record
    assert isinstance(expire.result, PutResult)
    assert record == Record(expire.result.version, b"v", expire.expires_ms, written.version)


def test_an_expiry_is_taken_away_where_there_is_one() -> None:
    cluster = SimCluster(1)
    persist = Request(2, Kind.EXPIRE, KEY)
    asking.must_put(cluster, 0, KEY, b"v")
    assert _derived(cluster, persist) is None
    asking.must_put(cluster, 0, KEY, b"v", expires_ms=EPOCH_MS + 60_000)
    write = _derived(cluster, persist)
    assert write is not None
    assert (write.value, write.expires_ms) == (b"v", 0)


def test_what_was_read_is_deleted() -> None:
    cluster = SimCluster(1)
    written = asking.must_put(cluster, 0, KEY, b"v")
    write = _derived(cluster, Request(2, Kind.GETDEL, KEY))
    assert write is not None
    assert (write.kind, write.value, write.derived_from) == (Kind.GETDEL, None, written.version)
    assert asking.value(cluster, 2, KEY) is None
    assert _derived(cluster, Request(3, Kind.GETDEL, KEY)) is None


def test_nothing_is_derived_from_what_is_absent_expired_or_could_not_be_read() -> None:
    cluster = SimCluster(1)
    request = Request(2, Kind.EXPIRE, KEY, ttl_ms=5_000)
    assert _derived(cluster, request) is None
    asking.must_put(cluster, 0, KEY, b"v", expires_ms=EPOCH_MS + int(cluster.world.now) + 20)
    cluster.run(50)
    assert _derived(cluster, request) is None
    asking.must_put(cluster, 0, KEY, b"v")
    cluster.kill(0)
    cluster.kill(2)
    cluster.run(20)
    assert _derived(cluster, request) is None


def test_a_client_goes_on_after_its_coordinator_died() -> None:
    cluster = SimCluster(1)
    clients = _clients(cluster)
    clients.start(((Visit(0.0, 0, (PUT,)), Visit(0.0, 1, (GET,))),))
    cluster.run_until(lambda: clients.history.operations)
    cluster.kill(0)
    cluster.run_until(lambda: not clients.busy)
    put, get = clients.history.operations
    assert put.result is None
    assert isinstance(get.result, GetResult)
    assert not clients.forgotten()


def test_an_answer_that_comes_after_it_was_given_up_ends_nothing_twice() -> None:
    cluster = SimCluster(1)
    clients = _clients(cluster)
    cluster.pause(0)
    clients.start(((Visit(0.0, 0, (PUT,)),),))
    cluster.run_until(lambda: not clients.busy)
    cluster.resume(0)
    cluster.run_until(lambda: not clients.forgotten())
    assert isinstance(clients.history.operations[0].result, PutResult)
    assert clients.busy == 0


def test_a_client_that_gave_up_its_last_visit_is_done_once() -> None:
    cluster = SimCluster(1)
    cluster.pause(0)
    clients = _play(cluster, Visit(0.0, 0, (GET,)))
    cluster.resume(0)
    cluster.run(100)
    assert isinstance(clients.history.operations[0].result, GetResult)
    assert clients.busy == 0


def test_a_visit_without_requests_keeps_nobody() -> None:
    clients = _play(SimCluster(1), Visit(0.0, 0, ()), Visit(0.0, 1, (GET,)))
    assert [op.node for op in clients.history.operations] == [1]


def test_a_client_asks_the_next_node_that_runs() -> None:
    cluster = SimCluster(1)
    cluster.kill(1)
    clients = _play(cluster, Visit(0.0, 1, (GET,)))
    assert clients.history.operations[0].node == 2


def test_a_client_waits_until_any_node_runs() -> None:
    cluster = SimCluster(1)
    for index in range(3):
        cluster.kill(index)
    clients = _clients(cluster)
    clients.start(((Visit(0.0, 1, (GET,)),),))
    cluster.run(200)
    assert not clients.history.operations
    cluster.restart(0)
    cluster.run_until(lambda: not clients.busy)
    assert clients.history.operations[0].node == 0


def test_what_a_living_coordinator_does_not_answer_is_told() -> None:
    cluster = SimCluster(1)
    clients = _clients(cluster)
    cluster.pause(0)
    operation = clients.ask(0, 0, GET)
    cluster.run(1_000)
    assert clients.forgotten() == [operation]
    assert clients.forgotten()
    cluster.resume(0)
    cluster.run(1_000)
    assert not clients.forgotten()
