# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers with read-modify-writes: the order of versions and the search agree with each other,
with whoever reads a history, and with trying every order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations, permutations, product
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.values.versions import pack_version, successor
from quorate.sim.checkers import prospects
from quorate.sim.checkers.register import (
    Content,
    ContentEdit,
    Nothing,
    RegisterOperation,
    by_version,
    content_of,
    explains,
    fits,
    read,
    unknown_update,
    unknown_write,
    update,
    write,
)
from quorate.sim.checkers.search import Undecided, has_order, is_linearizable
from tests.unit.sim.checkers.histories import Told, told

Order = tuple[RegisterOperation, ...]
TOLD = list(told())


def _orders(history: list[RegisterOperation]) -> Iterator[Order]:
    """Every order that explains a history, by brute force."""
    must = [op for op in history if op.must]
    may = [op for op in history if not op.must]
    for count in range(len(may) + 1):
        for chosen in combinations(may, count):
            yield from filter(_is_right, permutations([*must, *chosen]))


def _is_right(order: Order) -> bool:
    for place, op in enumerate(order):
        if any(later.end < op.start for later in order[place + 1 :]):
            return False
    return bool(_reached(order, None, is_first=False))


def _reached(order: Order, content: Content, *, is_first: bool) -> bool:
    """Whether all of an order fits what there is, whatever expires when."""
    if not order:
        return True
    op, rest = order[0], order[1:]
    if op.is_read:
        return fits(op.value, content) and _reached(rest, content, is_first=is_first)
    assert not isinstance(op.value, Nothing)
    if op.edit is None and op.is_blind:
        return _reached(rest, op.value, is_first=op.is_first)
    if is_first:
        return False
    if op.edit is None:
        return fits(op.found, content) and _reached(rest, op.value, is_first=False)
    made = {op.edit(content), op.edit(None) or content if type(content) is tuple else content}
    return any(_reached(rest, each, is_first=False) for each in made)


def _stamped(order: Order) -> list[RegisterOperation]:
    """With the versions that a store gives which does it in this order."""
    version = b""
    found = []
    for number, op in enumerate(order, 1):
        if not op.is_read:
            is_new = op.is_blind or not version
            version = pack_version(number, 1) if is_new else successor(version)
            version = successor(version) if is_new and not op.is_blind else version
        is_known = op.must and type(op.value) is not Nothing
        found.append(op._replace(version=version) if is_known else op)
    return found


def _unused(history: list[RegisterOperation], order: Order) -> list[RegisterOperation]:
    rest = list(history)
    for op in order:
        rest.remove(op)
    return rest


def _is_ordered(history: list[RegisterOperation]) -> bool:
    return explains(by_version(history), history)


def test_there_are_enough_histories_of_either_kind() -> None:
    verdicts = [each.is_fine for each in TOLD]
    assert min(verdicts.count(True), verdicts.count(False)) >= 15
    assert len({each.name for each in TOLD}) == len(TOLD)


@pytest.mark.parametrize("history", TOLD, ids=[each.name for each in TOLD])
def test_a_told_history_is_what_it_says(history: Told) -> None:
    ops = history.operations
    order = next(_orders(ops), None)
    assert (order is not None) is history.is_fine
    assert has_order(ops) is history.is_fine
    assert is_linearizable(ops) is history.is_fine
    if order is not None:
        assert _is_ordered([*_stamped(order), *_unused(ops, order)])
    else:
        must = tuple(op for op in ops if op.must)
        for claimed in permutations(must):
            unused = [op for op in ops if not op.must]
            assert not _is_ordered([*_stamped(claimed), *unused])


# --- drawn ones --------------------------------------------------------------------------------


def _appended(token: bytes, content: Content) -> Content:
    value, expires_ms = content if type(content) is tuple else (content, 0)
    assert value is None or isinstance(value, bytes)
    return content_of((value or b"") + token, expires_ms)


def _expiring(expires_ms: int, content: Content) -> Content:
    value = content[0] if type(content) is tuple else content
    assert value is None or isinstance(value, bytes)
    return None if value is None else content_of(value, expires_ms)


