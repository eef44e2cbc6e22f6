# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer's messages: gathered, bounded, answered or lost exactly once."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.exchanges.outbox import (
    HEDGE_MS_MIN,
    ITEM_BYTES,
    MESSAGE_BYTES_MAX,
    SHARES,
    UNANSWERED_BYTES_MAX,
    UNANSWERED_BYTES_MAX_ALL,
)
from quorate.core.values.messages import (
    Agree,
    Foundation,
    Known,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Read,
    ReadAnswer,
    ScannedRows,
)
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from tests.unit.core.parts import TIMEOUT_MS, Box, reachable

RECORD = Record(pack_version(1, 1), b"v")


@pytest.fixture
def box() -> Box:
    return Box()


def _batches(messages: list[Message]) -> list[int]:
    unnumbered = Agree | Known | OtherEpoch | Foundation
    return [message.batch for message in messages if not isinstance(message, unnumbered)]


def test_a_turns_writes_and_reads_leave_as_one_message_each(box: Box) -> None:
    for op in range(3):
        box.records.add(b"w%d" % op, RECORD, op)
        box.questions.ask_record(b"f%d" % op, op, size=0)
        box.questions.ask_version(b"b%d" % op, op)
    mutate, read = box.out.collect()
    assert isinstance(mutate, Mutate)
    assert [row for row, _ in mutate.items] == [b"w0", b"w1", b"w2"]
    assert isinstance(read, Read)
    assert (read.full, read.brief) == ([b"f0", b"f1", b"f2"], [b"b0", b"b1", b"b2"])
    assert box.out.collect() == []


def test_an_answer_reaches_its_exchange_once(box: Box) -> None:
    """I7: a duplicate is not counted."""
    box.records.add(b"w", RECORD, "op")
    (batch,) = _batches(box.out.collect())
    answer = Mutated(batch, [], [])
    box.out.on_answer(answer)
    box.out.on_answer(answer)
    assert box.recorder.answers == [(box.peer.url, ["op"], answer)]
    assert box.out.unanswered_bytes == 0


def test_an_answer_after_the_loss_is_dropped(box: Box) -> None:
    box.records.add(b"w", RECORD, "op")
    (batch,) = _batches(box.out.collect())
    box.pass_ms(TIMEOUT_MS + 1)
    assert box.out.on_answer(Mutated(batch, [], []))
    assert box.recorder.losses == [(box.peer.url, ["op"])]
    assert box.recorder.answers == []


def test_a_busy_answer_is_a_loss(box: Box) -> None:
    box.records.add(b"w", RECORD, "op")
    (batch,) = _batches(box.out.collect())
    box.out.on_answer(Mutated(batch, [], [], busy=True))
    assert box.recorder.losses == [(box.peer.url, ["op"])]


def test_what_was_not_answered_in_time_is_given_up_each_at_its_time(box: Box) -> None:
    for _ in range(3):
        box.pass_ms(10)
        box.records.add(b"w", RECORD, box.turn.mono_ms)
        box.out.collect()
    assert box.turn.wake_ms() == 10 + TIMEOUT_MS + 1
    box.pass_ms(TIMEOUT_MS - 10)
    assert box.recorder.losses == [(box.peer.url, [10])]
    assert box.turn.wake_ms() == 20 + TIMEOUT_MS + 1
    box.pass_ms(10)
    assert box.recorder.losses[1:] == [(box.peer.url, [20])]
    box.out.lose_all()
    assert box.recorder.losses[2:] == [(box.peer.url, [30])]
    assert (len(box.out.sent), box.out.unanswered_bytes) == (0, 0)


def test_what_is_said_in_the_step_in_which_the_link_breaks_is_lost_too(box: Box) -> None:
    box.records.add(b"w", RECORD, "op")
    box.out.lose_all()
    assert box.recorder.losses == [(box.peer.url, ["op"])]
    assert box.out.collect() == []


def test_what_a_peer_will_not_serve_is_lost_and_nothing_else(box: Box) -> None:
    batches = []
    for op in range(3):
        box.records.add(b"w", RECORD, op)
        batches += _batches(box.out.collect())
    box.out.on_refusal([batches[1], 4711])
    box.out.on_refusal([batches[1]])
    assert box.recorder.losses == [(box.peer.url, [1])]
    assert len(box.out.sent) == 2


