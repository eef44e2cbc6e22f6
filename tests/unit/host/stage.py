# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver with a real node, on a virtual system, whose peers, disk and clients are the test."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from quorate.config import Config
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Batch, Effects, Event, LocalGet, LocalPut, Put
from quorate.core.values.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Frame,
    Greeting,
    Message,
    Ping,
    Pong,
)
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.host.acceptor import Incoming
from quorate.host.driver import LINGER_MS, Driver
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import founded, id_of, settings_of, url_of
from quorate.wire.frames import FrameParser, GreetingParser, encode_frame, encode_greeting
from tests.unit.host.fakes import FakeChannel, FakeClient, FakeEngine, VirtualDial, VirtualSystem

NEVER_MS = 1 << 40


def record(number: int, *, size: int = 1) -> Record:
    """A record that tells its number, stamped at the beginning of the world."""
    return Record(pack_version((EPOCH_MS << 16) + number, 1), b"x" * size)


class Stage:
    """Node 0 of `count`, after its first turn, with nothing to do and no heartbeat unless given."""

    def __init__(
        self,
        count: int = 1,
        *,
        needs_sync: bool = True,
        waiting_bytes_spare: int = 1 << 20,
        refusal: Exception | None = None,
        **settings: Any,
    ) -> None:
        self.system = VirtualSystem()
        self.story = self.system.story
        self.engine = FakeEngine(self.story, needs_sync=False)
        members = tuple([(url_of(index), id_of(index)) for index in range(count)])
        layout = founded(members, replication=3).encode()
        self.engine.write(Batch([], [], [(LAYOUT_META, layout)]))
        self.story.clear()
        self.engine.refusal = refusal
        self.client = FakeClient(self.story)
        self.steps: list[list[Event]] = []
        """The events of each, since the node began."""
        self.marks: list[int] = []
        """Of the batches."""
        self.channels: dict[str, FakeChannel] = {}
        """Of the links to peers, by their URL."""
        self.incoming: dict[str, tuple[Incoming, FakeChannel]] = {}
        """Connections of peers, by their URL."""
        self.stops = 0
        """How often it was told that the node has stopped."""
        self.driver = Driver(
            Config(),
            settings_of(0, range(count), **({"heartbeat_ms": NEVER_MS} | settings)),
            self.engine,
            self.system,
            Random(1),
            waiting_bytes_spare=waiting_bytes_spare,
            counts=lambda: {"cache_hits": 5},
            on_step=self._on_step,
        )
        self.driver.start()
        self.turn()
        self.engine.needs_sync = needs_sync
        self.forget()

    def _on_step(self, events: Sequence[Event], effects: Effects) -> None:
        self.steps.append(list(events))
        self.story.append("step")
        if effects.batch is not None:
            self.marks.append(effects.mark)

    def forget(self) -> None:
        """Begin the story anew."""
        self.steps.clear()
        self.marks.clear()
        self.story.clear()

    def turn(self) -> None:
        """Let the node take what was submitted."""
        self.system.turn()

    @property
    def events(self) -> list[Event]:
        """Of all steps."""
        return [event for step in self.steps for event in step]

    # --- clients -------------------------------------------------------------------------------

    def submit_store(
        self, number: int, *, size: int = 1, client: FakeClient | None = None
    ) -> Event:
        """Submit what makes one record, is answered once that is durable, and till then in flight:
        `row-1` for number 1."""
        event = LocalPut(client or self.client, b"row-%d" % number, record(number, size=size))
        self.driver.submit(event)
        return event

    def store(self, number: int, *, size: int = 1, client: FakeClient | None = None) -> None:
        """The same in a turn of its own."""
        self.submit_store(number, size=size, client=client)
        self.turn()

    def submit_ask(self, client: FakeClient | None = None) -> Event:
        """Submit what is answered in the next step."""
        event = LocalGet(client or self.client, b"k")
        self.driver.submit(event)
        return event

    def put(self, key: bytes, **options: Any) -> FakeClient:
        """Ask for a write, in a turn of its own."""
        client = FakeClient(self.story, "writer")
        self.driver.submit(Put(client, key, b"v", **options))
        self.turn()
        return client

    def stop(self) -> None:
        """Tell the node to stop, and let it refuse requests for as long as it does."""
        self.tell_to_stop()
        self.system.run(LINGER_MS)

    def tell_to_stop(self) -> None:
        """Begin its orderly stop."""
        self.driver.stop(self._stopped)

    def _stopped(self) -> None:
        self.story.append("stopped")
        self.stops += 1

    # --- peers ---------------------------------------------------------------------------------

    def greeting_of(self, index: int, **changes: Any) -> Greeting:
        """How a peer introduces itself."""
        mine = self.driver.node.membership.greeting()
        fields: dict[str, Any] = {
            "protocol_min": PROTOCOL_MIN,
            "protocol_max": PROTOCOL_MAX,
            "cluster": mine.cluster,
            "url": url_of(index),
            "node_id": id_of(index),
            "epoch": mine.epoch,
            "layout_hash": mine.layout_hash,
            "version": "0.0.0",
            "process": 100 + index,
        }
        return Greeting(**(fields | changes))

    def dial_to(self, index: int) -> VirtualDial:
        """The last try to reach a peer."""
        return [dial for dial in self.system.dials if dial.url == url_of(index)][-1]

    def answer(self, index: int, **changes: Any) -> FakeChannel:
        """Let the peer take the connection that it was last asked for, and greet."""
        connection = self.dial_to(index).connection
        channel = FakeChannel(self.system, connection, url_of(index))
        self.channels[url_of(index)] = channel
        connection.data_received(encode_greeting(self.greeting_of(index, **changes)))
        return channel

    def call(self, index: int, **changes: Any) -> FakeChannel:
        """Let the peer dial the node, and greet."""
        incoming = self.driver.acceptor.connection()
        channel = FakeChannel(self.system, incoming, f"back to {url_of(index)}")
        self.incoming[url_of(index)] = incoming, channel
        incoming.data_received(encode_greeting(self.greeting_of(index, **changes)))
        return channel

    def link(self, *indices: int) -> list[FakeChannel]:
        """Bring up both links with these peers, and have them answer: they are asked from now on.
        Returns the channels to them."""
        channels = []
        for index in indices:
            channel = self.answer(index)
            self.call(index)
            self.turn()
            for ping in self.said(channel, Ping):
                self.hear(index, Pong(ping.batch))
            channels.append(channel)
        self.turn()
        self.forget()
        for channel in channels:
            channel.written.clear()
        return channels

    def hear(self, index: int, *messages: Message) -> None:
        """A peer's frame arrives."""
        epoch = self.driver.node.membership.epoch
        incoming, _ = self.incoming[url_of(index)]
        incoming.data_received(encode_frame(Frame(epoch, 0, list(messages))))

    def frames(self, channel: FakeChannel) -> list[Frame]:
        """What was written to a peer, greetings left out."""
        greeting = GreetingParser()
        data = b"".join(channel.written)
        if data.startswith(b"QRT1"):
            greeting.feed(data)
            data = greeting.rest
        return FrameParser().feed(data)

    def said(self, channel: FakeChannel, kind: type[Any]) -> list[Any]:
        """Messages of one kind in it."""
        messages = [message for frame in self.frames(channel) for message in frame.messages]
        return [message for message in messages if isinstance(message, kind)]
