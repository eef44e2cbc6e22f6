# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-writes of one node on one key: each waits for those before, and those that wait are
one proposal."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.updates import COMBINED_MAX, REMEMBERED_NUMBERS
from quorate.core.values.events import Batch, Edited, Update
from quorate.core.values.messages import AcceptRows, PrepareRows
from quorate.core.values.record import Record, winner_after
from quorate.core.values.slots import row_of
from quorate.core.values.versions import chain_of, link_of, ms_of, stamp_of, successor
from quorate.errors import Conflict, Outcome, PreconditionFailed
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.update_stage import (
    KEY,
    OLD,
    ROW,
    add,
    done,
    leave,
    pass_ms,
    stage,
    successor_of,
    update,
    values,
)
from tests.unit.core.vote_stage import accept, promise
from tests.unit.core.write_stage import ack, error_of


def _finish(alone: Alone, held: Record = OLD) -> Record:
    """Peer 1 promises, accepts and keeps; what that was."""
    promise(alone, 1, held)
    ((_, _, _, record),) = accept(alone, 1)
    ack(alone, 1)
    return record


def _refuse(found: Record | None) -> Edited:
    del found
    raise PreconditionFailed("it is another version")


def test_those_that_come_together_are_one_record_and_each_has_its_own_version() -> None:
    alone = stage()
    askers = [update(alone) for _ in range(3)]
    pass_ms(alone, 1)
    record = _finish(alone)
    later = _finish(alone, record)
    assert [values(asker) for asker in askers] == [
        (b"41", b"42"),
        (b"42", b"43"),
        (b"43", b"44"),
    ]
    versions = []
    for asker in askers:
        after = done(asker).after
        assert after is not None
        versions.append(after.version)
    assert versions == sorted(set(versions))
    assert {chain_of(version) for version in versions} == {OLD.version}
    assert (record.version, later.version) == (versions[0], versions[2])
    assert (record.value, later.value) == (b"42", b"44")
    assert later.prior == record.version
    assert [link for link, _ in later.winners] == [0, link_of(record.version)]


def test_one_that_comes_after_the_question_waits_for_the_next() -> None:
    """What the replicas tell may be older than what was done before it came."""
    alone = stage()
    first = update(alone)
    second = update(alone)
    record = _finish(alone)
    assert record.value == b"42"
    assert values(first) == (b"41", b"42")
    assert not second.results
    assert _finish(alone, record).value == b"43"
    assert values(second) == (b"42", b"43")


def _together(alone: Alone, *edits: object) -> list[Asker]:
    """Have these in one proposal: behind one that only reads."""
    update(alone, leave)
    askers = [update(alone, edit) for edit in edits]  # type: ignore[arg-type]
    promise(alone, 1, OLD)
    return askers


def test_an_edit_that_leaves_the_key_alone_sees_what_those_before_it_made() -> None:
    alone = stage()
    before, added, between, again = _together(alone, leave, add, leave, add)
    promise(alone, 1, OLD)
    assert values(before) == (b"41", None), "what a majority holds"
    assert not between.results, "it depends on what is not decided"
    ((_, _, _, record),) = accept(alone, 1)
    ack(alone, 1)
    assert record.value == b"43"
    assert values(added) == (b"41", b"42")
    assert values(between) == (b"42", None)
    assert values(again) == (b"42", b"43")


def test_an_edit_that_refuses_among_others_refuses_only_itself() -> None:
    alone = stage()
    outside, added, inside, again = _together(alone, _refuse, add, _refuse, add)
    promise(alone, 1, OLD)
    error_of(outside, PreconditionFailed, Outcome.NOT_APPLIED)
    assert not inside.results
    accept(alone, 1)
    ack(alone, 1)
    error_of(inside, PreconditionFailed, Outcome.NOT_APPLIED)
    assert values(added) == (b"41", b"42")
    assert values(again) == (b"42", b"43")


def test_what_one_deletes_or_lets_expire_is_nothing_to_the_next() -> None:
    alone = stage()
    gone, made, expired, last = _together(
        alone,
        lambda _: Edited(None),
        add,
        lambda _: Edited(b"9", 1),
        add,
    )
    promise(alone, 1, OLD)
    ((_, _, _, record),) = accept(alone, 1)
    ack(alone, 1)
    assert values(gone) == (b"41", None)
    assert values(made) == (None, b"1")
    assert values(expired) == (b"1", b"9")
    assert values(last) == (None, b"1")
    assert (record.value, record.expires_ms) == (b"1", 0)


def test_a_race_that_is_lost_runs_all_edits_anew() -> None:
    alone = stage()
    first, second = _together(alone, add, add)
    other = successor_of(OLD, b"50", number=7)
    promise(alone, 1, OLD, accepted=(9, 9), record=other)
    ((_, _, _, record),) = accept(alone, 1)
    assert record == other
    ack(alone, 1)
    assert not (first.results)
    assert not (second.results)
    pass_ms(alone, 1)
    last = _finish(alone, other)
    assert last.value == b"52"
    assert values(first) == (b"50", b"51")
    assert values(second) == (b"51", b"52")
    assert alone.node.parts.requests.bytes == 0


