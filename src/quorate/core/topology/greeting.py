# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two nodes may talk: what must be equal, what must differ.

Who has not shown that it is of this cluster, by a hash of its name, is told no more than that; the
name itself is never said. It is no proof, for whoever was told the hash can repeat it. So nobody
who is refused is told more than what an honest dialler acts on: why, and where it says something of
itself that can be, our URL and which process we reach at its.

The rules are symmetrical, so both ends of a link come to the same verdict. Both apply them, the
acceptor to the greeting and the dialler to the answer: an honest end needs no trust in the other.

A copied data directory, machine or container, started beside the original, makes two processes
with one URL. Whoever dials that URL reaches one of them; from the other it takes no link, so that a
node's acknowledgements come from the disk that its reads ask. A link that leads to a process that
ended looks alive for a while, so a process may be refused like that after a restart. If it still is
when such a link is lost for sure, then there are two, and it ends.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from quorate.core.topology.layout import (
    CLUSTER_BYTES,
    WEIGHT_MAX,
    ZONE_CHARS_MAX,
    decode_layout,
    is_one_cluster,
)
from quorate.core.values.messages import Greeting
from quorate.core.values.settings import NODE_ID_MAX
from quorate.notation import is_url, show_text

TWIN_MS: Final = 16_000
"""Who is refused for so long, again and again, because another process has its URL, knows that the
other lives: longer than the link to a dead one looks alive (`transport.sockets`)."""
ASKED: Final = "who does not say its URL asks where it is seen, and is told no more"
"""The refusal of a greeting without a URL (`host.sighting`)."""
ITSELF: Final = "this is the node itself, under another name"
_SHOWN_CHARS: Final = 80
_URLS_SHOWN: Final = 2


def judge(mine: Greeting, theirs: Greeting) -> str:
    """Why these two must not talk, one line for an operator; empty if they may.

    A node that has not learnt the layout, or has one of another epoch of the same cluster, is let
    in: whoever is behind adopts the other's. Layouts of two clusters are two clusters' worth of
    keys, whatever their epochs.
    """
    if not mine.spoken_with(theirs):
        return f"no protocol in common: ours {_protocols(mine)}, theirs {_protocols(theirs)}"
    if theirs.cluster != mine.cluster:
        return "the cluster name differs: -cluster must be the same on all nodes of a cluster"
    if not theirs.url:
        return ASKED
    malformed = _malformed(theirs)
    if malformed:
        return malformed
    if theirs.process == mine.process != 0 and theirs.node_id == mine.node_id:
        return ITSELF
    if theirs.url == mine.url:
        return f"two nodes with one URL: {mine.url}"
    if is_other_reached(mine, theirs):
        return (
            f"two nodes with one URL or one identity {theirs.node_id:012x}: our link to it leads "
            f"to another process than that at {_shown(theirs.url)}"
        )
    if theirs.node_id == mine.node_id:
        return f"two nodes with one identity {mine.node_id:012x}: {mine.url} and {theirs.url!r}"
    return _layout_difference(mine, theirs) or _level_difference(mine, theirs)


def _malformed(theirs: Greeting) -> str:
    """What of a greeting cannot be what it is said to be."""
    if not is_url(theirs.url):
        return f"the peer's URL is none: {_shown(theirs.url)}"
    if theirs.client and not is_url(theirs.client):
        return f"the peer's URL for clients is none: {_shown(theirs.client)}"
    if len(theirs.version) > _SHOWN_CHARS or not theirs.version.isprintable():
        return f"the peer's version is none: {_shown(theirs.version)}"
    if len(theirs.zone) > ZONE_CHARS_MAX or not theirs.zone.isprintable():
        return f"the peer's zone is none: {_shown(theirs.zone)}"
    if not 0 < theirs.weight <= WEIGHT_MAX:
        return f"the peer's weight is none: {theirs.weight}"
    if not 0 < theirs.node_id <= NODE_ID_MAX:
        return f"node id {theirs.node_id:x}: no data directory is given that"
    return ""


def hashed(cluster: str) -> str:
    """What a greeting says of the cluster's name."""
    return hashlib.blake2b(cluster.encode(), digest_size=16).hexdigest()


