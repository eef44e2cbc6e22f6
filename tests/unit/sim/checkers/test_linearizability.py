# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker itself: histories that anyone can judge, all short ones by brute force, long ones by
construction; and the same of the order that versions say, which must never say yes wrongly."""

from __future__ import annotations

from itertools import combinations, permutations, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.sim.checkers import linearizability
from quorate.sim.checkers.register import (
    RegisterOperation,
    by_version,
    explains,
    read,
    unknown_write,
    write,
)
from quorate.sim.checkers.search import Undecided, is_linearizable
from tests.unit.sim.checkers.told import (
    evidence,
    history,
    of_get,
    of_put,
)


@pytest.mark.parametrize(
    ("history", "is_fine"),
    [
        ([], True),
        ([read(0, 1, None)], True),
        ([read(0, 1, b"a")], False),
        ([*write(0, 1, b"a"), read(2, 3, b"a")], True),
        ([*write(0, 1, b"a"), read(2, 3, None)], False),
        ([*write(0, 3, b"a"), read(1, 2, None)], True),
        ([*write(0, 9, b"a"), read(1, 2, b"a"), read(3, 4, None)], False),
        ([*write(0, 1, b"a"), *write(2, 3, b"b"), read(4, 5, b"a")], False),
        ([*write(0, 3, b"a"), *write(1, 2, b"b"), read(4, 5, b"a")], True),
        ([*write(0, 1, b"a"), *write(2, 3, None), read(4, 5, None)], True),
        ([*unknown_write(0, b"a"), read(5, 6, None), read(7, 8, b"a")], True),
        ([*unknown_write(2, b"a"), read(0, 1, b"a")], False),
        # Seen, overwritten, seen again: only while it is being re-stamped.
        (
            [
                *write(0, 9, b"a", is_moved=True),
                *write(0, 9, b"b"),
                *[read(1, 2, b"a"), read(3, 4, b"b"), read(5, 6, b"a")],
            ],
            True,
        ),
        (
            [
                *write(0, 9, b"a"),
                *write(0, 9, b"b"),
                *[read(1, 2, b"a"), read(3, 4, b"b"), read(5, 6, b"a")],
            ],
            False,
        ),
        # Never after its put was answered.
        (
            [
                *write(0, 4, b"a", is_moved=True),
                *write(0, 9, b"b"),
                *[read(1, 2, b"a"), read(5, 6, b"b"), read(7, 8, b"a")],
            ],
            False,
        ),
    ],
)
def test_a_history_is_judged_as_anyone_would(
    history: list[RegisterOperation], is_fine: bool
) -> None:
    assert is_linearizable(history) is is_fine


def _slow(history: tuple[RegisterOperation, ...]) -> bool:
    """Try every order of everything that must be, and of everything that may."""
    must = [op for op in history if op.must]
    may = [op for op in history if not op.must]
    return any(
        _explains(order)
        for count in range(len(may) + 1)
        for chosen in combinations(may, count)
        for order in permutations([*must, *chosen])
    )


def _explains(order: tuple[RegisterOperation, ...]) -> bool:
    value: object = None
    for place, op in enumerate(order):
        if any(later.end < op.start for later in order[place + 1 :]):
            return False
        if op.is_read and op.value != value:
            return False
        value = op.value
    return True


def test_it_agrees_with_trying_every_order() -> None:
    spans = [(0.0, 1.0), (2.0, 3.0), (0.0, 3.0)]
    kinds = [(True, None), (True, b"a"), (True, b"b"), (False, b"a"), (False, b"b")]
    every = [RegisterOperation(*span, *kind) for span, kind in product(spans, kinds)]
    verdicts = set()
    for each in product(every, repeat=3):
        verdict = is_linearizable(each)
        assert verdict is _slow(each), each
        verdicts.add(verdict)
    assert verdicts == {True, False}


def _operation(start: int, length: int, value: bytes | None, kind: str) -> list[RegisterOperation]:
    if kind == "read":
        return [read(start, start + length, value)]
    if kind == "unknown":
        return unknown_write(start, value)[:1]
    if kind == "optional":
        return [RegisterOperation(start, start + length, False, value, must=False)]
    return write(start, start + length, value, is_moved=kind == "moved")


_OPERATIONS = st.builds(
    _operation,
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from([None, b"a", b"b"]),
    st.sampled_from(["read", "read", "write", "unknown", "optional", "moved"]),
)


@settings(max_examples=600)
@given(st.lists(_OPERATIONS, max_size=5))
def test_it_agrees_on_writes_that_take_effect_twice_or_never(
    drawn: list[list[RegisterOperation]],
) -> None:
    every = tuple(op for ops in drawn for op in ops)[:5]
    assert is_linearizable(every) is _slow(every)


# --- the order of versions ---------------------------------------------------------------------


def _is_ordered(history: list[RegisterOperation]) -> bool:
    return explains(by_version(history), history)


@pytest.mark.parametrize(
    ("history", "is_fine"),
    [
        ([], True),
        ([read(0, 1, None, b"")], True),
        ([read(0, 1, b"a", b"1")], False),
        ([*write(0, 1, b"a", b"1"), read(2, 3, b"a", b"1")], True),
        ([*write(0, 1, b"a", b"1"), read(2, 3, None, b"")], False),
        ([*write(0, 3, b"a", b"1"), read(1, 2, None, b"")], True),
        ([*write(0, 9, b"a", b"1"), read(1, 2, b"a", b"1"), read(3, 4, None, b"")], False),
        ([*write(0, 1, b"a", b"1"), *write(2, 3, b"b", b"2"), read(4, 5, b"a", b"1")], False),
        # Written at the same time: the versions say which came first.
        ([*write(0, 3, b"a", b"2"), *write(1, 2, b"b", b"1"), read(4, 5, b"a", b"2")], True),
        # They are wrong here, though some order is right.
        ([*write(0, 1, b"a", b"2"), *write(2, 3, b"b", b"1"), read(4, 5, b"b", b"1")], False),
        # A write that nobody read takes effect before the next one does.
        ([*write(0, 9, b"a", b"1"), *write(1, 2, b"b", b"2"), read(3, 4, b"b", b"2")], True),
        ([*write(0, 1, b"a", b"2"), *write(2, 3, b"b", b"1")], False),
        # The value of another version.
        ([*write(0, 1, b"a", b"1"), read(2, 3, b"b", b"1")], False),
        ([*write(0, 3, b"a", b"1"), *write(0, 3, b"b", b"1")], True),
        # One that is unknown, where it was read: at its first stamp and at its second.
        ([*unknown_write(0, b"a"), read(5, 6, b"a", b"1")], True),
        ([*unknown_write(7, b"a"), read(5, 6, b"a", b"1")], False),
        (
            [
                *unknown_write(0, b"a"),
                *write(0, 9, b"b", b"2"),
                *[read(1, 2, b"a", b"1"), read(3, 4, b"b", b"2"), read(5, 6, b"a", b"3")],
            ],
            True,
        ),
        # Seen, overwritten, seen again: only while it is being re-stamped.
        (
            [
                *write(0, 9, b"a", b"3", is_moved=True),
                *write(0, 9, b"b", b"2"),
                *[read(1, 2, b"a", b"1"), read(3, 4, b"b", b"2"), read(5, 6, b"a", b"3")],
            ],
            True,
        ),
        (
            [
                *write(0, 9, b"a", b"3"),
                *write(0, 9, b"b", b"2"),
                *[read(1, 2, b"a", b"1"), read(3, 4, b"b", b"2"), read(5, 6, b"a", b"3")],
            ],
            False,
        ),
        # Never after its put was answered.
        (
            [
                *write(0, 4, b"a", b"1", is_moved=True),
                *write(0, 9, b"b", b"2"),
                *[read(1, 2, b"a", b"1"), read(5, 6, b"b", b"2"), read(7, 8, b"a", b"3")],
            ],
            False,
        ),
        # Deletes all write the same: of those that may be meant, the one that ends first.
        (
            [
                *unknown_write(0, None),
                *write(0, 2, None, b"9", is_moved=True),
                *[*write(0, 1, b"a", b"1"), read(0, 1, None, b"2"), *write(0, 9, b"b", b"3")],
                *[read(4, 5, b"b", b"3"), read(6, 7, None, b"9")],
            ],
            False,
        ),
        (
            [
                *unknown_write(0, None),
                *write(0, 4, None, b"3", is_moved=True),
                *[*write(0, 1, b"a", b"1"), read(0, 1, None, b"2"), *write(4, 9, b"b", b"4")],
                *[read(4, 5, b"b", b"4"), read(6, 7, None, b"5")],
            ],
            True,
        ),
        # Where nothing is, or was deleted, a delete that nobody knows of changes nothing.
        ([read(0, 1, None, b"1"), *write(2, 3, None, b"2"), read(4, 5, None, b"3")], True),
    ],
)
def test_the_order_of_versions_is_held_against_what_clients_saw(
    history: list[RegisterOperation], is_fine: bool
) -> None:
    assert _is_ordered(history) is is_fine
    if is_fine:
        assert _slow(tuple(history))


def test_what_is_read_of_a_first_stamp_comes_no_sooner_than_the_one_read_before_it() -> None:
    """The delete that was over before the put began is not the one that was read after it."""
    early = write(0, 5, None, b"1", is_moved=True)
    put = write(6, 20, b"a", b"8", is_moved=True)
    late = write(7, 20, None, b"9", is_moved=True)
    reads = [read(0, 20, b"a", b"2"), read(0, 20, None, b"3")]
    assert _is_ordered([*early, *put, *late, *reads])


def test_an_order_needs_all_that_must_be_and_nothing_twice() -> None:
    [put], get = write(0, 9, b"a"), read(2, 3, b"a")
    maybe = unknown_write(0, b"a")[0]
    assert explains([put, get], [get, put])
    assert explains([maybe, get], [get, maybe])
    assert explains([], [maybe])
    assert not explains([put], [put, get])
    assert not explains([put, get, get], [put, get])
    assert not explains([maybe, maybe, get], [maybe, get])
    assert not explains([put, get], [get])


def _versioned(history: list[RegisterOperation], versions: list[int]) -> list[RegisterOperation]:
    """With whatever versions, where there are any."""
    return [
        op._replace(version=b"%d" % number) if op.must else op
        for op, number in zip(history, versions, strict=False)
    ]


@settings(max_examples=600)
@given(
    st.lists(_OPERATIONS, max_size=5),
    st.one_of(st.permutations(range(5)), st.lists(st.integers(0, 4), min_size=5, max_size=5)),
)
def test_what_it_accepts_is_linearizable(
    drawn: list[list[RegisterOperation]], versions: list[int]
) -> None:
    history = _versioned([op for ops in drawn for op in ops][:5], versions)
    assert _slow(tuple(history)) >= _is_ordered(history)
    assert is_linearizable(history) is _slow(tuple(history))


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_history_of_any_length_needs_no_search(seed: int) -> None:
    played = _played(seed, operations=1_000, clients=60)
    assert _is_ordered(played)
    assert is_linearizable(played, states_max=0)
    with pytest.raises(Undecided):
        is_linearizable(_without_versions(played), states_max=0)


def test_a_stale_read_is_no_order_whatever_its_version() -> None:
    played = _played(1, operations=300, clients=6)
    old = next(op for op in played if op.is_read and op.value is not None)
    late = max(op.end for op in played)
    for claimed in (b"", old.version, b"9 the highest"):
        assert not _is_ordered([*played, read(late + 1, late + 2, _value(old), claimed)])


# --- long histories ----------------------------------------------------------------------------


def _played(seed: int, *, operations: int, clients: int) -> list[RegisterOperation]:
    """What clients see of a register that is one, and busy all the time."""
    random = Random(seed)
    value, version = None, b""
    found: list[RegisterOperation] = []
    effects: list[tuple[float, int, float, float, str]] = []
    ends = [0.0] * clients
    for number in range(operations):
        client = number % clients
        start = ends[client] + random.random() * 0.3
        end = ends[client] = start + random.choice((1, 1, 10)) * random.random()
        kind = random.choice(("read", "read", "write", "delete", "unknown", "moved"))
        effects.append((random.uniform(start, end), number, start, end, kind))
        if kind == "moved":
            effects.append((random.uniform(start, end), number, start, end, "again"))
    effects.sort()
    last = {effect[1]: b"%09d" % place for place, effect in enumerate(effects)}
    for place, (_, number, start, end, kind) in enumerate(effects):
        if kind == "read":
            found.append(read(start, end, value, version))
        elif kind == "unknown":
            found += unknown_write(start, b"%d" % number)
            if random.random() < 0.5:
                value, version = b"%d" % number, b"%09d" % place
        else:
            value, version = None if kind == "delete" else b"%d" % number, b"%09d" % place
            if kind != "again":
                is_moved = kind == "moved"
                found += write(start, end, value, last[number], is_moved=is_moved)
    return found


def _value(op: RegisterOperation) -> bytes:
    assert isinstance(op.value, bytes)
    return op.value


def _without_versions(history: list[RegisterOperation]) -> list[RegisterOperation]:
    return [op._replace(version=None) for op in history]


@pytest.mark.parametrize("seed", range(5))
def test_a_long_history_of_one_hot_key_is_decided(seed: int) -> None:
    played = _without_versions(_played(seed, operations=500, clients=8))
    assert is_linearizable(played)
    late = next(op for op in reversed(played) if not op.is_read and op.must and op.value)
    stale = read(late.end + 20, late.end + 21, b"0 never written")
    assert not is_linearizable([*played, stale])


@pytest.mark.parametrize("seed", range(5))
def test_one_stale_read_in_a_long_history_is_found(seed: int) -> None:
    played = _without_versions(_played(seed, operations=300, clients=6))
    once = [op for op in played if op.must and not op.is_read and op.value is not None]
    restamped = {op.value for op in played if not op.must}
    old = next(op for op in once if op.value not in restamped)
    # Everyone has long seen something else by then.
    stale = read(old.end + 40, old.end + 40.01, _value(old))
    assert any(op.is_read and old.end < op.start < op.end < stale.start for op in played)
    assert not is_linearizable([*played, stale])


def test_a_search_that_takes_too_long_says_so() -> None:
    crowd = [op for number in range(9) for op in write(0, 9, b"%d" % number)]
    reads = [read(5, 9, _value(op)) for op in crowd]
    with pytest.raises(Undecided):
        is_linearizable([*crowd, *reads, read(10, 11, b"x")], states_max=10)
    played = history(
        *[of_put(b"%d" % number, 0, 9, number=number + 1) for number in range(9)],
        *[of_get(b"%d" % number, 5, 9, number=number + 1) for number in range(9)],
        of_get(b"x", 10, 11),
    )
    (found,) = linearizability.check(played, evidence(), states_max=10)
    assert "undecided after 10 states" in found.told
