# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer of a real node that says whatever a test wants."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import msgspec

from quorate.core.topology.greeting import hashed
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Frame, Greeting, Message
from quorate.wire.frames import FrameParser, GreetingParser, encode_frame, encode_greeting
from tests.cluster.processes import NodeProcess
from tests.ports import free_port

WAIT_S = 15.0


class Stranger:
    """It listens where it says that it is, dials a node, and is linked with it both ways."""

    def __init__(self, node: NodeProcess, *, node_id: int = 7) -> None:
        self.node = node
        port = free_port()
        self.url = f"http://localhost:{port}"
        self.greeting = Greeting(
            PROTOCOL_MIN,
            PROTOCOL_MAX,
            hashed("quorate"),
            self.url,
            node_id,
            0,
            b"",
            "0.2",
            process=node_id,
        )
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(WAIT_S)
        self.out = socket.create_connection(("localhost", node.port), timeout=WAIT_S)
        self.frames = FrameParser()
        self.inward: socket.socket | None = None
        self.epoch = 0
        """Under which it asks: that of the node when it answered the greeting."""

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, self.out, self.inward):
            if each is not None:
                each.close()

    def greet(self, **changes: object) -> Greeting:
        """Introduce itself; what the node answers."""
        self.greeting = msgspec.structs.replace(self.greeting, **changes)
        self.out.sendall(encode_greeting(self.greeting))
        answer = _greeting_of(self.out)
        self.epoch = answer.epoch
        return answer

    def take_link(self) -> Greeting:
        """Take the node's own link; what the node says of itself there."""
        self.inward, _ = self._listener.accept()
        self.inward.settimeout(WAIT_S)
        theirs = _greeting_of(self.inward)
        self.inward.sendall(encode_greeting(self.greeting))
        return theirs

    def say(self, *messages: Message) -> None:
        """Send a frame."""
        self.out.sendall(encode_frame(Frame(self.epoch, 0, list(messages))))

    def hears(self) -> Iterator[list[Message]]:
        """What the node says on its own link, frame by frame."""
        assert self.inward is not None
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            for frame in self.frames.feed(self.inward.recv(1 << 20)):
                yield frame.messages

    def is_ended(self) -> bool:
        """Whether the node ended the link that it hears this stranger on; waits for it."""
        try:
            return self.out.recv(1) == b""
        except ConnectionError:
            return True


def _greeting_of(connection: socket.socket) -> Greeting:
    parser = GreetingParser()
    while True:
        data = connection.recv(1 << 16)
        assert data, "ended before a greeting"
        greeting = parser.feed(data)
        if greeting is not None:
            return greeting