def test_answers_out_of_order_leave_nothing_behind(box: Box) -> None:
    """I26."""
    batches = []
    for op in range(4):
        box.records.add(b"w", RECORD, op)
        batches += _batches(box.out.collect())
    for batch in reversed(batches):
        box.out.on_answer(Mutated(batch, [], []))
    assert [ops for _, ops, _ in box.recorder.answers] == [[3], [2], [1], [0]]
    assert (len(box.out.sent), box.out.unanswered_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Mutated(0, [], []), "of another kind"),
        (ScannedRows(0, [], more=False), "of another kind"),
        (ReadAnswer(0, [None, None], [b""]), "too many records"),
        (ReadAnswer(0, [None, None], []), "a record for the version"),
        (ReadAnswer(0, [None], [b"", b""]), "too many versions"),
        (ReadAnswer(0, [], []), "nothing at all"),
        (ReadAnswer(0, [], [b""]), "a version before the record"),
    ],
)
def test_an_answer_that_does_not_fit_is_a_loss(
    box: Box, answer: Mutated | ReadAnswer | ScannedRows, reason: str
) -> None:
    box.questions.ask_record(b"f", "full", size=0)
    box.questions.ask_version(b"b", "brief")
    (batch,) = _batches(box.out.collect())
    assert not box.out.on_answer(msgspec.structs.replace(answer, batch=batch)), reason
    assert box.recorder.losses == [(box.peer.url, ["full", "brief"])]
    assert box.recorder.answers == []


def test_a_read_may_be_answered_in_pieces(box: Box) -> None:
    for op in range(3):
        box.questions.ask_record(b"f", op, size=0)
    box.questions.ask_version(b"b", "brief")
    (batch,) = _batches(box.out.collect())
    assert box.out.on_answer(ReadAnswer(batch, [RECORD], []))
    assert box.out.on_answer(ReadAnswer(batch, [RECORD], []))
    assert box.out.sent, "not over"
    assert box.out.on_answer(ReadAnswer(batch, [None], [b""]))
    assert [ops for _, ops, _ in box.recorder.answers] == [[0], [1], [2, "brief"]]
    assert (len(box.out.sent), box.out.unanswered_bytes) == (0, 0)


def test_what_a_piece_answered_is_not_lost_with_the_rest(box: Box) -> None:
    box.questions.ask_record(b"f", "told", size=0)
    box.questions.ask_record(b"g", "lost", size=0)
    (batch,) = _batches(box.out.collect())
    box.out.on_answer(ReadAnswer(batch, [RECORD], []))
    box.out.lose_all()
    assert box.recorder.losses == [(box.peer.url, ["lost"])]


