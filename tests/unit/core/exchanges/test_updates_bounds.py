# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-writes among replicas that refuse, lag, or tell what cannot be; and what they are
counted with."""

from __future__ import annotations

from quorate.core.exchanges.updates import COMBINED_BYTES_MAX
from quorate.core.values.events import Edited, StorageState
from quorate.core.values.messages import AcceptRows, PrepareRows, RowsVoted, RowVote, Said
from quorate.core.values.record import Record
from quorate.core.values.versions import successor
from quorate.errors import Outcome, Overloaded, QuorumUnreachable
from tests.unit.core.alone import record_at
from tests.unit.core.update_stage import OLD, ROW, done, pass_ms, stage, update, values
from tests.unit.core.vote_stage import accept, promise
from tests.unit.core.write_stage import ack


def test_it_is_done_when_w_replicas_have_it_though_a_majority_decides() -> None:
    alone = stage(w=3)
    asker = update(alone)
    promise(alone, 1, OLD)
    accept(alone, 1)
    ack(alone, 1)
    assert not asker.results, "two of three"
    ack(alone, 2)
    assert done(asker).acks == 3


def test_where_w_replicas_cannot_be_reached_nothing_is_done() -> None:
    alone = stage(w=3)
    alone.unlink(2)
    asker = update(alone)
    assert alone.take(1, PrepareRows) == []
    pass_ms(alone, 60_000)
    result = asker.result
    assert isinstance(result, QuorumUnreachable)
    assert result.outcome is Outcome.NOT_APPLIED


def test_what_one_replica_has_of_the_future_keeps_no_majority_from_going_on() -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 2, record_at(10_000_000, b"999"))
    promise(alone, 1, OLD)
    ((_, base, _, _),) = accept(alone, 1)
    assert base == OLD.version
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")


def test_a_link_that_nothing_can_follow_is_no_base() -> None:
    alone = stage()
    asker = update(alone)
    last = Record(OLD.version + b"\xff" * 8, b"999", winners=((0, 1),))
    promise(alone, 2, last)
    promise(alone, 1, last)
    assert not asker.results
    pass_ms(alone, 10)
    promise(alone, 1, OLD)
    accept(alone, 1)
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")


def test_its_own_disk_that_confirms_nothing_does_not_hold_up_a_key_for_ever() -> None:
    """What the base was written back to is asked no more than anybody waits for it."""
    newer = record_at(-5, b"50")
    alone = stage()
    alone.unlink(2)
    alone.syncs = False
    update(alone, timeout_ms=1_000)
    promise(alone, 1, newer)
    alone.sync()
    promise(alone, 1, newer)
    alone.step()
    pass_ms(alone, 2_000)
    alone.link(2)
    asker = update(alone)
    pass_ms(alone, 2_000)
    for _ in range(3):
        promise(alone, 1, newer)
        promise(alone, 2, newer)
        accept(alone, 1)
        accept(alone, 2)
        ack(alone, 1)
        ack(alone, 2)
        pass_ms(alone, 50)
    assert values(asker) == (b"50", b"51")


def test_who_refuses_does_not_keep_who_is_slow_from_being_heard() -> None:
    alone = stage()
    asker = update(alone)
    for _ in range(100):
        asked, proposed = alone.take(2, PrepareRows), alone.take(2, AcceptRows)
        promise(alone, 1, OLD, said=Said.REFUSED)
        accept(alone, 1, said=Said.REFUSED)
        pass_ms(alone, 150)
        for message in asked:
            votes = [RowVote(Said.PROMISED, OLD.version, item[2]) for item in message.items]
            alone.hear(2, RowsVoted(message.batch, votes))
        for proposal in proposed:
            votes = [RowVote(Said.ACCEPTED, base, at, at) for _, base, at, _ in proposal.items]
            alone.hear(2, RowsVoted(proposal.batch, votes))
        ack(alone, 2)
        if asker.results:
            break
    assert values(asker) == (b"41", b"42")


def test_what_others_proposed_counts_as_no_combined_request() -> None:
    alone = stage()
    other = Record(successor(OLD.version, 1), b"50", winners=((0, 7),))
    alone.node.updates.finish(ROW)
    alone.step()
    promise(alone, 1, OLD, accepted=(1, 5), record=other)
    accept(alone, 1)
    ack(alone, 1)
    pass_ms(alone, 3_000)
    assert alone.node.parts.turn.counters["updates_combined"] == 0


def test_a_base_that_nobody_takes_is_not_sent_again_at_once() -> None:
    newer = record_at(-5, b"50")
    alone = stage()
    alone.step(StorageState("disk_full", "no room"))
    update(alone)
    promise(alone, 1, newer)
    promise(alone, 2, OLD)
    assert ack(alone, 2, refused=True) == [newer]
    alone.step()
    assert alone.take(1, PrepareRows) == []
    pass_ms(alone, 20)
    assert alone.take(1, PrepareRows)


def test_what_is_decided_and_cannot_be_stored_yet_is_hinted_once() -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD)
    accept(alone, 1)
    alone.step(StorageState())
    alone.unlink(2)
    for _ in range(3):
        ack(alone, 1, refused=True)
        pass_ms(alone, 300)
    assert not asker.results
    assert alone.node.parts.turn.counters["hints_stored"] == 1
    ack(alone, 1)
    assert done(asker).acks == 2


def test_large_values_are_combined_by_their_bytes() -> None:
    alone = stage()
    large = b"v" * (COMBINED_BYTES_MAX // 4)
    first = update(alone)
    askers = [update(alone, lambda _: Edited(large)) for _ in range(6)]
    promise(alone, 1, OLD)
    accept(alone, 1)
    ack(alone, 1)
    assert first.results
    promise(alone, 1, alone.node.parts.replica.latest(ROW))
    accept(alone, 1)
    ack(alone, 1)
    assert [len(asker.results) for asker in askers] == [1, 1, 1, 1, 0, 0]


def test_what_an_edit_keeps_is_counted_until_it_is_answered() -> None:
    alone = stage(inflight_bytes_max=2_000)
    requests = alone.node.parts.requests
    asker = update(alone, size=1_500)
    assert requests.bytes == 1_500 + 0
    refused = update(alone, size=1_500)
    assert isinstance(refused.result, Overloaded)
    promise(alone, 1, OLD)
    assert requests.bytes == 1_500 + len(b"42"), "what is proposed, too"
    accept(alone, 1)
    ack(alone, 1)
    assert asker.results
    assert requests.bytes == 0


def test_what_another_decided_and_nobody_can_store_is_not_tried_again_at_once() -> None:
    alone = stage()
    update(alone)
    other = Record(successor(OLD.version, 1), b"50", winners=((0, 7),))
    promise(alone, 1, OLD, accepted=(1, 5), record=other)
    alone.step(StorageState("disk_full", "no room"))
    accept(alone, 1)
    for index in (1, 2):
        assert ack(alone, index, refused=True) == [other]
    alone.take(1, PrepareRows)
    alone.step()
    assert alone.take(1, PrepareRows) == []
    pass_ms(alone, 20)
    assert alone.take(1, PrepareRows)
