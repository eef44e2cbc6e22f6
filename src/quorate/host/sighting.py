# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a peer at which address it sees this node, before the node knows its own URL.

The question is a greeting without a URL. Every answer to a greeting says where the dialler is seen
(`Greeting.seen`); this one says nothing else, and leaves nothing at the peer: no link, no member.
Behind a NAT that is the address of the NAT, where a port has to be forwarded for the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from quorate.core.topology.greeting import ASKED, hashed
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Greeting
from quorate.errors import PeerProtocolError
from quorate.host.system import Channel, System, Timer
from quorate.notation import show_text
from quorate.wire.frames import GreetingParser, encode_greeting

SIGHTING_MS: Final = 2_000.0
"""How long a peer has to answer."""
_SHOWN_CHARS: Final = 300


class NoAnswer(NamedTuple):
    """What came of a question instead."""

    reason: str
    """One line, for an operator."""
    is_distrust: bool = False
    """Whether the two ends do not trust each other, or may not."""


def why_foreign(answer: Greeting) -> str:
    """Why whoever answers so is no node of this cluster, one line; empty if it is one."""
    if answer.refusal == ASKED:
        return ""
    return show_text(answer.refusal[:_SHOWN_CHARS]) or "it answers a greeting as no node does"


class Sighting:
    """One question to one peer. (`system.Dialled`) `told` is called once, with the answer as it
    came, of which `seen` is this node's address."""

    def __init__(
        self,
        system: System,
        url: str,
        *,
        cluster: str,
        node_id: int,
        told: Callable[[Greeting | NoAnswer], None],
        padding: int = 0,
    ) -> None:
        """`padding`: bytes by which the question is longer than it need be."""
        self._system = system
        self._greeting = Greeting(
            *(PROTOCOL_MIN, PROTOCOL_MAX, hashed(cluster), "", node_id, 0, b"", ""),
            layout=bytes(padding),
        )
        self._told = told
        self._parser = GreetingParser()
        self._channel: Channel | None = None
        self._silence = ""
        """Why it may be that the peer ends the connection before it greets."""
        self._is_over = False
        self._patience: Timer = system.later(SIGHTING_MS, self._give_up)
        self._dial: Timer = system.dial(url, self)

    def dial_failed(self, why_not_tried: str) -> None:
        if why_not_tried:
            self._end(NoAnswer(why_not_tried, is_distrust=True))
        else:
            self._end(NoAnswer("nobody takes the connection"))

    def connection_made(self, channel: Channel) -> None:
        self._channel = channel
        if self._is_over:
            channel.abort()
            return
        proof = self._system.proof(channel)
        self._silence = proof.silence
        if proof.refusal:
            self._end(NoAnswer(proof.refusal, is_distrust=True))
        else:
            channel.write(encode_greeting(self._greeting))

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            answer = self._parser.feed(data)
        except PeerProtocolError:
            self._end(NoAnswer("what answers there does not greet as a node does"))
            return
        if answer is not None:
            self._end(answer)

    def _give_up(self) -> None:
        if self._channel is None:
            self._end(NoAnswer("no connection, or no TLS handshake, was made in time"))
        else:
            self._end(NoAnswer("no greeting came in time"))

    def _end(self, answer: Greeting | NoAnswer) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._patience.cancel()
        if self._channel is not None:
            self._channel.abort()
        else:
            self._dial.cancel()
        self._told(answer)

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, _: Exception | None) -> None:
        if self._silence:
            self._end(NoAnswer(self._silence, is_distrust=True))
        else:
            self._end(NoAnswer("it ended the connection before it greeted"))

    def pause_writing(self) -> None:
        """A greeting is all that is written."""

    def resume_writing(self) -> None:
        """Likewise."""