def test_a_large_turn_is_cut_into_messages_of_bounded_size(box: Box) -> None:
    """P7."""
    value = Record(pack_version(1, 1), bytes(MESSAGE_BYTES_MAX // 4))
    for op in range(9):
        box.records.add(b"w", value, op)
    messages = box.out.collect()
    sizes = [sum(len(r.value or b"") for _, r in m.items) for m in messages if type(m) is Mutate]
    assert len(sizes) == 3
    assert max(sizes) <= MESSAGE_BYTES_MAX


def test_a_peer_that_answers_nothing_becomes_unreachable_at_the_bound(box: Box) -> None:
    """P7: the outbox is bounded."""
    peer = reachable(box.peer)
    assert peer.has_come
    value = Record(pack_version(1, 1), bytes(MESSAGE_BYTES_MAX - ITEM_BYTES))
    for _ in range(UNANSWERED_BYTES_MAX // MESSAGE_BYTES_MAX):
        assert peer.is_reachable
        box.records.add(b"w", value, "op")
    assert not peer.is_reachable
    peer.has_come = False
    box.out.on_answer(Mutated(min(box.out.sent), [], []))
    assert peer.has_come, "it has caught up a little"


def test_what_a_turn_asks_for_counts_before_it_is_sent(box: Box) -> None:
    """P7: the records of one turn's questions alone could exhaust the memory."""
    peer = reachable(box.peer)
    box.questions.ask_record(b"f", "op", size=UNANSWERED_BYTES_MAX)
    assert not peer.is_reachable
    peer.has_come = False
    (batch,) = _batches(box.out.collect())
    box.out.on_answer(ReadAnswer(batch, [None], []))
    assert peer.has_come
    assert box.out.unanswered_bytes == 0


def test_a_read_is_overdue_after_its_p95_and_once(box: Box) -> None:
    box.pass_ms(100)
    box.questions.ask_record(b"f", "op", size=0)
    box.out.collect()
    assert box.turn.wake_ms() == 121
    box.pass_ms(20)
    assert box.hedged == []
    box.pass_ms(1)
    assert box.hedged == [["op"]]
    box.pass_ms(100)
    assert box.hedged == [["op"]]


def test_each_read_is_overdue_at_its_own_time_unless_it_was_answered(box: Box) -> None:
    batches = []
    for op in range(3):
        box.questions.ask_record(b"f", op, size=0)
        batches += _batches(box.out.collect())
        box.pass_ms(5)
    box.out.p95_ms = 20.0
    box.out.on_answer(ReadAnswer(batches[1], [None], []))
    box.pass_ms(6)
    assert box.hedged == [[0]]
    box.pass_ms(10)
    assert box.hedged == [[0], [2]]


def test_the_p95_follows_the_times_of_answers(box: Box) -> None:
    times = [30] * 19 + [90]
    for turn in range(4000):
        box.questions.ask_record(b"f", "op", size=0)
        (batch,) = _batches(box.out.collect())
        box.pass_ms(times[turn * 7 % 20])
        box.out.on_answer(ReadAnswer(batch, [None], []))
    assert 30 <= box.out.p95_ms <= 91


@pytest.mark.parametrize("before_ms", [0, 7, 1_000])
@pytest.mark.parametrize("ms", [0, 7, 40, 900])
def test_the_speed_of_a_peer_follows_its_round_trips_and_not_a_single_one(
    box: Box, before_ms: int, ms: int
) -> None:
    def read(took_ms: int) -> int:
        box.questions.ask_record(b"f", "op", size=0)
        (batch,) = _batches(box.out.collect())
        box.pass_ms(took_ms)
        box.out.on_answer(ReadAnswer(batch, [None], []))
        return box.peer.speed

    for _ in range(100):
        read(before_ms)
    speeds = [read(ms) for _ in range(100)]
    assert abs(speeds[0] - before_ms // 4) <= abs(ms - before_ms) // 30 + 1
    assert sorted(speeds, reverse=ms < before_ms) == speeds
    assert abs(speeds[-1] - ms // 4) <= 1


def _read(box: Box, took_ms: int) -> None:
    box.questions.ask_record(b"f", "op", size=0)
    (batch,) = _batches(box.out.collect())
    box.pass_ms(took_ms)
    box.out.on_answer(ReadAnswer(batch, [None], []))


def _beat(box: Box, number: int, took_ms: int) -> None:
    ping = Ping(number, [], 0, 0)
    box.out.ping(ping)
    assert box.out.collect() == [ping]
    box.pass_ms(took_ms)
    box.out.ponged(number)


def test_who_was_slow_once_is_as_fast_as_its_heartbeats_when_nobody_reads_from_it(box: Box) -> None:
    for _ in range(50):
        _read(box, 400)
    assert box.peer.speed > 90
    for number in range(12):
        _beat(box, number, 1)
    assert box.peer.speed == 0
    for number in range(12):
        _beat(box, number, 80)
    assert box.peer.speed == 19, "one that is far away stays so"


def test_of_who_is_read_from_the_reads_tell_how_fast_it_is(box: Box) -> None:
    """A disk may be slow where the link is not."""
    for number in range(50):
        _read(box, 400)
        _beat(box, number, 0)
    assert box.peer.speed > 90


def test_a_late_answer_to_an_earlier_ping_tells_nothing(box: Box) -> None:
    box.out.ping(Ping(1, [], 0, 0))
    box.pass_ms(900)
    box.out.ping(Ping(2, [], 0, 0))
    box.out.ponged(1)
    box.out.ponged(2)
    box.out.ponged(2)
    assert box.peer.speed == 0


def test_quick_answers_are_not_hedged_at_once(box: Box) -> None:
    for _ in range(2000):
        box.questions.ask_record(b"f", "op", size=0)
        (batch,) = _batches(box.out.collect())
        box.out.on_answer(ReadAnswer(batch, [None], []))
    assert box.out.p95_ms == HEDGE_MS_MIN


def test_batch_numbers_of_two_processes_do_not_meet() -> None:
    """An answer to the process before must not pass for one to this: it would be a false ack."""
    first, second = Box(first_batch=1 << 40), Box(first_batch=1 << 41)
    numbers = {box.out.next_batch() for box in (first, second) for _ in range(1000)}
    assert len(numbers) == 2000


def test_while_all_peers_leave_too_much_unanswered_each_may_leave_a_share() -> None:
    """A thousand that answer slowly."""
    box = Box()
    reachable(box.peer)
    box.turn.unanswered_bytes = UNANSWERED_BYTES_MAX_ALL
    half = bytes(UNANSWERED_BYTES_MAX_ALL // SHARES // 2)
    batches, reachability = [], []
    for op in range(2):
        box.records.add(b"w", Record(pack_version(1, 1), half), op)
        batches += _batches(box.out.collect())
        reachability.append(box.peer.is_reachable)
    box.out.on_answer(Mutated(batches[0], [], []))
    reachability.append(box.peer.is_reachable)
    assert reachability == [True, False, True]
    box.out.lose_all()
    assert box.turn.unanswered_bytes == UNANSWERED_BYTES_MAX_ALL
