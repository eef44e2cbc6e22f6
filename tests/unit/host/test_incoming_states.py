# SPDX-License-Identifier: GPL-3.0-or-later
"""Every state of an incoming link, and everything that may happen in it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from quorate.core.values.messages import Frame, Greeting
from quorate.host.acceptor import FRAME_MS, Acceptor, Incoming, IncomingState
from quorate.host.links import HANDSHAKE_MS
from quorate.host.system import Proof
from quorate.wire.frames import FRAME_BYTES_MAX, GREETING_BYTES_MAX, encode_frame
from tests.unit.host.scripted import GARBAGE, GOOD, MINE, THEIRS, FakeChannel, Script
from tests.unit.host.wires import frame

GREETING, STRANGER, PROVEN, REFUSED, ENDED = IncomingState
WHOLE = encode_frame(frame(1))


class Dialled:
    """An acceptor with one connection, whose greeting it judges as a test says."""

    def __init__(self) -> None:
        self.script = Script()
        self.refusal = ""
        self.reached = 0
        self.accepted: list[Greeting] = []
        self.frames: list[Frame] = []
        self.acceptor = Acceptor(
            self.script,
            judge=lambda _: msgspec.structs.replace(
                MINE, refusal=self.refusal, reached=self.reached
            ),
            on_frames=lambda _, frames: self.frames.extend(frames),
            on_accepted=self.accepted.append,
            journal=self.script.journal,
        )
        self.incoming, self.channel = self.dial()

    def dial(self) -> tuple[Incoming, FakeChannel]:
        """One more connection."""
        incoming, channel = self.acceptor.connection(), FakeChannel()
        incoming.connection_made(channel)
        return incoming, channel

    def hear(self, data: bytes) -> None:
        self.incoming.data_received(data)

    def greet(self, *, refusal: str = "", reached: int = 0) -> None:
        self.refusal, self.reached = refusal, reached
        self.hear(GOOD)

    def reach(self, process: int = THEIRS.process) -> None:
        """Our own link comes up, to that process of the peer."""
        self.acceptor.keep_only(msgspec.structs.replace(THEIRS, process=process))

    def dial_again(self) -> None:
        """The peer greets on another connection."""
        newer, _ = self.dial()
        self.refusal = ""
        newer.data_received(GOOD)

    def lose(self) -> None:
        self.channel.is_lost = True
        self.incoming.connection_lost(None)


def reach(state: IncomingState) -> Dialled:
    dialled = Dialled()
    if state is not GREETING:
        dialled.greet(refusal="no" if state is REFUSED else "")
    if state is PROVEN:
        dialled.reach()
    elif state is ENDED:
        dialled.incoming.abort()
    assert dialled.incoming.state is state
    return dialled


Input = Callable[[Dialled], object]

INPUTS: dict[str, Input] = {
    "late": lambda d: d.script.due(),
    "half a greeting": lambda d: d.hear(GOOD[:-1]),
    "agreed": lambda d: d.greet(),
    "agreed and reached": lambda d: d.greet(reached=THEIRS.process),
    "refused": lambda d: d.greet(refusal="no"),
    "agreed and a frame": lambda d: d.hear(GOOD + WHOLE),
    "agreed and garbage": lambda d: d.hear(GOOD + GARBAGE),
    "a frame": lambda d: d.hear(WHOLE),
    "garbage": lambda d: d.hear(GARBAGE),
    "its process reached": lambda d: d.reach(),
    "another process reached": lambda d: d.reach(process=99),
    "dialled again": lambda d: d.dial_again(),
    "closed": lambda d: d.acceptor.close(),
    "lost": lambda d: d.lose(),
}

S = dict[IncomingState, IncomingState]
_SAME: S = {state: state for state in IncomingState}
_END: S = dict.fromkeys(IncomingState, ENDED)
_GREETED: S = {REFUSED: REFUSED, ENDED: ENDED}

TABLE: dict[str, S] = {
    "late": {GREETING: ENDED, REFUSED: ENDED},
    "half a greeting": {GREETING: GREETING, **_GREETED},
    "agreed": {GREETING: STRANGER, **_GREETED},
    "agreed and reached": {GREETING: PROVEN, **_GREETED},
    "refused": {GREETING: REFUSED, **_GREETED},
    "agreed and a frame": {GREETING: STRANGER, **_GREETED},
    "agreed and garbage": {GREETING: ENDED, **_GREETED},
    "a frame": {GREETING: ENDED, STRANGER: STRANGER, PROVEN: PROVEN, **_GREETED},
    "garbage": {GREETING: ENDED, STRANGER: ENDED, PROVEN: ENDED, **_GREETED},
    "its process reached": _SAME | {STRANGER: PROVEN},
    "another process reached": _SAME | {STRANGER: ENDED, PROVEN: ENDED},
    "dialled again": _SAME | {STRANGER: ENDED, PROVEN: ENDED},
    "closed": _END,
    "lost": _END,
}
"""Input, state, next state. Without an entry: it cannot be, as only who has yet to greet, or was
refused, has a timer; and a greeting behind a greeting is garbage."""

CASES = [(name, state, then) for name, row in TABLE.items() for state, then in row.items()]
_ids = [f"{name}-{state.name}" for name, state, _ in CASES]
_CARRYING = (STRANGER, PROVEN)


@pytest.mark.parametrize(("name", "state", "then"), CASES, ids=_ids)
def test_what_happens_in_a_state_leads_to_the_next(
    name: str, state: IncomingState, then: IncomingState
) -> None:
    dialled = reach(state)
    accepted, frames = len(dialled.accepted), len(dialled.frames)
    INPUTS[name](dialled)
    assert dialled.incoming.state is then
    is_new = (name.startswith("agreed") and state is GREETING) or name == "dialled again"
    assert len(dialled.accepted) - accepted == is_new
    is_heard = (name == "a frame" and state in _CARRYING) or (
        name == "agreed and a frame" and state is GREETING
    )
    assert dialled.frames[frames:] == [frame(1)] * is_heard
    was_open = state is not ENDED and name != "lost"
    assert dialled.channel.is_aborted == (state is ENDED or (then is ENDED and was_open))


@pytest.mark.parametrize("state", IncomingState)
def test_only_who_has_yet_to_greet_or_was_refused_is_under_a_deadline(state: IncomingState) -> None:
    dialled = reach(state)
    due = [timer.due_ms for timer in dialled.script.pending()]
    assert due == ([HANDSHAKE_MS] if state in (GREETING, REFUSED) else [])
    assert dialled.incoming.is_silent == (state in (GREETING, REFUSED))


@pytest.mark.parametrize("state", IncomingState)
def test_only_who_is_proven_does_not_give_way_to_strangers_and_may_send_long_frames(
    state: IncomingState,
) -> None:
    dialled = reach(state)
    assert (dialled.incoming in dialled.acceptor._unproven) == (state is not PROVEN)
    bytes_max = FRAME_BYTES_MAX if state is PROVEN else GREETING_BYTES_MAX
    assert dialled.incoming.frames.bytes_max == bytes_max


@pytest.mark.parametrize("state", IncomingState)
def test_a_connection_that_is_lost_is_forgotten_with_its_timers(state: IncomingState) -> None:
    dialled = reach(state)
    dialled.hear(WHOLE[:-1] if state in _CARRYING else b"")
    dialled.lose()
    acceptor = dialled.acceptor
    assert not (acceptor._connections)
    assert not (acceptor._unproven)
    assert not (acceptor._by_peer)
    assert not dialled.script.pending()
    assert acceptor.begun_bytes == 0


@pytest.mark.parametrize("state", _CARRYING)
def test_a_frame_that_was_begun_has_its_time_to_become_whole(state: IncomingState) -> None:
    dialled = reach(state)
    dialled.hear(WHOLE[:-1])
    (timer,) = dialled.script.pending()
    assert timer.due_ms == FRAME_MS
    dialled.script.due()
    assert dialled.incoming.state is ENDED


@pytest.mark.parametrize(
    "proof", [Proof(refusal="a certificate of another cluster"), Proof(node_id=99)]
)
def test_who_proves_to_be_another_is_ended_without_an_answer(proof: Proof) -> None:
    dialled = Dialled()
    dialled.script.proven = proof
    dialled.incoming, dialled.channel = dialled.dial()
    assert dialled.incoming.state is (ENDED if proof.refusal else GREETING)
    dialled.hear(GOOD)
    assert dialled.incoming.state is ENDED
    assert dialled.channel.written == []
    assert dialled.accepted == []
