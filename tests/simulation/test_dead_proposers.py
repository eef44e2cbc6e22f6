# SPDX-License-Identifier: GPL-3.0-or-later
"""A coordinator dies between any two messages: exactly so many of those by which it writes have
gone out, all of these arrive, and no other goes. Whoever asks again elsewhere, as any client would,
has it done once, whatever that number was.

Three nodes hold the key; the first coordinates. It dies by a power cut: of what it did not sync any
part may be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from quorate.core.values.events import (
    Edit,
    Edited,
    Effects,
    GetResult,
    PeerFrame,
    PutResult,
    UpdateResult,
)
from quorate.core.values.messages import AcceptRows, Message, Mutate, PrepareRows
from quorate.core.values.record import Record
from quorate.sim.checkers.register import (
    RegisterOperation,
    read,
    unknown_write,
    update,
    write,
)
from quorate.sim.checkers.search import is_linearizable
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster, id_of
from quorate.sim.machine import Machine
from tests.simulation import asking
from tests.simulation.asking import Handle

KEY: Final = b"k"
FIRST, SECOND, THIRD = range(3)
REQUEST: Final = 17
OTHER_REQUEST: Final = 18
WRITING: Final = (PrepareRows, AcceptRows, Mutate)
MOVING: Final = (Mutate, AcceptRows)
"""With the ballot that needs no promise."""
SKEW_MS: Final = 500
BEHIND_MS: Final = 400
LATER_MS: Final = 2_000
"""By then all that is late has come, and nothing is repaired any more. And what is as old was there
before a request was asked, whatever the clocks say."""
SEEDS: Final = range(3)


class Budget:
    """Lets the first node send so many messages, and has it do nothing from then on."""

    def __init__(self, cluster: SimCluster, count: int) -> None:
        self._cluster = cluster
        self._left = count
        self.sent: list[type[Message]] = []
        self.is_spent = False
        self._arrived = 0
        cluster.observers.append(self)

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Take from what is sent what is too much."""
        if machine is self._cluster.machines[FIRST]:
            for peer, messages in list(effects.sends.items()):
                effects.sends[peer] = list(self._within(messages))
            if self.is_spent:
                self._cluster.pause(FIRST)
            return
        for event in machine.events:
            if isinstance(event, PeerFrame) and event.peer == id_of(FIRST):
                self._arrived += sum(isinstance(each, WRITING) for each in event.frame.messages)

    def _within(self, messages: list[Message]) -> Iterator[Message]:
        for message in messages:
            if isinstance(message, WRITING):
                self.is_spent = self.is_spent or not self._left
                if not self.is_spent:
                    self._left -= 1
                    self.sent.append(type(message))
            if self.is_spent:
                return
            yield message

    def run(self, asked: Handle) -> None:
        """Go on until it has sent them, or all that a request takes, and they have arrived. Then it
        dies."""
        cluster = self._cluster
        cluster.run_until(lambda: self.is_spent or asked.result is not None)
        if not self.is_spent:
            cluster.run(LATER_MS)
        cluster.run_until(lambda: self._arrived == len(self.sent))
        cluster.kill(FIRST)
        cluster.observers.remove(self)


def _deaths(
    seed: int,
    given: Callable[[SimCluster], None],
    ask: Callable[[SimCluster], Handle],
    rounds: tuple[type[Message], ...] = WRITING,
) -> Iterator[tuple[SimCluster, Handle]]:
    """Clusters whose first node died with what it was asked, each after one message more, up to the
    last of these rounds."""
    count, is_last = 0, False
    while not is_last:
        cluster = SimCluster(seed, 3, max_clock_skew_ms=SKEW_MS)
        cluster.run(LATER_MS)
        given(cluster)
        budget = Budget(cluster, count)
        asked = ask(cluster)
        budget.run(asked)
        is_last = not budget.is_spent
        yield cluster, asked
        count += 1
    assert set(budget.sent) == set(rounds), "it died between these"
    assert asked.done_ms is not None


def _assert_settled(cluster: SimCluster, value: bytes) -> Record:
    """When the first is back, all hold the same, and readers anywhere get it."""
    cluster.restart(FIRST)
    cluster.run(LATER_MS)
    assert [asking.value(cluster, index, KEY) for index in range(3)] == [value] * 3
    held = [asking.held(cluster, index, KEY) for index in range(3)]
    assert held[0] is not None
    assert held == [held[0]] * 3
    return held[0]


def _again(cluster: SimCluster, index: int, edit: Edit, before: Handle) -> Handle:
    """The same request, asked once more."""
    since_ms = EPOCH_MS + int(before.asked_ms)
    return asking.update(cluster, index, KEY, edit, request=REQUEST, since_ms=since_ms)


# --- a counter ----------------------------------------------------------------------------------


def _increased(found: Record | None) -> Edited:
    assert found is not None
    assert found.value is not None
    return Edited(b"%d" % (int(found.value) + 1))


def _zero(cluster: SimCluster) -> None:
    asking.must_put(cluster, SECOND, KEY, b"0")
    cluster.run(LATER_MS)


def _increment(cluster: SimCluster) -> Handle:
    return asking.update(cluster, FIRST, KEY, _increased, request=REQUEST)