def test_so_many_are_in_one_proposal_and_no_more() -> None:
    alone = stage()
    askers = [Asker() for _ in range(COMBINED_MAX + 2)]
    update(alone, leave)
    alone.step(*[Update(asker, KEY, add) for asker in askers])
    promise(alone, 1, OLD)
    record = _finish(alone)
    assert record.value == b"%d" % (41 + COMBINED_MAX)
    assert sum(len(asker.results) for asker in askers) == COMBINED_MAX
    assert _finish(alone, record).value == b"%d" % (41 + COMBINED_MAX + 2)
    assert all(asker.results for asker in askers)


def test_keys_of_one_node_do_not_wait_for_each_other() -> None:
    alone = stage()
    alone.disk.format(Batch([(row_of(b"another"), OLD)], [], []))
    first, other = update(alone), update(alone, key=b"another")
    assert len(promise(alone, 1, OLD)) == 2
    assert len(accept(alone, 1)) == 2
    ack(alone, 1)
    assert first.results
    assert other.results


# --- requests that are sent again --------------------------------------------------------------


def test_a_request_that_took_effect_before_is_not_done_again() -> None:
    done_before = successor_of(OLD, b"42", number=1234)
    alone = stage(done_before)
    asker = update(alone, request=1234)
    promise(alone, 1, done_before)
    result = done(asker)
    assert result.is_repeated
    assert (result.before, result.after) == (None, done_before)
    assert alone.take(1, AcceptRows) == []


def test_a_request_that_is_sent_twice_at_once_takes_effect_once() -> None:
    alone = stage()
    update(alone, leave)
    askers = [update(alone, request=7) for _ in range(2)]
    promise(alone, 1, OLD)
    record = _finish(alone)
    assert record.value == b"42"
    assert values(askers[0]) == (b"41", b"42")
    repeated = done(askers[1])
    assert repeated.is_repeated
    assert repeated.after is not None
    assert repeated.after.value == b"42"
    assert 7 in [number for _, number in record.winners]


def test_a_request_that_took_effect_before_is_told_so_among_others() -> None:
    done_before = successor_of(OLD, b"42", number=1234)
    alone = stage(done_before)
    update(alone, leave)
    fresh, again = update(alone), update(alone, request=1234)
    promise(alone, 1, done_before)
    record = _finish(alone, done_before)
    assert record.value == b"43"
    assert values(fresh) == (b"42", b"43")
    assert done(again).is_repeated


@pytest.mark.parametrize("later_ms", [0, 1])
def test_a_request_may_be_older_than_what_is_there_by_as_much_as_clocks_may_differ(
    later_ms: int,
) -> None:
    """Who sent it first tells when by the clock of another node."""
    alone = stage()
    skew_ms = alone.node.settings.max_clock_skew_ms
    since_ms = ms_of(stamp_of(OLD.version)) + skew_ms + later_ms
    asker = update(alone, request=7, since_ms=since_ms)
    promise(alone, 1, OLD)
    if later_ms:
        assert alone.take(1, AcceptRows)
    else:
        error_of(asker, Conflict, Outcome.UNKNOWN)


@pytest.mark.parametrize("count", [1, 5])
def test_a_number_is_remembered_over_the_next_writes_of_the_chain(count: int) -> None:
    alone = stage()
    update(alone, request=99)
    record = _finish(alone)
    for _ in range(count):
        update(alone)
        record = _finish(alone, record)
    again = update(alone, request=99)
    promise(alone, 1, record)
    assert done(again).is_repeated


def test_nothing_of_a_row_is_left_when_all_are_answered() -> None:
    alone = stage()
    for _ in range(3):
        update(alone)
    record = _finish(alone)
    _finish(alone, record)
    assert alone.node.updates._attempts == {}
    assert alone.take(1, PrepareRows) == []
    assert alone.disk.get(ROW) is not None


def test_a_numbered_request_ends_where_the_next_one_begins_whether_that_has_a_number_or_not() -> (
    None
):
    """So whoever asks again under its number is told its version, and not one that another made."""
    alone = stage()
    update(alone, leave)
    askers = [update(alone, request=number) for number in (0, 7, 0, 0, 8, 9, 0)]
    promise(alone, 1, OLD)
    promise(alone, 1, OLD)
    ((_, _, _, record),) = accept(alone, 1)
    ack(alone, 1)
    for asker, number in zip(askers, (0, 7, 0, 0, 8, 9, 0), strict=True):
        if not number:
            continue
        after = done(asker).after
        assert after is not None
        before = next(link for link, each in record.winners if each == number)
        later = [link for link, _ in record.winners if link > before]
        assert min(later) == link_of(after.version)


def test_who_won_a_base_is_forgotten_with_the_requests_that_it_had() -> None:
    """Else the first of these would be taken for who won, and the winner do all once more."""
    others = [(link, link) for link in range(11, 10 + REMEMBERED_NUMBERS)]
    winners = ((10, 500), (10, 7), *others)
    held = Record(successor(OLD.version, 1000), b"41", prior=OLD.version, winners=winners)
    alone = stage(held)
    asker = update(alone, request=8)
    record = _finish(alone, held)
    assert values(asker) == (b"41", b"42")
    assert winner_after(held, 10) == 500
    assert winner_after(record, 10) is None
    assert winner_after(record, 11) == 11
