# SPDX-License-Identifier: GPL-3.0-or-later
"""Links over a system that does nothing by itself: each dial, connection and timer goes on when a
test says so, in any order that a real one may have, and is checked to be left as it must be."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from quorate.core.values.events import Instant, LinkDown, LinkUp, Note
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Frame, Greeting
from quorate.host.journal import LinkJournal
from quorate.host.links import Link, LinkState, PeerLinks
from quorate.host.system import Channel, Dialled, Proof, Timer
from quorate.wire.frames import encode_greeting
from tests.unit.host.wires import frame, url_of

PEER = url_of(2)
MINE = Greeting(PROTOCOL_MIN, PROTOCOL_MAX, "c", url_of(1), 1, 1, b"h" * 16, "mine", process=1)
THEIRS = msgspec.structs.replace(MINE, url=PEER, node_id=2, version="theirs", process=2)
GOOD = encode_greeting(THEIRS)
REFUSED = encode_greeting(msgspec.structs.replace(THEIRS, refusal="no"))
TWIN = encode_greeting(msgspec.structs.replace(THEIRS, refusal="no", reached=9))
DIFFERS = encode_greeting(msgspec.structs.replace(THEIRS, cluster="other"))
RENAMED = encode_greeting(msgspec.structs.replace(THEIRS, url=url_of(3), node_id=3))
GARBAGE = b"HTTP/1.1 200 OK\r\n\r\n"
BOUND = 1_000


class FakeChannel:
    """What a link does to a connection."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.queued_bytes = 0
        self.is_closed = False
        self.is_aborted = False
        self.is_lost = False

    def write(self, data: bytes) -> None:
        assert not self.is_closing()
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.queued_bytes

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted or self.is_lost

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        # asyncio raises on one that has flushed, ended and then is aborted.
        assert not self.is_lost
        self.is_aborted = True

    def get_extra_info(self, name: str) -> Any:
        del name


class FakeDial:
    """A connection, from the dial on."""

    def __init__(self, url: str, connection: Dialled) -> None:
        self.url = url
        self.connection = connection
        self.channel: FakeChannel | None = None
        self.is_cancelled = False
        self.has_failed = False

    def cancel(self) -> None:
        self.is_cancelled = True

    @property
    def is_dialling(self) -> bool:
        return self.channel is None and not self.is_cancelled and not self.has_failed

    @property
    def is_open(self) -> bool:
        return self.channel is not None and not self.channel.is_closing()

    def made(self) -> FakeChannel:
        assert self.channel is None
        assert not self.has_failed
        self.channel = FakeChannel()
        self.connection.connection_made(self.channel)
        return self.channel

    def fail(self, why_not_tried: str = "") -> None:
        assert self.channel is None
        self.has_failed = True
        self.connection.dial_failed(why_not_tried)

    def lose(self) -> None:
        assert self.channel is not None
        self.channel.is_lost = True
        self.connection.connection_lost(None)