def _swapped(old: Content, new: Content, content: Content) -> Content:
    return new if content == old else content


def _taken(content: Content) -> Content:
    del content
    return None


def _locked(token: bytes, content: Content) -> Content:
    return token if content is None else content


class _Grows:
    """An edit of which it is known that it only grows what it finds."""

    def __init__(self, edit: ContentEdit, compared: bytes | None = None) -> None:
        self._edit = edit
        self.compared = compared

    def __call__(self, content: Content) -> Content:
        return self._edit(content)


_TAKE = _Grows(_taken)
_GROWING = [
    _TAKE,
    _TAKE,
    _Grows(partial(_appended, b"b")),
    _Grows(partial(_appended, b"c")),
    _Grows(partial(_expiring, 5)),
    _Grows(partial(_expiring, 0)),
    _Grows(partial(_locked, b"a")),
    _Grows(partial(_swapped, b"a", b"ab"), b"a"),
    _Grows(partial(_swapped, b"x", None), b"x"),
]
_OTHERS = [
    partial(_swapped, b"a", b"b"),
    partial(_swapped, None, (b"a", 5)),
    partial(_swapped, (b"a", 5), b"x"),
    partial(_appended, b"b"),
]
_CONTENTS = st.sampled_from([None, b"a", b"b", b"ab", b"x", (b"a", 5), (b"ab", 5)])
_FOUNDS = st.sampled_from([None, b"a", b"b", (b"a", 5), Nothing(3), Nothing(9)])


@st.composite
def _operations(draw: st.DrawFn) -> list[RegisterOperation]:
    start, length = draw(st.integers(0, 5)), draw(st.integers(0, 3))
    kind = draw(
        st.sampled_from(
            ["read", "nothing", "write", "unknown", "moved", *["update"] * 2, *["edit"] * 3]
        )
    )
    content = draw(_CONTENTS)
    value, expires_ms = content if type(content) is tuple else (content, 0)
    assert value is None or isinstance(value, bytes)
    if kind == "read":
        return [read(start, start + length, value, expires_ms=expires_ms)]
    if kind == "nothing":
        return [read(start, start + length, Nothing(draw(st.sampled_from([3, 9]))))]
    if kind == "unknown":
        return unknown_write(start, value, expires_ms=expires_ms)[: draw(st.integers(1, 2))]
    if kind == "update":
        return [update(start, start + length, draw(_FOUNDS), content)]
    if kind == "edit":
        edits: list[ContentEdit] = [*_GROWING] if draw(st.integers(0, 3)) else [*_OTHERS]
        once = unknown_update(start, draw(st.sampled_from(edits)))
        return [once._replace(end=start + length) if draw(st.booleans()) else once]
    is_moved = kind == "moved"
    return write(start, start + length, value, expires_ms=expires_ms, is_moved=is_moved)


_HISTORIES = st.lists(_operations(), max_size=5).map(
    lambda drawn: [op for ops in drawn for op in ops][:5]
)


@settings(max_examples=600)
@given(_HISTORIES)
def test_the_search_agrees_with_trying_every_order(history: list[RegisterOperation]) -> None:
    order = next(_orders(history), None)
    assert has_order(history) is (order is not None)


@settings(max_examples=300)
@given(_HISTORIES, st.integers(0, 4))
def test_it_agrees_though_there_is_too_much_to_look_at(
    history: list[RegisterOperation], outcomes_max: int
) -> None:
    order = next(_orders(history), None)
    with patch.object(prospects, "OUTCOMES_MAX", outcomes_max):
        assert has_order(history) is (order is not None)


@settings(max_examples=600)
@given(_HISTORIES, st.randoms(use_true_random=False))
def test_the_order_of_versions_never_says_yes_wrongly(
    history: list[RegisterOperation], random: Random
) -> None:
    must = [op for op in history if op.must]
    random.shuffle(must)
    claimed = [*_stamped(tuple(must)), *[op for op in history if not op.must]]
    if _is_ordered(claimed):
        assert has_order(history)
    assert is_linearizable(claimed) is has_order(history)


