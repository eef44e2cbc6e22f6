# SPDX-License-Identifier: GPL-3.0-or-later
"""Agreeing with others on who founds the cluster (`topology.founding`), over links.

Whoever has a layout founds nothing, and whoever found one first shows it to the others. A node that
promised to a list takes no other cluster's layout but from a node of that list: who has one will
not promise any more, so the list founds nothing.
"""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.outbox import Outbox
from quorate.core.topology.founding import Addressed, Founding, decode_promise
from quorate.core.topology.layout import Layout, first_layout, is_one_cluster
from quorate.core.topology.membership import LAYOUT_META, Membership
from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import Foundation
from quorate.errors import Conflict

FOUNDING_META: Final = b"founding"
"""The list that this node promised to."""
LOOK_MS: Final = 200
WAIT_MS: Final = 10_000
"""After so long it is said for whom a node that promised waits, or what one looks for."""
TELL_MS: Final = 60_000
"""How often one that looks says so."""


class Founders:
    """The exchange that founds a cluster; where a node looks for one that others founded
    (`-discover` alone), no more than what says so."""

    __slots__ = (
        "_alarm",
        "_founding",
        "_membership",
        "_outboxes",
        "_parts",
        "_since_ms",
        "_tell_ms",
    )

    def __init__(self, parts: Parts, membership: Membership, outboxes: list[Outbox]) -> None:
        """Conflict if this node promised to found a cluster with others, or with more or fewer,
        than it is told to now."""
        settings, stored = parts.settings, parts.replica.meta(FOUNDING_META)
        self._parts = parts
        self._membership = membership
        self._outboxes = outboxes
        self._founding = Founding(
            (settings.node_id, settings.url),
            count=settings.expect,
            replication=settings.replication,
            stored=stored,
            random=parts.random,
        )
        self._alarm = Alarm(parts.turn, self._look)
        self._since_ms: int | None = None
        """Since when this process waits for others to promise."""
        self._tell_ms = parts.turn.mono_ms + WAIT_MS
        """When it is said what this node looks for."""
        promised = sorted([url for _, url in decode_promise(stored)])
        listed = sorted(settings.nodes or (settings.url,))
        if promised and parts.replica.meta(LAYOUT_META) is None:
            if not settings.expect and promised != listed:
                raise Conflict(
                    f"this directory promised to found a cluster with {', '.join(promised)}: go on"
                    " with the same -discover and -expect, or begin with an empty -data"
                )
            if settings.expect not in (0, len(promised)):
                raise Conflict(
                    f"this directory promised to found a cluster of {len(promised)}, which are"
                    f" {', '.join(promised)}: go on with -expect={len(promised)}, or begin with an"
                    " empty -data"
                )
            membership.may_adopt = self._may_adopt
        if settings.expect or settings.is_seeking:
            self._alarm.soon()

    def hear(self, peer: Peer, message: Foundation) -> None:
        """Take what another node says of a list."""
        founding, settings = self._founding, self._parts.settings
        is_elsewhere = self._membership.layout is not None and not founding.promised
        if settings.expect and not is_elsewhere:
            if message.replication != settings.replication:
                theirs = f"{peer.url} was started with -replication={message.replication}"
                self._differ(f"{theirs}, and this node with {settings.replication}")
            self._carry_out(founding.hear(peer.id, message, self._parts.turn.mono_ms))

    def _look(self) -> None:
        """Say what is to be said now, and look again a little later, until there is a layout."""
        if self._membership.layout is not None:
            return
        turn = self._parts.turn
        found = [peer for peer in self._membership.roster.peers if peer.is_there]
        if self._parts.settings.expect:
            found = self._looking(found)
            seen = [(peer.id, peer.url) for peer in found]
            self._carry_out(self._founding.look(turn.mono_ms, seen))
        self._alarm.at(turn.mono_ms + LOOK_MS)
        waits_for = self._founding.waits_for()
        if turn.mono_ms >= self._tell_ms and not self._founding.promised:
            self._tell(len(found))
        if waits_for and self._since_ms is None:
            self._since_ms = turn.mono_ms
        if self._since_ms is not None and turn.mono_ms >= self._since_ms + WAIT_MS:
            turn.note_rarely("warning", "founding_waits", nodes=", ".join(waits_for))

    def _looking(self, found: list[Peer]) -> list[Peer]:
        """Those that expect as many founders as this node does."""
        expect = self._parts.settings.expect
        looking = [peer for peer in found if peer.told.expect and not peer.epoch]
        for peer in looking:
            if peer.told.expect != expect:
                theirs = f"{peer.url} was started with -expect={peer.told.expect}"
                self._differ(f"{theirs}, and this node with {expect}")
        return [peer for peer in looking if peer.told.expect == expect]

    def _tell(self, found: int) -> None:
        """Say what this node looks for, so that its log does not end with its start."""
        turn, settings = self._parts.turn, self._parts.settings
        self._tell_ms = turn.mono_ms + TELL_MS
        facts: dict[str, int | str] = {"found": found}
        if settings.expect:  # Which counts this node too.
            facts = {"found": found + 1, "expected": settings.expect}
        sources = ", ".join(settings.discover)
        reason = settings.why_no_layout
        turn.note("info", "discovery_waits", discover=sources, reason=reason, **facts)

    def _differ(self, reason: str) -> None:
        self._parts.turn.note_rarely("warning", "founders_differ", reason=reason)

    def _carry_out(self, said: list[Addressed]) -> None:
        founding, replica = self._founding, self._parts.replica
        for node_id, message in said:
            peer = self._membership.roster.by_id.get(node_id)
            if peer is not None:
                self._outboxes[peer.index].say(message)
        if founding.keep is not None:
            replica.put_meta(FOUNDING_META, founding.keep)
            founding.keep = None
            self._membership.may_adopt = self._may_adopt
            replica.when_durable(lambda: self._carry_out(founding.kept()))
        if founding.founded and self._membership.layout is None:
            layout = self._promised_layout()
            self._parts.turn.note("info", "founded", nodes=", ".join(layout.urls()))
            self._membership.adopt(layout)

    def _promised_layout(self) -> Layout:
        urls = [url for _, url in self._founding.promised]
        return first_layout(urls, replication=self._parts.settings.replication)

    def _may_adopt(self, layout: Layout, url: str) -> bool:
        """Whether to take a first layout from the node at `url`."""
        if self._membership.layout is not None:
            return True
        peer = self._membership.roster.at(url)
        is_of_list = peer is not None and (peer.id, url) in self._founding.promised
        return is_of_list or is_one_cluster(layout.lineage, self._promised_layout().lineage)
