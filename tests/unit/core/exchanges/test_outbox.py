# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer's messages: gathered, bounded, answered or lost exactly once."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.exchanges.outbox import (
    HEDGE_MS_MIN,
    ITEM_BYTES,
    MESSAGE_BYTES_MAX,
    UNANSWERED_BYTES_MAX,
    Peer,
)
from quorate.core.values.messages import Message, Mutate, Mutated, Read, ReadAnswer, ScannedRows
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from tests.unit.core.parts import Recorder, peer_of

RECORD = Record(pack_version(1, 1), b"v")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def peer(recorder: Recorder) -> Peer:
    return peer_of(exchange=recorder)


def _batches(messages: list[Message]) -> list[int]:
    return [message.batch for message in messages]


def test_a_turns_writes_and_reads_leave_as_one_message_each(peer: Peer) -> None:
    for op in range(3):
        peer.mutate(peer.writes, b"w%d" % op, RECORD, op)
        peer.read_full(b"f%d" % op, op, size=0)
        peer.read_brief(b"b%d" % op, op)
    mutate, read = peer.collect()
    assert isinstance(mutate, Mutate)
    assert [row for row, _ in mutate.items] == [b"w0", b"w1", b"w2"]
    assert isinstance(read, Read)
    assert (read.full, read.brief) == ([b"f0", b"f1", b"f2"], [b"b0", b"b1", b"b2"])
    assert peer.collect() == []


def test_an_answer_reaches_its_exchange_once(peer: Peer, recorder: Recorder) -> None:
    """I7: a duplicate is not counted."""
    peer.mutate(peer.writes, b"w", RECORD, "op")
    (batch,) = _batches(peer.collect())
    answer = Mutated(batch, [], [])
    peer.on_answer(answer)
    peer.on_answer(answer)
    assert recorder.answers == [(peer.url, ["op"], answer)]
    assert peer.unanswered_bytes == 0


def test_an_answer_after_the_loss_is_dropped(peer: Peer, recorder: Recorder) -> None:
    peer.mutate(peer.writes, b"w", RECORD, "op")
    (batch,) = _batches(peer.collect())
    peer.mono_ms = 100
    peer.lose_before(1)
    assert peer.on_answer(Mutated(batch, [], []))
    assert recorder.losses == [(peer.url, ["op"])]
    assert recorder.answers == []


def test_a_busy_answer_is_a_loss(peer: Peer, recorder: Recorder) -> None:
    peer.mutate(peer.writes, b"w", RECORD, "op")
    (batch,) = _batches(peer.collect())
    peer.on_answer(Mutated(batch, [], [], busy=True))
    assert recorder.losses == [(peer.url, ["op"])]


def test_only_what_was_sent_before_is_given_up(peer: Peer, recorder: Recorder) -> None:
    for sent_ms in (10, 20, 30):
        peer.mono_ms = sent_ms
        peer.mutate(peer.writes, b"w", RECORD, sent_ms)
        peer.collect()
    peer.lose_before(30)
    assert recorder.losses == [(peer.url, [10]), (peer.url, [20])]
    peer.lose_all()
    assert recorder.losses[2:] == [(peer.url, [30])]
    assert (len(peer.sent), len(peer.order), peer.unanswered_bytes) == (0, 0, 0)


def test_answers_out_of_order_leave_nothing_behind(peer: Peer, recorder: Recorder) -> None:
    """I26."""
    batches = []
    for op in range(4):
        peer.mutate(peer.writes, b"w", RECORD, op)
        batches += _batches(peer.collect())
    for batch in reversed(batches):
        peer.on_answer(Mutated(batch, [], []))
    assert [ops for _, ops, _ in recorder.answers] == [[3], [2], [1], [0]]
    assert (len(peer.sent), len(peer.order), peer.unanswered_bytes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Mutated(0, [], []), "of another kind"),
        (ScannedRows(0, [], more=False), "of another kind"),
        (ReadAnswer(0, [None, None], [b""]), "too many records"),
        (ReadAnswer(0, [None], [b"", b""]), "too many versions"),
        (ReadAnswer(0, [], []), "nothing at all"),
    ],
)
def test_an_answer_that_does_not_fit_is_a_loss(
    peer: Peer, recorder: Recorder, answer: Mutated | ReadAnswer | ScannedRows, reason: str
) -> None:
    peer.read_full(b"f", "full", size=0)
    peer.read_brief(b"b", "brief")
    (batch,) = _batches(peer.collect())
    assert not peer.on_answer(msgspec.structs.replace(answer, batch=batch)), reason
    assert recorder.losses == [(peer.url, ["full", "brief"])]
    assert recorder.answers == []


