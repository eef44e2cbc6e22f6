# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two nodes may talk: what must be equal, what must differ.

The rules are symmetrical, so both ends of a link come to the same verdict. Both apply them, the
acceptor to the greeting and the dialler to the answer: an honest end needs no trust in the other.

A copied data directory, machine or container, started beside the original, makes two processes
with one URL. Whoever dials that URL reaches one of them; from the other it takes no link, so that a
node's acknowledgements come from the disk that its reads ask. A link that leads to a process that
ended looks alive for a while, so a process may be refused like that after a restart. If it still is
when such a link is lost for sure, then there are two, and it ends.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.topology.layout import decode_layout
from quorate.core.values.messages import Greeting
from quorate.core.values.settings import NODE_ID_MAX

URL_CHARS_MAX: Final = 300
"""A host name has at most 253."""
TWIN_MS: Final = 16_000
"""Who is refused for so long, again and again, because another process has its URL, knows that the
other lives: longer than the link to a dead one looks alive (`transport.sockets`)."""
_SHOWN_CHARS: Final = 80


def judge(mine: Greeting, theirs: Greeting) -> str:
    """Why these two must not talk, one line for an operator; empty if they may.

    A node that has not learnt the layout (empty `layout_hash`), or has one of another epoch, is let
    in: whoever is behind adopts the other's. Two layouts of one epoch are two clusters' worth of
    keys.
    """
    if theirs.protocol != mine.protocol:
        return f"protocol version differs: ours {mine.protocol}, theirs {theirs.protocol}"
    if theirs.cluster != mine.cluster:
        return f"cluster name differs: ours {mine.cluster!r}, theirs {_shown(theirs.cluster)}"
    if not 0 < len(theirs.url) <= URL_CHARS_MAX:
        return f"the peer's URL has {len(theirs.url)} characters"
    if not 0 < theirs.node_id <= NODE_ID_MAX:
        return f"node id {theirs.node_id:x}: no data directory is given that"
    if theirs.url == mine.url:
        return f"two nodes with one URL: {mine.url}"
    if is_other_reached(mine, theirs):
        return (
            f"two nodes with one URL or one identity {theirs.node_id:012x}: our link to it leads "
            f"to another process than that at {_shown(theirs.url)}"
        )
    if theirs.node_id == mine.node_id:
        return f"two nodes with one identity {mine.node_id:012x}: {mine.url} and {theirs.url!r}"
    return _layout_difference(mine, theirs)


def is_other_reached(acceptor: Greeting, dialler: Greeting) -> bool:
    """Whether the acceptor's link to the dialler's URL, or to who has its identity, leads to
    another process than the dialler, which lives, or did a moment ago."""
    return acceptor.reached not in (0, dialler.process)


def _layout_difference(mine: Greeting, theirs: Greeting) -> str:
    if not mine.layout_hash or not theirs.layout_hash:
        return ""
    if mine.epoch != theirs.epoch or mine.layout_hash == theirs.layout_hash:
        return ""
    return (
        f"node {_shown(theirs.url)} was started with another -nodes list or -replication: ours "
        f"{_listed(mine)}, theirs {_listed(theirs)}; all nodes of a cluster need the same, and "
        "another cluster needs another -cluster name"
    )


def _listed(greeting: Greeting) -> str:
    """What a node was started with, as far as its layout tells."""
    try:
        layout = decode_layout(greeting.layout)
    except (msgspec.MsgspecError, ValueError):
        return f"of hash {greeting.layout_hash[:16].hex()}"
    return f"{_shown(','.join(layout.urls()))} with {layout.replication}"


def _shown(text: str) -> str:
    """What a peer sent, short and escaped: it ends in our log."""
    return repr(text[:_SHOWN_CHARS])