class FakeTimer:
    def __init__(self, due_ms: float, call: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.call = call
        self.is_pending = True
        self.is_soon = False

    def cancel(self) -> None:
        self.is_pending = False


class Ceilings(Random):
    """Remembers the ceilings that it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seen: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.seen.append(b)
        return super().uniform(a, b)


class Script:
    """The system, and the links to one peer on it."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.dials: list[FakeDial] = []
        self.timers: list[FakeTimer] = []
        self.tuned: list[Channel] = []
        self.told: list[str] = []
        """What the links told, in order."""
        self.notes: list[Note] = []
        self.ceilings = Ceilings()
        self.is_broken = False
        """Whether a welcome raises."""
        self.proven = Proof()
        """What the other end of each connection proves."""
        self.closes = 0
        """How often `close` was done."""
        self.journal = LinkJournal(log=self.notes.append, mono_ms=lambda: int(self.now_ms))
        self.links = PeerLinks(
            self,
            greeting=lambda: MINE,
            on_event=self._note,
            on_refused=lambda *_: None,
            on_welcome=self._welcome,
            on_twin=lambda: self.told.append("twin"),
            random=self.ceilings,
            journal=self.journal,
        )
        self.links.outbox_bytes_max = BOUND

    def _welcome(self, theirs: Greeting) -> None:
        if self.is_broken:
            raise ZeroDivisionError
        self.told.append(f"welcome {theirs.version}")

    def _note(self, event: LinkUp | LinkDown) -> None:
        assert event.peer == THEIRS.node_id
        self.told.append("up" if isinstance(event, LinkUp) else "down")

    # --- `host.system.System` ------------------------------------------------------------------

    def now(self) -> Instant:
        return Instant(int(self.now_ms), int(self.now_ms))

    def soon(self, call: Callable[[], None]) -> object:
        self.later(0.0, call)
        self.timers[-1].is_soon = True
        return self.timers[-1]

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        self.timers.append(FakeTimer(self.now_ms + ms, call))
        return self.timers[-1]

    def sync(self, done: Callable[[BaseException | None], None]) -> None:
        del done
        raise AssertionError("links store nothing")

    def dial(self, url: str, connection: Dialled) -> Timer:
        self.dials.append(FakeDial(url, connection))
        return self.dials[-1]

    def proof(self, channel: Channel) -> Proof:
        del channel
        return self.proven

    def tune(self, channel: Channel) -> None:
        self.tuned.append(channel)

    def log(self, note: Note) -> None:
        self.notes.append(note)

    def fault(self, what: str, error: Exception) -> None:
        raise AssertionError(what) from error

    def end(self, reason: str) -> None:
        raise AssertionError(reason)

    # --- what a test does ------------------------------------------------------------------------

    def name(self) -> Link:
        """Have the peer named; its link."""
        self.links.set_peers([PEER])
        return self.links.links[PEER]

    def leave(self) -> None:
        self.links.set_peers([])

    def close(self) -> None:
        self.links.close(self._note_closed)

    def _note_closed(self) -> None:
        self.closes += 1

    def pending(self) -> list[FakeTimer]:
        """Timers that are set, the next first."""
        return sorted((t for t in self.timers if t.is_pending), key=lambda timer: timer.due_ms)

    def due(self) -> None:
        """Let the next timer be due."""
        timer = self.pending()[0]
        self.now_ms = max(self.now_ms, timer.due_ms)
        timer.cancel()
        timer.call()

    def send(self, *, queued_bytes: int = 0) -> bool:
        """Send a frame; whether it was written."""
        for dial in self.dials:
            if dial.channel is not None:
                dial.channel.queued_bytes = queued_bytes
        sent = self.journal.frames_sent
        self.links.send(THEIRS.node_id, _FRAME)
        return self.journal.frames_sent > sent

    # --- what must always hold -------------------------------------------------------------------

    def check(self) -> None:
        """The invariants of links, whatever has happened."""
        ups = [each for each in self.told if each in ("up", "down")]
        assert ups == (["up", "down"] * len(ups))[: len(ups)], "up and down alternate"
        link = self.links.links.get(PEER)
        is_up = link is not None and link.state is LinkState.UP
        assert (ups[-1:] == ["up"]) == is_up
        assert (0 if link is None else link.process) == (2 if is_up else 0)
        for i, told in enumerate(self.told):
            assert (told == "up") == (i > 0 and self.told[i - 1] == "welcome theirs")
        dialling = sum(dial.is_dialling for dial in self.dials)
        opened = sum(dial.is_open for dial in self.dials)
        timers = sum(not timer.is_soon for timer in self.pending())
        state = None if link is None else link.state
        assert dialling == (state is LinkState.DIALLING)
        assert opened <= (state in (LinkState.GREETING, LinkState.UP))
        if state is LinkState.GREETING:
            aborted = self.dials[-1].channel
            assert aborted is not None
            assert opened == 1 or aborted.is_aborted
        retired = len(self.links._retired)
        waits = state not in (None, LinkState.UP)
        # One for each state that ends by itself.
        assert timers == waits + retired
        assert all(link.state is LinkState.RETIRED for link in self.links._retired)


_FRAME: Frame = frame(1)