def test_a_read_may_be_answered_in_pieces(peer: Peer, recorder: Recorder) -> None:
    for op in range(3):
        peer.read_full(b"f", op, size=0)
    peer.read_brief(b"b", "brief")
    (batch,) = _batches(peer.collect())
    assert peer.on_answer(ReadAnswer(batch, [RECORD], []))
    assert peer.on_answer(ReadAnswer(batch, [RECORD], []))
    assert peer.sent, "not over"
    assert peer.on_answer(ReadAnswer(batch, [None], [b""]))
    assert [ops for _, ops, _ in recorder.answers] == [[0], [1], [2, "brief"]]
    assert (len(peer.sent), peer.unanswered_bytes) == (0, 0)


def test_what_a_piece_answered_is_not_lost_with_the_rest(peer: Peer, recorder: Recorder) -> None:
    peer.read_full(b"f", "told", size=0)
    peer.read_full(b"g", "lost", size=0)
    (batch,) = _batches(peer.collect())
    peer.on_answer(ReadAnswer(batch, [RECORD], []))
    peer.lose_all()
    assert recorder.losses == [(peer.url, ["lost"])]


def test_a_large_turn_is_cut_into_messages_of_bounded_size(peer: Peer) -> None:
    """P7."""
    value = Record(pack_version(1, 1), bytes(MESSAGE_BYTES_MAX // 4))
    for op in range(9):
        peer.mutate(peer.writes, b"w", value, op)
    messages = peer.collect()
    sizes = [sum(len(r.value or b"") for _, r in m.items) for m in messages if type(m) is Mutate]
    assert len(sizes) == 3
    assert max(sizes) <= MESSAGE_BYTES_MAX


def test_a_peer_that_answers_nothing_becomes_unreachable_at_the_bound(peer: Peer) -> None:
    """P7: the outbox is bounded."""
    peer.is_linked = peer.is_heard = True
    peer.judge_reachable()
    assert peer.has_come
    value = Record(pack_version(1, 1), bytes(MESSAGE_BYTES_MAX - ITEM_BYTES))
    for _ in range(UNANSWERED_BYTES_MAX // MESSAGE_BYTES_MAX):
        assert peer.is_reachable
        peer.mutate(peer.writes, b"w", value, "op")
        peer.collect()
        peer.judge_reachable()
    assert not peer.is_reachable
    peer.has_come = False
    peer.on_answer(Mutated(min(peer.sent), [], []))
    peer.judge_reachable()
    assert peer.has_come, "it has caught up a little"


def test_a_read_is_overdue_after_its_p95_and_once(peer: Peer) -> None:
    peer.p95_ms = 20.0
    peer.mono_ms = 100
    peer.read_full(b"f", "op", size=0)
    peer.collect()
    assert peer.overdue_ms() == 121
    peer.mono_ms = 119
    assert peer.overdue() is None
    peer.mono_ms = 121
    sent = peer.overdue()
    assert sent is not None
    sent.is_hedged = True
    assert peer.overdue() is None
    assert peer.overdue_ms() is None


def test_the_p95_follows_the_times_of_answers(peer: Peer) -> None:
    times = [30] * 19 + [90]
    for turn in range(4000):
        peer.read_full(b"f", "op", size=0)
        (batch,) = _batches(peer.collect())
        peer.mono_ms += times[turn * 7 % 20]
        peer.on_answer(ReadAnswer(batch, [None], []))
    assert 30 <= peer.p95_ms <= 91


def test_quick_answers_are_not_hedged_at_once(peer: Peer) -> None:
    for _ in range(2000):
        peer.read_full(b"f", "op", size=0)
        (batch,) = _batches(peer.collect())
        peer.on_answer(ReadAnswer(batch, [None], []))
    assert peer.p95_ms == HEDGE_MS_MIN


def test_batch_numbers_of_two_processes_do_not_meet() -> None:
    """An answer to the process before must not pass for one to this: it would be a false ack."""
    first, second = peer_of(first_batch=1 << 40), peer_of(first_batch=1 << 41)
    numbers = {peer.next_batch() for peer in (first, second) for _ in range(1000)}
    assert len(numbers) == 2000
