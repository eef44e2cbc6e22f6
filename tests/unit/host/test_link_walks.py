# SPDX-License-Identifier: GPL-3.0-or-later
"""A link through all that may happen to it, in any order, at random."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quorate.host.links import LinkState
from tests.unit.host.scripted import (
    BOUND,
    DIFFERS,
    GARBAGE,
    GOOD,
    PEER,
    REFUSED,
    TWIN,
    FakeDial,
    Script,
)


class AtRandom(RuleBasedStateMachine):
    """Anything, in any order that a system may have."""

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.is_closed = False

    @rule()
    @precondition(lambda self: not self.is_closed)
    def name(self) -> None:
        self.script.name()

    @rule()
    def leave(self) -> None:
        self.script.leave()

    @rule()
    def hurry(self) -> None:
        self.script.links.hurry(PEER)

    @rule(is_over=st.booleans())
    def send(self, is_over: bool) -> None:
        link = self.script.links.links.get(PEER)
        was_open = link is not None and link.state is LinkState.UP and self.script.dials[-1].is_open
        is_sent = self.script.send(queued_bytes=BOUND + is_over)
        assert is_sent == (was_open and not is_over)

    @rule()
    @precondition(lambda self: self.script.pending())
    def due(self) -> None:
        self.script.due()

    @rule(ms=st.floats(1, 5_000))
    def later(self, ms: float) -> None:
        """Time passes, and timers are late, as they may be."""
        self.script.now_ms += ms

    def _pick(self, of: list[FakeDial], data: st.DataObject) -> FakeDial:
        # The newest first: that is where most happens.
        return data.draw(st.sampled_from(of[::-1]))

    def _unmade(self) -> list[FakeDial]:
        return [d for d in self.script.dials if d.channel is None and not d.has_failed]

    def _unlost(self) -> list[FakeDial]:
        dials = self.script.dials
        return [d for d in dials if d.channel is not None and not d.channel.is_lost]

    @rule(data=st.data())
    @precondition(lambda self: self._unmade())
    def made(self, data: st.DataObject) -> None:
        """Of one that was cancelled too, if it was too late for that."""
        dial = self._pick(self._unmade(), data)
        channel = dial.made()
        assert channel.is_aborted == dial.is_cancelled

    @rule(data=st.data(), why=st.sampled_from(["", "no peer is there"]))
    @precondition(lambda self: any(dial.is_dialling for dial in self.script.dials))
    def fail(self, data: st.DataObject, why: str) -> None:
        self._pick([d for d in self.script.dials if d.is_dialling], data).fail(why)

    @rule(
        data=st.data(),
        said=st.sampled_from([GOOD, GOOD, GOOD[:9], GOOD[9:], REFUSED, TWIN, DIFFERS, GARBAGE]),
    )
    @precondition(lambda self: self._unlost())
    def hear(self, data: st.DataObject, said: bytes) -> None:
        self._pick(self._unlost(), data).connection.data_received(said)

    @rule(data=st.data())
    @precondition(lambda self: self._unlost())
    def lose(self, data: st.DataObject) -> None:
        self._pick(self._unlost(), data).lose()

    @rule()
    @precondition(lambda self: not self.is_closed)
    def close(self) -> None:
        self.is_closed = True
        self.script.close()

    @invariant()
    def holds(self) -> None:
        script = self.script
        script.check()
        assert script.closes <= self.is_closed
        if self.is_closed and not script.pending():
            assert script.closes == 1
            assert not script.links._retired
            assert not any(dial.is_dialling or dial.is_open for dial in script.dials)


TestAtRandom = AtRandom.TestCase
TestAtRandom.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
