# SPDX-License-Identifier: GPL-3.0-or-later
"""Many reads of one step: whom they ask, so that few frames are sent and no peer has too much."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from quorate.core.exchanges.outbox import ITEM_BYTES, SHARED_BYTES_MAX
from quorate.core.topology.peer import Peer
from quorate.core.values.events import Event, Get, Put
from quorate.core.values.messages import Read, ReadAnswer
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.read_stage import outsider, three

KEYS = [b"key%d" % number for number in range(400)]


def _others(alone: Alone, key: bytes) -> tuple[Peer, ...]:
    return alone.node.membership.current().partitions[partition_of(row_of(key))].others


def _gets(keys: list[bytes]) -> list[Event]:
    return [Get(Asker(), key) for key in keys]


def _asked(alone: Alone, index: int) -> int:
    """How many questions peer `index` was asked since it last answered; it answers them."""
    count = 0
    for read in alone.take(index, Read):
        count += len(read.full) + len(read.brief)
        versions = [ABSENT] * len(read.brief)
        alone.hear(index, ReadAnswer(read.batch, [None] * len(read.full), versions))
    return count


def test_all_reads_of_a_step_ask_one_peer_where_one_will_do() -> None:
    alone = three()
    assert len({_others(alone, key)[0] for key in KEYS[:50]}) == 2, "they prefer different ones"
    alone.step(*_gets(KEYS[:50]))
    assert sorted(_asked(alone, index) for index in (1, 2)) == [0, 50]


def test_reads_follow_the_writes_of_their_step() -> None:
    """Three of four peers hold the key that is written, so two of these hold any other."""
    alone, _ = outsider()
    holders = _others(alone, KEYS[0])
    alone.step(Put(Asker(), KEYS[0], b"v"), *_gets(KEYS[1:50]))
    (spared,) = {alone.peer(index) for index in range(1, 5)} - set(holders)
    asked = {alone.peer(index): _asked(alone, index) for index in range(1, 5)}
    assert asked.pop(spared) == 0
    assert sum(asked.values()) == 49 * 2


def test_no_slower_peer_is_asked_for_the_sake_of_a_frame() -> None:
    alone, _ = outsider()
    slow = _others(alone, KEYS[0])[0]
    slow.speed = 1
    keys = [key for key in KEYS[1:] if slow in _others(alone, key)]
    alone.step(Put(Asker(), KEYS[0], b"v"), *_gets(keys[:50]))
    asked = {alone.peer(index): _asked(alone, index) for index in range(1, 5)}
    assert asked.pop(slow) == 0
    assert sum(asked.values()) == 50 * 2


@pytest.mark.parametrize("hot", [0.0, 0.5])
def test_over_many_steps_each_peer_is_asked_as_much_as_the_layout_prefers_it(hot: float) -> None:
    """Where half of all reads are of one key, too."""
    alone, random = three(), Random(1)
    asked, preferred = Counter[int](), Counter[Peer]()
    for _ in range(400):
        keys = [KEYS[0] if random.random() < hot else random.choice(KEYS) for _ in range(8)]
        preferred.update([_others(alone, key)[0] for key in keys])
        alone.step(*_gets(keys))
        for index in (1, 2):
            asked[index] += _asked(alone, index)
    assert asked.total() == 400 * 8
    for index in (1, 2):
        assert abs(asked[index] - preferred[alone.peer(index)]) < 0.1 * asked.total()


def test_what_a_step_asks_beyond_what_a_frame_costs_is_spread() -> None:
    """Else one peer would have all the work of a large step, and its link all the bytes."""
    alone = three()
    count = 3 * SHARED_BYTES_MAX // ITEM_BYTES
    alone.step(*_gets([KEYS[number % len(KEYS)] for number in range(count)]))
    assert min(_asked(alone, index) for index in (1, 2)) > count // 6


def test_the_next_step_chooses_anew() -> None:
    alone = three()
    first = {
        peer: next(key for key in KEYS if _others(alone, key)[0] is peer)
        for peer in _others(alone, KEYS[0])
    }
    for peer, key in first.items():
        alone.step(*_gets([key]))
        counts = {alone.peer(index): _asked(alone, index) for index in (1, 2)}
        assert counts[peer] == 1
