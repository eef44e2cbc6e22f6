# SPDX-License-Identifier: GPL-3.0-or-later
"""What all peers together may ask of a node is bounded, beside what each may."""

from __future__ import annotations

from quorate.core.exchanges.outbox import STEP_BYTES_MAX, STEP_BYTES_MAX_ALL
from quorate.core.serving import (
    PUT_OFF_BYTES_MAX,
    PUT_OFF_BYTES_MAX_ALL,
)
from quorate.core.values.events import LinkRoom, PeerFrame
from quorate.core.values.messages import Frame, Mutate, Read, ReadAnswer
from quorate.core.values.slots import row_of
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, record_at

MIB = 1 << 20
ROW = row_of(b"k")


def _bytes_of(answers: list[ReadAnswer]) -> int:
    records = [record for answer in answers for record in answer.records]
    return sum(len(each.value) for each in records if each is not None and each.value is not None)


def test_what_a_step_answers_to_all_peers_is_bounded_too_and_they_are_served_by_turns() -> None:
    """A thousand peers that ask for 8 MiB each."""
    count = 20
    alone = Alone(count + 1, replication=count + 1)
    peers = range(1, count + 1)
    alone.link(*peers)
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    epoch = alone.node.membership.epoch
    asked = [PeerFrame(id_of(i), Frame(epoch, 0, [Read(2, [ROW] * 64, [])])) for i in peers]
    alone.step(*asked)
    got = dict.fromkeys(peers, 0)
    rounds = 0
    while alone.node.serving.put_off:
        now = {index: _bytes_of(alone.take(index, ReadAnswer)) for index in peers}
        assert sum(now.values()) <= STEP_BYTES_MAX_ALL + STEP_BYTES_MAX
        for index in peers:
            got[index] += now[index]
        alone.step(*[LinkRoom(peer.id) for peer in alone.node.serving.put_off])
        rounds += 1
        if rounds == 4:
            assert all(got.values()), "nobody waits for who asked for more"
    assert rounds > 16


def test_what_is_put_off_of_all_peers_is_bounded_too() -> None:
    count = 10
    alone = Alone(count + 1, replication=count + 1)
    alone.link(*range(1, count + 1))
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    asked = [ROW] * (PUT_OFF_BYTES_MAX // len(ROW) - 1_000)
    for index in range(1, count + 1):
        alone.hear(index, Read(2, [ROW] * 8, []), Read(3, asked, []))
        held = [each.bytes for each in alone.node.serving.put_off.values()]
        assert sum(held) <= PUT_OFF_BYTES_MAX_ALL
    assert alone.node.status().counters["peer_requests_dropped"] == count - 8