@pytest.mark.parametrize("through", [(SECOND,), (SECOND, THIRD)])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_increment_asked_again_counts_once(seed: int, through: tuple[int, ...]) -> None:
    """Also where two nodes are asked at once."""
    for cluster, dead in _deaths(seed, _zero, _increment):
        again = [_again(cluster, index, _increased, dead) for index in through]
        asking.finish(cluster, *again)
        results = [each.of(UpdateResult) for each in again]
        done = [each for each in results if not each.is_repeated]
        assert len(done) <= int(dead.result is None)
        assert [each.before and each.before.value for each in done] == [b"0"] * len(done)
        assert [each.after and each.after.value for each in results] == [b"1"] * len(results)
        assert asking.value(cluster, THIRD, KEY) == b"1"
        _assert_settled(cluster, b"1")
        last = _again(cluster, FIRST, _increased, dead)
        asking.finish(cluster, last)
        assert last.of(UpdateResult).is_repeated
        assert asking.value(cluster, SECOND, KEY) == b"1"


# --- a lock -------------------------------------------------------------------------------------


def _taken_by(holder: bytes) -> Edit:
    """As `QUORATE.LEASE ACQUIRE` and `SET NX PX`."""
    expires_ms = EPOCH_MS + 100 * LATER_MS
    return lambda found: Edited(holder, expires_ms) if found is None else None


def _lock(cluster: SimCluster) -> Handle:
    return asking.update(cluster, FIRST, KEY, _taken_by(b"dead"), request=REQUEST)


def _try(cluster: SimCluster, index: int) -> UpdateResult:
    """Another client tries to take the lock."""
    handle = asking.update(cluster, index, KEY, _taken_by(b"other"), request=OTHER_REQUEST)
    asking.finish(cluster, handle)
    return handle.of(UpdateResult)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lock_that_was_asked_for_again_is_held_under_one_token(seed: int) -> None:
    for cluster, dead in _deaths(seed, lambda _: None, _lock):
        again = _again(cluster, SECOND, _taken_by(b"dead"), dead)
        asking.finish(cluster, again)
        result = again.of(UpdateResult)
        assert result.after is not None
        assert result.after.value == b"dead"
        if isinstance(dead.result, UpdateResult):
            assert result.is_repeated
            assert dead.result.after is not None
            assert result.after.version == dead.result.after.version
        assert _try(cluster, THIRD).after is None
        assert _assert_settled(cluster, b"dead").version == result.after.version
        assert _try(cluster, FIRST).after is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lock_that_another_tries_meanwhile_has_one_holder(seed: int) -> None:
    holders = set()
    for cluster, dead in _deaths(seed, lambda _: None, _lock):
        other = _try(cluster, THIRD)
        again = _again(cluster, SECOND, _taken_by(b"dead"), dead)
        asking.finish(cluster, again)
        result = again.of(UpdateResult)
        held = other.after or result.after
        assert held is not None
        assert held.value is not None
        if other.after is None:
            assert result.is_repeated, "another found that it was there"
        else:
            assert dead.result is None
            assert result.after is None
        assert held.version == _assert_settled(cluster, held.value).version
        holders.add(held.value)
    assert holders == {b"dead", b"other"}


# --- a put that is moved ------------------------------------------------------------------------


def _appended(found: Record | None) -> Edited:
    assert found is not None
    assert found.value is not None
    return Edited(found.value + b"+")


def _overtaken(cluster: SimCluster) -> None:
    """The first has a slow clock, and hears nothing of a write that is finished."""
    asking.must_put(cluster, SECOND, KEY, b"old", w=3)
    cluster.run(LATER_MS)
    cluster.machines[FIRST].clock.offset_ms = -BEHIND_MS
    cluster.cut(SECOND, FIRST)
    cluster.cut(THIRD, FIRST)
    cluster.run(20)
    asking.must_put(cluster, SECOND, KEY, b"finished")


def _move(cluster: SimCluster) -> Handle:
    """It holds its own put, one is ahead of that, and one is silent."""
    handle = asking.put(cluster, FIRST, KEY, b"moved")
    cluster.run(20)
    cluster.mend(SECOND, FIRST)
    return handle


def _seen(handle: Handle) -> list[RegisterOperation]:
    """What the client of a request saw, and what may have become of it."""
    start, end, result = handle.asked_ms, handle.done_ms, handle.result
    if end is None:
        return unknown_write(start, b"moved")
    if isinstance(result, PutResult):
        return write(start, end, b"moved", result.version, is_moved=result.moved)
    if isinstance(result, GetResult):
        assert result.record is not None
        return [read(start, end, result.record.value, result.record.version)]
    assert isinstance(result, UpdateResult)
    assert result.before is not None
    assert result.after is not None
    before, after = result.before, result.after
    return [update(start, end, before.value, after.value, after.version, base=before.version)]


def _finished(cluster: SimCluster, *handles: Handle) -> list[RegisterOperation]:
    asking.finish(cluster, *handles)
    return [op for handle in handles for op in _seen(handle)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_put_that_was_being_moved_takes_effect_at_one_place_and_none_built_on_it_is_lost(
    seed: int,
) -> None:
    for cluster, dead in _deaths(seed, _overtaken, _move, MOVING):
        asking.heal(cluster)
        assert dead.result is None or dead.of(PutResult).moved
        # What was there before is over: whatever it was, it is where the story begins.
        seen = [*write(-2, -1, b"finished"), *_seen(dead)]
        seen += _finished(cluster, asking.get(cluster, THIRD, KEY))
        seen += _finished(cluster, asking.update(cluster, SECOND, KEY, _appended))
        seen += _finished(cluster, asking.get(cluster, THIRD, KEY))
        cluster.restart(FIRST)
        cluster.run(LATER_MS)
        for index in range(3):
            seen += _finished(cluster, asking.get(cluster, index, KEY))
        seen += _finished(cluster, asking.put(cluster, SECOND, KEY, b"moved"))
        seen += _finished(cluster, asking.get(cluster, FIRST, KEY))
        assert is_linearizable(seen)
        assert seen[-1].value == b"moved"
