# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node does for its peers, and what it refuses them."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.exchanges.outbox import MESSAGE_BYTES_MAX, ROW_BYTES, STEP_BYTES_MAX
from quorate.core.serving import PUT_OFF_BYTES_MAX
from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.wants import with_course
from quorate.core.turn import NOTE_AGAIN_MS
from quorate.core.values.events import (
    Effects,
    GetResult,
    LinkDown,
    LinkRoom,
    LocalGet,
    LocalPut,
    LocalResult,
    PeerFrame,
    PutResult,
    StorageState,
)
from quorate.core.values.messages import (
    Frame,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Pong,
    Read,
    ReadAnswer,
    ScannedRows,
    ScanRows,
    Whereabouts,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT, pack_version
from quorate.errors import DiskFull, InvalidRequest, KeyTooLarge, Outcome
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, Asker, record_at

ROW = row_of(b"k")
YEAR_MS = 365 * 86_400_000


@pytest.fixture
def alone() -> Alone:
    alone = Alone()
    alone.link(1, 2)
    return alone


def _mutated(alone: Alone, row: bytes, record: Record) -> Mutated:
    alone.hear(1, Mutate(7, [(row, record)]))
    (answer,) = alone.take(1, Mutated)
    assert answer.batch == 7
    return answer


def test_a_write_is_acknowledged_only_when_it_is_durable(alone: Alone) -> None:
    alone.syncs = False
    alone.hear(1, Mutate(7, [(ROW, record_at(0))]))
    assert alone.take(1, Mutated) == []
    alone.hear(2, Read(8, [ROW], []))
    assert alone.take(2, ReadAnswer) == [ReadAnswer(8, [None], [])]
    alone.sync()
    assert alone.take(1, Mutated) == [Mutated(7, [], [])]
    alone.hear(2, Read(9, [ROW], []))
    assert alone.take(2, ReadAnswer) == [ReadAnswer(9, [record_at(0)], [])]


def test_a_superseded_write_is_told_so_and_only_when_the_winner_is_durable(alone: Alone) -> None:
    alone.syncs = False
    alone.hear(2, Mutate(1, [(ROW, record_at(5))]))
    alone.hear(1, Mutate(7, [(ROW, record_at(4)), (ROW, record_at(6))]))
    assert alone.take(1, Mutated) == []
    alone.sync()
    assert alone.take(1, Mutated) == [Mutated(7, [(0, record_at(5).version)], [], denied=[0])]


def test_who_is_ahead_tells_whether_it_ever_held_what_it_is_told(alone: Alone) -> None:
    """It held 7 before 11, and never 9."""
    for ms in (7, 11):
        _mutated(alone, ROW, record_at(ms))
    alone.hear(1, Mutate(7, [(ROW, record_at(9)), (ROW, record_at(7)), (ROW, record_at(8))]))
    (answer,) = alone.take(1, Mutated)
    assert [index for index, _ in answer.superseded] == [0, 1, 2]
    assert answer.denied == [0, 2]


def test_of_what_an_earlier_process_held_nothing_is_known() -> None:
    first = Alone(3)
    first.link(1)
    for ms in (7, 11):
        _mutated(first, ROW, record_at(ms))
    again = Alone(3, disk=first.disk)
    again.link(1)
    assert not _mutated(again, ROW, record_at(9)).denied


def test_the_same_write_twice_is_acknowledged_twice(alone: Alone) -> None:
    """Duplicates are harmless."""
    assert _mutated(alone, ROW, record_at(0)) == _mutated(alone, ROW, record_at(0))


def _row_elsewhere() -> bytes:
    """A row that says another partition than its key belongs to."""
    return ((partition_of(ROW) + 1) % 1024).to_bytes(2, "big") + ROW[2:]


@pytest.mark.parametrize(
    ("row", "record", "reason"),
    [
        (ROW, record_at(YEAR_MS), "further ahead"),
        (ROW, record_at(1_001), "further ahead"),
        (ROW, Record(b"\xff" * 14, b"v"), "further ahead"),
        (ROW, Record(bytes(14), b"v"), "no stamp"),
        (ROW, Record(pack_version(0, 5), b"v"), "no stamp"),
        (ROW, record_at(0, b"x" * 101), "too large"),
        (_row_elsewhere(), record_at(0), "not the key's"),
        (ROW[:3] + b"\1" + ROW[4:], record_at(0), "not the key's"),
    ],
)
def test_a_record_that_cannot_be_is_refused_and_leaves_no_trace(
    row: bytes, record: Record, reason: str
) -> None:
    alone = Alone(value_bytes_max=100)
    alone.link(1)
    before = alone.node.parts.clock.last
    answer = _mutated(alone, row, record)
    assert [index for index, _ in answer.refused] == [0]
    assert reason in answer.refused[0][1]
    assert alone.disk.get(row) is None
    assert alone.node.parts.clock.last == before, "the clock does not move"
    asker = Asker()
    alone.step(LocalPut(asker, row[4:], record))
    if row == ROW:
        assert isinstance(asker.result, InvalidRequest)


def test_one_refused_record_does_not_harm_its_neighbours(alone: Alone) -> None:
    items = [(ROW, record_at(1)), (ROW, record_at(YEAR_MS)), (ROW, record_at(2))]
    alone.hear(1, Mutate(7, items))
    (answer,) = alone.take(1, Mutated)
    assert [index for index, _ in answer.refused] == [1]
    assert alone.disk.get(ROW) == record_at(2)
    assert alone.node.parts.turn.counters["peer_writes_refused"] == 1


def test_a_stamp_at_the_guard_is_accepted(alone: Alone) -> None:
    assert _mutated(alone, ROW, record_at(1_000)) == Mutated(7, [], [])


def test_a_key_that_is_not_ours_is_neither_stored_nor_answered() -> None:
    """That there is "nothing here" would count as an answer of a replica."""
    alone = Alone(4)
    alone.link(1, 2)
    partitions = alone.node.membership.current().partitions
    keys = [b"%d" % number for number in range(99)]
    key = next(key for key in keys if not partitions[partition_of(row_of(key))].is_mine)
    row = row_of(key)
    assert _mutated(alone, row, record_at(0)).refused == [(0, "not a replica of this key")]
    alone.hear(1, Read(8, [row], [row]))
    assert alone.take(1, ReadAnswer) == [ReadAnswer(8, [None], [ABSENT], [row, row])]
    alone.hear(1, ScanRows(9, partition_of(row), b"", b"", 10))
    assert alone.take(1, ScannedRows) == [ScannedRows(9, [], more=False, failed=True)]


def test_a_peers_clock_too_far_ahead_is_noted_once_and_not_followed(alone: Alone) -> None:
    before = alone.node.parts.clock.last
    for _ in range(3):
        alone.hear(1, Pong(0), clock=(EPOCH_MS + YEAR_MS) << 16)
    assert alone.notes.count("peer_clock_too_far_ahead") == 1
    assert alone.node.parts.clock.last == before
    alone.hear(1, Pong(0), clock=(EPOCH_MS + 500) << 16)
    assert alone.node.parts.clock.last == (EPOCH_MS + 500) << 16
    alone.hear(1, Pong(0), clock=(EPOCH_MS + YEAR_MS) << 16)
    assert alone.notes.count("peer_clock_too_far_ahead") == 1, "not with every wink"
    alone.hear(1, Pong(0))
    alone.step(after_ms=NOTE_AGAIN_MS)
    alone.hear(1, Pong(0), clock=(EPOCH_MS + YEAR_MS) << 16)
    assert alone.notes.count("peer_clock_too_far_ahead") == 2


def test_requests_of_another_epoch_are_not_served(alone: Alone) -> None:
    alone.hear(1, Mutate(7, [(ROW, record_at(0))]), Read(8, [ROW], []), epoch=3)
    assert alone.disk.get(ROW) is None
    assert alone.take(1, Mutated) == []
    assert alone.take(1, ReadAnswer) == []
    assert alone.node.parts.turn.counters["requests_of_another_epoch"] == 2
    assert alone.take(1, OtherEpoch) == [OtherEpoch(2, [7, 8])]


def test_who_is_behind_is_sent_the_layout_ahead_of_all_else(alone: Alone) -> None:
    """Else it would refuse what it is asked in the same frame."""
    alone.put(b"k", b"v")
    alone.said.clear()
    layout = _move_on(alone)
    alone.hear(1, Read(8, [ROW], []), Pong(1), epoch=2)
    told, *others = alone.said[id_of(1)]
    assert told == OtherEpoch(3, [], layout.encode())
    assert OtherEpoch(3, [8]) in others
    assert any(isinstance(each, Mutate) for each in others), "the write is begun anew"
    alone.said.clear()
    alone.hear(1, Read(9, [ROW], []), Pong(1), epoch=2)
    assert alone.take(1, OtherEpoch) == [OtherEpoch(3, [9])], "it is told once"


def test_who_refuses_because_it_is_behind_is_sent_the_layout(alone: Alone) -> None:
    layout = _move_on(alone)
    alone.hear(1, OtherEpoch(2, []), epoch=2)
    assert alone.take(1, OtherEpoch) == [OtherEpoch(3, [], layout.encode())]
    alone.hear(1, OtherEpoch(3, []), epoch=3)
    assert alone.take(1, OtherEpoch) == [], "nothing to tell"
    alone.hear(1, OtherEpoch(2, []), epoch=3)
    assert alone.take(1, OtherEpoch) == [OtherEpoch(3, [], layout.encode())], "it did not take it"


def test_a_write_that_is_refused_for_its_epoch_is_begun_anew_under_the_newer_layout(
    alone: Alone,
) -> None:
    """With the same stamp, and without hints for those that refused it."""
    asker = alone.put(b"k", b"v")
    sent = [alone.take(index, Mutate)[0] for index in (1, 2)]
    newer = _next(alone)
    for index, mutate in zip((1, 2), sent, strict=True):
        alone.hear(index, OtherEpoch(3, [], newer.encode()), OtherEpoch(3, [mutate.batch]), epoch=3)
    assert alone.node.membership.layout == newer
    assert (asker.result, alone.node.hints.total) == (None, 0)
    (again,) = alone.take(1, Mutate)
    assert again.items == sent[0].items
    alone.hear(1, Mutated(again.batch, [], []))
    assert isinstance(asker.result, PutResult)
    alone.hear(1, OtherEpoch(4, [4711], b"nonsense"), epoch=4)
    assert alone.node.membership.layout == newer


def test_a_refusal_that_brings_the_newer_layout_itself_loses_nothing(alone: Alone) -> None:
    asker = alone.put(b"k", b"v")
    (mutate,) = alone.take(1, Mutate)
    alone.hear(1, OtherEpoch(3, [mutate.batch], _next(alone).encode()), epoch=3)
    assert (asker.result, alone.node.hints.total) == (None, 0)
    assert [again.items for again in alone.take(1, Mutate)] == [mutate.items]


def test_a_read_that_is_refused_for_its_epoch_is_begun_anew_under_the_newer_layout(
    alone: Alone,
) -> None:
    asker = alone.get(b"k", r=3)
    (read,) = alone.take(1, Read)
    newer = _next(alone)
    alone.hear(1, OtherEpoch(3, [], newer.encode()), OtherEpoch(3, [read.batch]), epoch=3)
    assert asker.result is None
    for index in (1, 2):
        (again,) = alone.take(index, Read)[-1:]
        count = len(again.full), len(again.brief)
        alone.hear(index, ReadAnswer(again.batch, [None] * count[0], [ABSENT] * count[1]))
    assert asker.result == GetResult(None, 3)


def _next(alone: Alone) -> Layout:
    """A layout that may follow that of the node, of the same replicas."""
    return with_course(alone.node.membership.current().layout, Course.SOON)


def _move_on(alone: Alone) -> Layout:
    """The node learns of the next epoch."""
    layout = _next(alone)
    alone.node.membership.adopt(layout)
    return layout


def test_a_node_without_a_layout_survives_requests_of_peers_without_one() -> None:
    alone = Alone(listed=[1])
    alone.link(1)
    assert alone.node.membership.epoch == 0
    requests = Mutate(7, [(ROW, record_at(0))]), Read(8, [ROW], [ROW]), ScanRows(9, 0, b"", b"", 1)
    alone.hear(1, *requests, epoch=0)
    assert alone.disk.get(ROW) is None
    assert alone.take(1, ReadAnswer) == []


def test_damaged_bytes_are_no_answer(alone: Alone) -> None:
    """I23."""
    _mutated(alone, ROW, record_at(0))
    assert alone.disk.rot(ROW, Random(1))
    alone.hear(1, Read(8, [ROW], [row_of(b"other")]))
    assert alone.take(1, ReadAnswer) == [ReadAnswer(8, [None], [ABSENT], [ROW])]


def test_a_full_disk_refuses_writes_and_serves_reads(alone: Alone) -> None:
    _mutated(alone, ROW, record_at(0))
    alone.step(StorageState("disk_full", "no space"))
    assert _mutated(alone, ROW, record_at(1)) == Mutated(7, [], [], busy=True)
    alone.hear(1, Read(8, [], [ROW]))
    assert alone.take(1, ReadAnswer) == [ReadAnswer(8, [], [record_at(0).version])]
    asker = Asker()
    alone.step(LocalPut(asker, b"k", record_at(2)))
    assert isinstance(asker.result, DiskFull)
    assert asker.result.outcome is Outcome.NOT_APPLIED
    alone.step(StorageState())
    assert _mutated(alone, ROW, record_at(1)) == Mutated(7, [], [])


def test_many_large_records_are_answered_in_pieces() -> None:
    """A frame has a maximum: one answer for all would never arrive."""
    alone = Alone()
    alone.link(1)
    rows = [row_of(b"%d" % n) for n in range(10)]
    value = bytes(MESSAGE_BYTES_MAX // 2)
    for row in rows:
        _mutated(alone, row, record_at(0, value))
    alone.hear(1, Read(8, rows, rows[:2]))
    answers = alone.take(1, ReadAnswer)
    assert [len(answer.records) for answer in answers] == [2, 2, 2, 2, 2, 0]
    assert [len(answer.versions) for answer in answers] == [0, 0, 0, 0, 0, 2]


def test_a_ping_is_answered_at_once_and_tells_of_members(alone: Alone) -> None:
    effects: Effects = alone.hear(
        1, Ping(3, [Whereabouts(0, 0, "http://n7:8000")], keys=5, bytes_used=6)
    )
    assert alone.take(1, Pong) == [Pong(3)]
    assert effects.peers == ["http://n1:8000", "http://n2:8000", "http://n7:8000"]
    status = alone.node.status()
    (view,) = [member for member in status.members if member.url == "http://n1:8000"]
    assert (view.keys, view.bytes) == (5, 6)


def test_an_answer_that_does_not_fit_is_noted_and_not_believed(alone: Alone) -> None:
    asker = alone.get(b"k", r=3)
    (read,) = alone.take(1, Read)
    alone.hear(1, Mutated(read.batch, [], []))
    assert "peer_answered_out_of_shape" in alone.notes
    assert asker.result is not None, "it counts as no answer, and there is no fourth replica"


def test_a_local_write_is_answered_when_it_is_durable(alone: Alone) -> None:
    alone.syncs = False
    askers = [Asker(), Asker()]
    alone.step(LocalPut(askers[0], b"k", record_at(2)), LocalPut(askers[1], b"k", record_at(1)))
    assert askers[0].results == []
    alone.sync()
    assert askers[0].result == LocalResult(record_at(2), applied=True)
    assert askers[1].result == LocalResult(record_at(2), applied=False)
    asker = Asker()
    alone.step(LocalGet(asker, b"k"))
    assert asker.result == LocalResult(record_at(2))


def test_a_local_key_beyond_the_limit_is_refused(alone: Alone) -> None:
    """Its row would be no row to the peers that list it."""
    asker = Asker()
    alone.step(LocalPut(asker, b"k" * 1_025, record_at(0)))
    assert isinstance(asker.result, KeyTooLarge)


# --- answers that are longer than what asks for them ---------------------------------------------

MIB = 1 << 20


def _bytes_of(answers: list[ReadAnswer]) -> int:
    return sum(
        len(record.value)
        for answer in answers
        for record in answer.records
        if record is not None and record.value is not None
    )


def test_what_a_step_answers_to_one_peer_is_bounded_and_the_rest_follows_as_it_reads(
    alone: Alone,
) -> None:
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    alone.hear(1, Read(2, [ROW] * 100, [ROW] * 3), Read(3, [ROW], []))
    assert [peer.id for peer in alone.node.serving.put_off] == [id_of(1)]
    answers = alone.take(1, ReadAnswer)
    assert STEP_BYTES_MAX - 2 * MIB <= _bytes_of(answers) <= STEP_BYTES_MAX + MIB
    alone.hear(1, Read(4, [ROW], []))
    assert alone.take(1, ReadAnswer) == [], "in order, behind what waits"
    rounds = 1
    while alone.node.serving.put_off:
        alone.step(LinkRoom(id_of(1)))
        more = alone.take(1, ReadAnswer)
        assert 0 < _bytes_of(more) <= STEP_BYTES_MAX + MIB
        answers += more
        rounds += 1
    assert rounds > 10
    assert [answer.batch for answer in answers] == sorted(answer.batch for answer in answers)
    assert sum(len(answer.records) for answer in answers) == 102
    assert [len(answer.versions) for answer in answers if answer.versions] == [3]


def test_other_peers_are_served_meanwhile(alone: Alone) -> None:
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    alone.hear(1, Read(2, [ROW] * 100, []))
    alone.hear(2, Read(3, [ROW], []))
    assert _bytes_of(alone.take(2, ReadAnswer)) == MIB


def test_rows_that_are_looked_for_count_whatever_is_found(alone: Alone) -> None:
    """Else one frame could hold the node for seconds."""
    count = STEP_BYTES_MAX // ROW_BYTES
    alone.hear(1, Read(1, [ROW] * count, [ROW] * count))
    assert sum(len(answer.records) for answer in alone.take(1, ReadAnswer)) == count
    alone.step(LinkRoom(id_of(1)))
    assert [len(answer.versions) for answer in alone.take(1, ReadAnswer)] == [count]
    assert not alone.node.serving.put_off


def test_pages_of_keys_are_bounded_alike(alone: Alone) -> None:
    scans = [ScanRows(number, 0, b"", b"", 1000) for number in range(20_000)]
    alone.hear(1, *scans)
    told = alone.take(1, ScannedRows)
    assert 0 < len(told) < len(scans)
    while alone.node.serving.put_off:
        alone.step(LinkRoom(id_of(1)))
        told += alone.take(1, ScannedRows)
    assert [each.batch for each in told] == list(range(len(scans)))


@pytest.mark.parametrize(("full", "brief"), [(1_000_000, 0), (0, 1_000_000), (500_000, 500_000)])
def test_what_is_put_off_is_bounded_and_the_rest_is_dropped_and_counted(
    alone: Alone, full: int, brief: int
) -> None:
    for number in range(10):
        alone.hear(1, Read(number, [ROW] * full, [ROW] * brief))
    dropped = alone.node.status().counters["peer_requests_dropped"]
    assert dropped > 0
    assert alone.node.serving.put_off
    for each in alone.node.serving.put_off.values():
        held = [message for message, _ in each.requests if isinstance(message, Read)]
        rows = sum(len(message.full) + len(message.brief) for message in held)
        assert rows * len(ROW) <= each.bytes <= PUT_OFF_BYTES_MAX


def test_what_was_served_makes_room_for_what_is_put_off_later(alone: Alone) -> None:
    """Of a peer that always has something put off, and reads all that it is sent."""
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    asked = PUT_OFF_BYTES_MAX // (len(ROW) * 1_000) + 10
    served = 0
    for number in range(asked):
        alone.hear(1, Read(number, [ROW] * 15, [ROW] * 1_000))
        while alone.node.serving.put_off and (number == asked - 1 or served < number * 15 - 30):
            alone.step(LinkRoom(id_of(1)))
            served += sum(len(answer.records) for answer in alone.take(1, ReadAnswer))
    assert served == asked * 15
    assert "peer_requests_dropped" not in alone.node.status().counters


def test_what_was_put_off_is_forgotten_with_the_link_and_with_the_epoch(alone: Alone) -> None:
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    alone.hear(1, Read(2, [ROW] * 100, []))
    alone.step(LinkDown(id_of(1)))
    assert not alone.node.serving.put_off
    alone.link(1)
    alone.hear(1, Read(3, [ROW] * 100, []))
    alone.take(1, ReadAnswer)
    _move_on(alone)
    alone.step(LinkRoom(id_of(1)))
    assert not alone.node.serving.put_off
    assert alone.take(1, ReadAnswer) == []


def test_what_is_asked_under_a_newer_layout_is_served_and_what_was_put_off_is_refused(
    alone: Alone,
) -> None:
    """Else who began anew under it would wait for its deadline."""
    alone.hear(1, Mutate(1, [(ROW, record_at(0, b"x" * MIB))]))
    alone.hear(1, Read(2, [ROW] * 100, []))
    assert alone.node.serving.put_off
    alone.said.clear()
    layout = _next(alone).encode()
    alone.hear(1, OtherEpoch(3, [], layout), Read(3, [ROW], []), epoch=3)
    assert [each.batch for each in alone.take(1, ReadAnswer)] == [3]
    assert OtherEpoch(3, [2]) in alone.take(1, OtherEpoch)
    assert not alone.node.serving.put_off


def test_the_layout_is_told_once_in_a_step_however_often_it_is_asked_for(alone: Alone) -> None:
    _move_on(alone)
    frame = PeerFrame(id_of(1), Frame(2, 0, [Read(1, [ROW], [])]))
    alone.step(*[frame] * 100)
    told = alone.take(1, OtherEpoch)
    assert len(told) == 101
    assert [bool(each.layout) for each in told] == [True] + [False] * 100
