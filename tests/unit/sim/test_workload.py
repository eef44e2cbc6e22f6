# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients follow their scripts."""

from __future__ import annotations

from quorate.core.values.events import Effects, Get, GetResult, PutResult, UpdateResult
from quorate.errors import DeadlineExceeded
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.machine import Machine
from quorate.sim.plan import Request, Visit
from quorate.sim.tokens import Token, tokens_of
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
    assert tokens_of(get.read) == (Token(0, 1, 0, KEY, 0),)
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


def _asked(clients: Clients, cluster: SimCluster, request: Request) -> ClientOperation:
    operation = clients.ask(4, 1, request)
    cluster.run_until(operation.is_answered)
    return operation


def test_updates_are_what_their_edits_make_and_a_client_compares_with_what_it_saw() -> None:
    cluster = SimCluster(1)
    clients = _clients(cluster)
    put = _asked(clients, cluster, PUT)
    append = _asked(clients, cluster, Request(2, Kind.APPEND, KEY))
    assert append.seen == put.wrote
    cas = _asked(clients, cluster, Request(3, Kind.CAS, KEY, ttl_ms=1_000))
    assert cas.seen == append.wrote
    assert cas.wrote is not None
    assert cas.wrote.expires_ms == cas.expires_ms
    tokens = tokens_of(cas.wrote.value or b"") or ()
    assert [each.name for each in tokens] == [put.name, append.name, cas.name]
    asking.must_put(cluster, 0, KEY, b"v")
    assert _asked(clients, cluster, Request(4, Kind.UNLOCK, KEY)).wrote is None
    deleted = _asked(clients, cluster, Request(5, Kind.UNLOCK, KEY)).wrote
    assert deleted is not None
    assert deleted.value is None
    assert asking.value(cluster, 2, KEY) is None
    assert _asked(clients, cluster, Request(6, Kind.LOCK, KEY, ttl_ms=90)).wrote is not None


def test_an_update_whose_outcome_nobody_knows_is_asked_again_at_the_next_node() -> None:
    cluster = SimCluster(1)
    clients = _clients(cluster)
    clients.start(((Visit(0.0, 0, (Request(1, Kind.INCREMENT, KEY, tries=3),)),),))
    cluster.run_until(lambda: clients.history.operations)
    cluster.kill(0)
    cluster.run_until(lambda: not clients.busy)
    first, again = clients.history.operations
    assert (first.node, first.attempt, first.since_ms, first.result) == (0, 0, 0, None)
    assert (again.node, again.attempt, again.since_ms) == (1, 1, first.asked_ms)
    assert first.request == again.request != 0
    assert isinstance(again.result, UpdateResult)
    cluster.run(2_000)
    assert len(clients.history.operations) == 2


def test_an_update_that_was_answered_is_not_asked_again() -> None:
    cluster = SimCluster(1)
    clients = _play(cluster, Visit(0.0, 0, (Request(1, Kind.INCREMENT, KEY, tries=3),)))
    cluster.run(2_000)
    assert len(clients.history.operations) == 1


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