# --- long ones ---------------------------------------------------------------------------------


class _Played:
    """What clients see of a register that is one, and busy all the time."""

    def __init__(self, seed: int, *, operations: int, clients: int) -> None:
        self.random = random = Random(seed)
        self.found: list[RegisterOperation] = []
        self.content: Content = None
        self.version = b""
        effects: list[tuple[float, int, float, float, str]] = []
        ends = [0.0] * clients
        kinds = (
            "read",
            "read",
            "write",
            "delete",
            "unknown",
            *["append"] * 4,
            "edit",
            "swap",
            "take",
        )
        for number in range(operations):
            client = number % clients
            start = ends[client] + random.random() * 0.3
            end = ends[client] = start + random.choice((1, 1, 10)) * random.random()
            effects.append((random.uniform(start, end), number, start, end, random.choice(kinds)))
        for at, number, start, end, kind in sorted(effects):
            del at
            self._play(number, start, end, kind)

    def _play(self, number: int, start: float, end: float, kind: str) -> None:
        before, value, known = self.content, b"%d." % number, self.version
        assert before is None or isinstance(before, bytes)
        if kind == "read":
            self.found.append(read(start, end, before, self.version))
        elif kind in ("write", "delete"):
            self._write(number, value if kind == "write" else None)
            assert not isinstance(self.content, tuple)
            self.found += write(start, end, self.content, self.version)
        elif kind == "unknown":
            self.found += unknown_write(start, value)
            if self.random.random() < 0.5:
                self._write(number, value)
        elif kind == "edit":
            self.found.append(unknown_update(start, partial(_appended, value)))
            if self.random.random() < 0.7:
                self._link(_appended(value, before))
        elif kind == "append" or (kind == "take" and before is None):
            self._link(_appended(value, before))
            found = Nothing() if before is None else before
            base = None if before is None else known
            self.found.append(update(start, end, found, self.content, self.version, base=base))
        elif kind == "take":
            self.found.append(read(start, end, before, self.version))
        elif before is None:
            self.found.append(read(start, end, Nothing()))
        else:
            self._link(None)
            self.found.append(update(start, end, before, None, self.version, base=known))

    def _write(self, number: int, value: bytes | None) -> None:
        # Stamps are in the order of effects.
        self.stamps = getattr(self, "stamps", 0) + 1
        self.content, self.version = value, pack_version(self.stamps, number)

    def _link(self, content: Content) -> None:
        # What is built on nothing has the version of no record as its base.
        self.content, self.version = (
            content,
            successor(self.version or bytes(14), self.random.randrange(9)),
        )


@pytest.mark.parametrize("seed", range(12))
def test_a_sound_history_of_any_length_needs_no_search(seed: int) -> None:
    played = _Played(seed, operations=400, clients=20).found
    assert _is_ordered(played)
    assert is_linearizable(played, states_max=0)


def test_who_appended_is_found_among_many_that_nobody_knows_of_and_that_set_an_expiry_before() -> (
    None
):
    first = pack_version(1, 1)
    base = successor(successor(first, 3), 4)
    edits = [
        *[partial(_expiring, 1_000 + each) for each in range(6)],
        *[partial(_appended, b"%d." % each) for each in range(100, 110)],
        partial(_appended, b"b."),
        partial(_appended, b"c."),
    ]
    history = [
        *write(0.0, 1.0, b"a.", first),
        *[unknown_update(1.0 + place / 100, edit) for place, edit in enumerate(edits)],
        update(2.0, 3.0, b"a.b.c.", b"a.b.c.d.", successor(base, 5), base=base),
    ]
    assert _is_ordered(history)


