# SPDX-License-Identifier: GPL-3.0-or-later
"""Every state of a link, and everything that may happen in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from quorate.core.topology.greeting import TWIN_MS
from quorate.host.links import (
    CONNECT_MS,
    FLUSH_MS,
    HANDSHAKE_MS,
    STEADY_MS,
    Link,
    LinkState,
)
from tests.unit.host.scripted import (
    BOUND,
    DIFFERS,
    GARBAGE,
    GOOD,
    PEER,
    REFUSED,
    RENAMED,
    TWIN,
    FakeChannel,
    FakeDial,
    Script,
)

WAITING, DIALLING, GREETING, UP, CLOSING, RETIRED = LinkState


class Reached(NamedTuple):
    """A link in a state, with an earlier dial that was given up and an earlier connection that was,
    of which the system has not told the end."""

    script: Script
    link: Link
    late_dial: FakeDial
    late: FakeDial

    @property
    def present(self) -> FakeDial:
        return self.script.dials[-1]

    @property
    def channel(self) -> FakeChannel:
        assert self.present.channel is not None
        return self.present.channel

    def hear(self, data: bytes) -> None:
        self.present.connection.data_received(data)


def reach(state: LinkState) -> Reached:
    script = Script()
    link = script.name()
    script.due()  # the dial is given up
    script.due()
    script.dials[1].made()
    script.due()  # no greeting in time
    script.due()  # and no end
    assert link.state is WAITING
    reached = Reached(script, link, *script.dials)
    script.due()
    if state is WAITING:
        reached.present.fail()
    elif state is not DIALLING:
        reached.present.made()
        if state in (UP, RETIRED):
            reached.hear(GOOD)
        elif state is CLOSING:
            reached.hear(REFUSED)
    if state is RETIRED:
        script.leave()
    assert link.state is state
    script.check()
    script.told.clear()
    return reached


Input = Callable[[Reached], object]

INPUTS: dict[str, Input] = {
    "due": lambda r: r.script.due(),
    "made": lambda r: r.present.made(),
    "failed": lambda r: r.present.fail(),
    "not tried": lambda r: r.present.fail("no peer is there"),
    "good": lambda r: r.hear(GOOD),
    "half": lambda r: r.hear(GOOD[:-1]),
    "refused": lambda r: r.hear(REFUSED),
    "twin": lambda r: r.hear(TWIN),
    "differs": lambda r: r.hear(DIFFERS),
    "renamed": lambda r: r.hear(RENAMED),
    "garbage": lambda r: r.hear(GARBAGE),
    "good and more": lambda r: r.hear(GOOD + b"x"),
    "lost": lambda r: r.present.lose(),
    "hurry": lambda r: r.script.links.hurry(PEER),
    "send": lambda r: r.script.send(),
    "send over": lambda r: r.script.send(queued_bytes=BOUND + 1),
    "named": lambda r: r.script.name(),
    "left": lambda r: r.script.leave(),
    "late made": lambda r: r.late_dial.made(),
    "late failed": lambda r: r.late_dial.fail(),
    "late good": lambda r: r.late.connection.data_received(GOOD),
    "late twin": lambda r: r.late.connection.data_received(TWIN),
    "late garbage": lambda r: r.late.connection.data_received(GARBAGE),
    "late lost": lambda r: r.late.lose(),
}

S = dict[LinkState, LinkState]
_ALL = list(LinkState)
_SAME: S = {state: state for state in _ALL}
_CONNECTED: S = {state: state for state in (GREETING, UP, CLOSING, RETIRED)}

TABLE: dict[str, S] = {
    "due": {
        WAITING: DIALLING,
        DIALLING: WAITING,
        GREETING: CLOSING,
        CLOSING: WAITING,
        RETIRED: RETIRED,
    },
    "made": {DIALLING: GREETING},
    "failed": {DIALLING: WAITING},
    "not tried": {DIALLING: WAITING},
    "good": _CONNECTED | {GREETING: UP},
    "half": _CONNECTED,
    "refused": _CONNECTED | {GREETING: CLOSING},
    "twin": _CONNECTED | {GREETING: CLOSING},
    "differs": _CONNECTED | {GREETING: CLOSING},
    "renamed": _CONNECTED | {GREETING: CLOSING},
    "garbage": _CONNECTED,
    "good and more": _CONNECTED,
    "lost": _CONNECTED | {GREETING: WAITING, UP: WAITING, CLOSING: WAITING},
    "hurry": _SAME,
    "send": _SAME,
    "send over": _SAME,
    "named": {state: state for state in _ALL if state is not RETIRED},
    "left": {state: RETIRED for state in _ALL if state is not RETIRED},
    "late made": _SAME,
    "late failed": _SAME,
    "late good": _SAME,
    "late twin": _SAME,
    "late garbage": _SAME,
    "late lost": _SAME,
}
"""Input, state, next state. Without an entry: it cannot be, as a link has no timer while UP, and a
connection that is there is not made or refused once more."""

CASES = [(name, state, then) for name, row in TABLE.items() for state, then in row.items()]
_ids = [f"{name}-{state.name}" for name, state, _ in CASES]


@pytest.mark.parametrize(("name", "state", "then"), CASES, ids=_ids)
def test_what_happens_in_a_state_leads_to_the_next(
    name: str, state: LinkState, then: LinkState
) -> None:
    reached = reach(state)
    script = reached.script
    INPUTS[name](reached)
    assert reached.link.state is then
    told = ["welcome theirs", "up"] if then is UP and state is not UP else []
    told += ["down"] if state is UP and then is not UP else []
    assert script.told == told
    if state is UP:
        script.told.insert(0, "up")
        script.told.insert(0, "welcome theirs")
    if state is not RETIRED:
        script.check()


@pytest.mark.parametrize("state", [GREETING, UP, CLOSING, RETIRED])
@pytest.mark.parametrize("name", ["garbage", "good and more"])
def test_broken_protocol_ends_the_present_connection_and_is_counted(
    name: str, state: LinkState
) -> None:
    reached = reach(state)
    INPUTS[name](reached)
    assert reached.channel.is_aborted
    assert reached.script.journal.protocol_errors == 1
    reached.present.lose()
    assert reached.link.state is (RETIRED if state is RETIRED else WAITING)


@pytest.mark.parametrize("state", LinkState)
@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("late")])
def test_what_an_earlier_connection_tells_is_of_no_interest(name: str, state: LinkState) -> None:
    reached = reach(state)
    script = reached.script
    before = [(timer.due_ms, timer.is_pending) for timer in script.timers]
    counters = script.journal.counters()
    process, opened = reached.link.process, reached.present.is_open
    INPUTS[name](reached)
    assert [(timer.due_ms, timer.is_pending) for timer in script.timers] == before
    assert script.journal.counters() == counters
    assert (reached.link.process, reached.present.is_open) == (process, opened)
    assert reached.present.is_dialling == (state is DIALLING)
    if name == "late made":
        late = reached.late_dial.channel
        assert late is not None
        assert late.is_aborted
        assert late.written == []
        reached.late_dial.lose()
        assert reached.link.state is state


@pytest.mark.parametrize(
    ("state", "ms"),
    [(DIALLING, CONNECT_MS), (GREETING, HANDSHAKE_MS), (CLOSING, FLUSH_MS), (RETIRED, FLUSH_MS)],
)
def test_each_state_has_its_own_time(state: LinkState, ms: float) -> None:
    script = reach(state).script
    (timer,) = script.pending()
    assert timer.due_ms - script.now_ms == ms


def test_a_wait_is_drawn_and_a_hurried_one_is_none() -> None:
    reached = reach(WAITING)
    script = reached.script
    (timer,) = script.pending()
    assert 0 < timer.due_ms - script.now_ms <= 1_000
    script.links.hurry(PEER)
    (timer,) = script.pending()
    assert timer.due_ms == script.now_ms
    script.due()
    reached.present.fail()
    (timer,) = script.pending()
    assert timer.due_ms > script.now_ms, "it was hurried once"


@pytest.mark.parametrize("state", [DIALLING, GREETING, UP, CLOSING])
def test_a_hurry_in_the_middle_of_a_try_makes_the_next_wait_short(state: LinkState) -> None:
    reached = reach(state)
    script = reached.script
    script.links.hurry(PEER)
    if state is DIALLING:
        reached.present.fail()
    else:
        reached.present.lose()
    (timer,) = script.pending()
    assert timer.due_ms == script.now_ms


def test_a_dial_that_is_given_up_is_cancelled_and_so_is_one_whose_peer_is_left() -> None:
    for give_up in ("due", "left"):
        reached = reach(DIALLING)
        INPUTS[give_up](reached)
        assert reached.present.is_cancelled


@pytest.mark.parametrize("state", [WAITING, DIALLING])
def test_a_link_that_is_left_unconnected_is_forgotten_at_once(state: LinkState) -> None:
    reached = reach(state)
    reached.script.leave()
    assert not reached.script.links._retired
    assert not reached.script.pending()


@pytest.mark.parametrize("end", ["due", "lost"])
def test_a_link_that_is_left_connected_is_closed_and_forgotten_at_its_end(end: str) -> None:
    reached = reach(RETIRED)
    assert reached.channel.is_closed
    assert not reached.channel.is_aborted
    assert reached.script.links._retired == {reached.link}
    INPUTS[end](reached)
    assert not reached.script.links._retired
    assert not reached.script.pending()
    assert reached.channel.is_aborted == (end == "due"), "the loop may never tell that it is lost"


def test_a_greeting_is_sent_at_once_on_a_connection_that_is_tuned() -> None:
    reached = reach(GREETING)
    assert len(reached.channel.written) == 1
    assert reached.script.tuned[-1] is reached.channel


@pytest.mark.parametrize("state", LinkState)
def test_frames_are_written_only_while_up(state: LinkState) -> None:
    reached = reach(state)
    assert reached.script.send(queued_bytes=BOUND) == (state is UP)
    assert reached.script.journal.frames_dropped == (state is not UP)


def test_more_than_the_bound_aborts_and_what_follows_is_dropped_until_the_loss_is_told() -> None:
    reached = reach(UP)
    script = reached.script
    assert not script.send(queued_bytes=BOUND + 1)
    assert reached.channel.is_aborted
    assert not script.send()
    assert script.journal.links_overflowed == 1
    assert script.told == []
    reached.present.lose()
    assert script.told == ["down"]


@pytest.mark.parametrize(("lived_ms", "is_steady"), [(STEADY_MS, False), (STEADY_MS + 1, True)])
def test_only_a_link_that_was_steady_begins_its_waits_again(
    lived_ms: float, is_steady: bool
) -> None:
    reached = reach(UP)
    script = reached.script
    script.ceilings.seen.clear()
    script.now_ms += lived_ms
    reached.present.lose()
    assert script.ceilings.seen == [50 if is_steady else 200]


def test_a_link_that_never_came_up_is_not_steady_however_long_ago_the_last_was() -> None:
    reached = reach(UP)
    script = reached.script
    reached.present.lose()
    script.ceilings.seen.clear()
    script.now_ms += 10 * STEADY_MS
    for _ in range(2):
        script.due()
        reached.present.fail()
    assert script.ceilings.seen == [400, 800]


def test_a_welcome_that_raises_costs_the_connection_and_no_link_is_told_as_down() -> None:
    reached = reach(GREETING)
    reached.script.is_broken = True
    with pytest.raises(ZeroDivisionError):
        reached.hear(GOOD)
    reached.present.lose()
    assert reached.script.told == []
    assert reached.link.state is WAITING
    assert reached.link.process == 0


@pytest.mark.parametrize("end", ["due", "left"])
def test_a_greeting_that_is_whole_too_late_is_of_no_interest(end: str) -> None:
    reached = reach(GREETING)
    reached.hear(GOOD[:-1])
    INPUTS[end](reached)
    state = reached.link.state
    reached.hear(GOOD[-1:])
    assert reached.link.state is state is (CLOSING if end == "due" else RETIRED)
    assert reached.script.told == []


def test_a_connection_that_is_lost_after_its_time_to_close_does_not_begin_the_wait_anew() -> None:
    reached = reach(CLOSING)
    script = reached.script
    script.due()
    (timer,) = script.pending()
    script.now_ms += 1
    reached.hear(GARBAGE)
    reached.present.lose()
    assert script.pending() == [timer]
    assert script.journal.protocol_errors == 0


def test_a_link_that_is_left_while_it_closes_is_still_given_its_time() -> None:
    reached = reach(CLOSING)
    reached.script.leave()
    assert reached.script.links._retired == {reached.link}
    reached.script.due()
    assert reached.channel.is_aborted
    assert not reached.script.links._retired


@pytest.mark.parametrize("late", ["made", "failed"])
def test_a_dial_of_a_link_that_was_left_does_not_revive_it(late: str) -> None:
    reached = reach(DIALLING)
    reached.script.leave()
    INPUTS[late](reached)
    assert reached.link.state is RETIRED
    assert not reached.script.pending()
    assert late == "failed" or reached.channel.is_aborted


def test_close_waits_for_each_link_that_is_left() -> None:
    script = Script()
    for _ in range(2):
        script.name()
        script.dials[-1].made()
        script.leave()
    script.close()
    script.dials[0].lose()
    script.check()
    assert len(script.links._retired) == 1
    assert not any(timer.is_soon for timer in script.pending())
    script.dials[1].lose()
    script.due()
    assert script.closes == 1
    assert not script.pending()


def test_a_twin_is_told_exactly_when_it_was_refused_for_so_long() -> None:
    reached = reach(GREETING)
    script = reached.script
    reached.hear(TWIN)
    began_ms = script.now_ms
    for now_ms, twins in ((began_ms + TWIN_MS - 1, 0), (began_ms + TWIN_MS, 1)):
        reached.present.lose()
        script.due()
        reached.present.made()
        script.now_ms = now_ms
        reached.hear(TWIN)
        assert script.told == ["twin"] * twins