def answer(mine: Greeting, theirs: Greeting, *, reached: int, mark: int = 0) -> Greeting:
    """What an acceptor says to a greeting; with `refusal` if it will not talk. `reached` is the
    process that its own link leads to, `mark` the highest that it heard of the dialler."""
    mine = msgspec.structs.replace(mine, reached=reached, mark=mark)
    refusal = judge(mine, theirs)
    if not refusal:
        return mine
    numbers = mine.protocol_min, mine.protocol_max
    blank = Greeting(*numbers, "", "", 0, 0, b"", "", refusal=refusal)
    is_stranger = not mine.spoken_with(theirs) or theirs.cluster != mine.cluster
    if is_stranger or refusal == ASKED or _malformed(theirs):
        return blank
    # By the URL it sees that it dialled us by another name, by the process that it has a twin.
    return msgspec.structs.replace(blank, url=mine.url, reached=reached)


def is_other_reached(acceptor: Greeting, dialler: Greeting) -> bool:
    """Whether the acceptor's link to the dialler's URL, or to who has its identity, leads to
    another process than the dialler, which lives, or did a moment ago."""
    return acceptor.reached not in (0, dialler.process)


def _layout_difference(mine: Greeting, theirs: Greeting) -> str:
    """Whoever has no layout yet, or an older one of the same cluster, adopts the other's."""
    if not mine.lineage or not theirs.lineage:
        return ""
    half = min(len(mine.lineage), len(theirs.lineage), CLUSTER_BYTES // 2)
    if mine.lineage[:half] != theirs.lineage[:half]:
        return (
            f"{theirs.url} was started with another -nodes list or -replication than {mine.url}: "
            f"{_told_difference(mine, theirs)}; all nodes of a cluster need the same, and another "
            "cluster needs another -cluster name"
        )
    if not is_one_cluster(mine.lineage, theirs.lineage):
        told = theirs.lineage[:CLUSTER_BYTES].hex()
        return (
            f"two clusters of one name and one -nodes list: {theirs.url} is of {told}, {mine.url} "
            f"of {mine.lineage.hex()}; each has records of its own"
        )
    if mine.epoch == theirs.epoch and mine.layout_hash != theirs.layout_hash:
        return f"two layouts of epoch {mine.epoch} in one cluster: {mine.url} and {theirs.url}"
    return ""


def _level_difference(mine: Greeting, theirs: Greeting) -> str:
    """Who does not know what the cluster does by now would lose it; true whichever reads it."""
    for one, other in ((mine, theirs), (theirs, mine)):
        if one.level < other.in_force:
            return (
                f"{one.url} (release {one.version}) knows feature level {one.level}, and that of "
                f"the cluster is {other.in_force}: start a newer release there"
            )
    return ""


def _protocols(greeting: Greeting) -> str:
    lowest, highest = greeting.protocol_min, greeting.protocol_max
    return f"{lowest}" if lowest == highest else f"{lowest} to {highest}"


def _told_difference(mine: Greeting, theirs: Greeting) -> str:
    """What they were started with that we were not; true whichever of the two reads it."""
    try:
        ours, others = decode_layout(mine.layout), decode_layout(theirs.layout)
    except (msgspec.MsgspecError, ValueError):
        return f"{theirs.lineage[:8].hex()} instead of {mine.lineage[:8].hex()}"
    told = []
    for word, urls in (
        ("with", set(others.urls()) - set(ours.urls())),
        ("without", set(ours.urls()) - set(others.urls())),
    ):
        if urls:
            more = f" and {len(urls) - _URLS_SHOWN} more" if len(urls) > _URLS_SHOWN else ""
            told.append(f"{word} {_shown(', '.join(sorted(urls)[:_URLS_SHOWN]))}{more}")
    if others.replication != ours.replication:
        told.append(f"-replication {others.replication} instead of {ours.replication}")
    return ", ".join(told) or "another placement of the same nodes"


def _shown(text: str) -> str:
    """What a peer sent, short and escaped: it ends in our log."""
    return f"'{show_text(text[:_SHOWN_CHARS])}'"