def test_who_deletes_what_was_read_at_its_first_stamp_finds_the_last() -> None:
    """A put and a GETDEL timed out. The put is seen, and then, by who tells no version, nothing."""
    put, seen = unknown_write(0, b"a"), read(2, 3, b"a", pack_version(1, 1))
    taken, nothing = unknown_update(1, _taken), read(4, 5, Nothing())
    later = write(6, 7, b"b", pack_version(2, 1))
    for history in ([*put, taken, seen, nothing], [*put, taken, seen, nothing, *later]):
        assert has_order(history)
        assert _is_ordered(history)
    # The first stamp alone is found by no update.
    history = [put[1], taken, seen, nothing]
    assert not has_order(history)
    assert not _is_ordered(history)
    assert _is_ordered([*history, unknown_write(1, None)[0]])


def test_what_expires_and_no_more_is_what_it_was() -> None:
    """An EXPIRE and a PERSIST timed out. In between somebody takes the value for nothing."""
    put, [other] = write(0, 1, b"a"), unknown_write(0, b"b")[:1]
    edits = [unknown_update(2, partial(_expiring, each)) for each in (5, 0)]
    reads = [read(3, 4, Nothing(9)), read(5, 6, b"a")]
    assert has_order([*put, other, *edits, *reads])
    assert not has_order([*put, other, edits[0], *reads])
    assert not has_order([*put, other, edits[1], *reads])


def test_what_nobody_saw_may_have_been_between_a_first_stamp_and_who_deleted() -> None:
    first, unseen = unknown_write(0, b"a")[1], unknown_write(3, b"x")[0]
    again = [*write(5, 6, b"a"), read(7, 8, b"a")]
    edits: list[ContentEdit] = [_taken, _TAKE]
    for edit, later in product(edits, ([], again)):
        history = [first, unknown_update(3, edit), read(1, 2, b"a"), read(4, 5, None), *later]
        assert not has_order(history)
        assert has_order([*history, unseen])


def test_an_update_finds_the_last_stamp_of_another_put_of_the_same() -> None:
    first, other = unknown_write(0, b"a")[1], unknown_write(3, b"a")
    history = [first, read(1, 2, b"a"), update(4, 5, b"a", b"b")]
    assert has_order([*history, other[0]])
    assert not has_order([*history, other[1]])


def test_where_there_is_too_much_to_look_at_an_edit_may_make_anything() -> None:
    expiring = [unknown_update(2, partial(_expiring, each)) for each in (5, 0)]
    history = [*write(0, 1, b"a"), *expiring, read(3, 4, Nothing(9)), read(5, 6, b"a")]
    with patch.object(prospects, "OUTCOMES_MAX", 1):
        assert has_order(history)
        assert not has_order([*history, read(7, 8, b"b")])


@pytest.mark.parametrize("taken", [_taken, _TAKE], ids=["any edit", "one that grows"])
def test_puts_that_nobody_saw_are_one_to_what_deletes_them(taken: ContentEdit) -> None:
    """Many puts and GETDELs timed out: what was seen is decided, whatever of them took effect."""
    unseen = [op for number in range(40) for op in unknown_write(2, b"%d." % number)]
    edits = [unknown_update(2, taken) for _ in range(8)]
    seen = [*write(0, 1, b"a."), read(1, 2, b"a."), *unseen, *edits]
    nothing = [read(3, 4, Nothing()), *write(5, 6, b"b."), read(7, 8, b"b."), read(9, 10, None)]
    assert has_order([*seen, *nothing], states_max=200)
    assert not has_order([*seen, *nothing, read(11, 12, b"a.")], states_max=2_000)
    assert not has_order([*seen, *nothing, read(11, 12, b"never written")], states_max=2_000)


@pytest.mark.parametrize("seed", range(6))
def test_one_lost_update_in_a_long_history_is_found(seed: int) -> None:
    played = _Played(seed, operations=60, clients=4).found
    place = next(
        place
        for place, op in enumerate(played)
        if not op.is_read and op.must and not op.is_blind and isinstance(op.found, bytes)
    )
    lost = played[place]
    assert lost.version is not None
    twin = lost._replace(value=b"twin", version=successor(lost.version, 900))
    try:
        assert not is_linearizable([*played, twin], states_max=20_000)
    except Undecided:
        assert not _is_ordered([*played, twin])
