# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes into a node and what goes out, except messages between nodes (`core.messages`).

Those that there are many of are compiled classes (`frequent`); the others are msgspec Structs,
which say the same in fewer lines. A client request carries its `waiter`, an object that the core
hands back with the result and never looks into.
All times are milliseconds; 0 means "the configured default" for `r`, `w` and `timeout_ms`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.values.frequent import Batch as Batch
from quorate.core.values.frequent import Durable as Durable
from quorate.core.values.frequent import Edit as Edit
from quorate.core.values.frequent import Edited as Edited
from quorate.core.values.frequent import Effects as Effects
from quorate.core.values.frequent import Get as Get
from quorate.core.values.frequent import GetResult as GetResult
from quorate.core.values.frequent import Instant as Instant
from quorate.core.values.frequent import PeerFrame as PeerFrame
from quorate.core.values.frequent import Put as Put
from quorate.core.values.frequent import PutResult as PutResult
from quorate.core.values.frequent import Result as Result
from quorate.core.values.frequent import StorageState as StorageState
from quorate.core.values.frequent import Update as Update
from quorate.core.values.frequent import UpdateResult as UpdateResult
from quorate.core.values.frequent import Waiter as Waiter
from quorate.core.values.messages import Greeting
from quorate.core.values.record import Record
from quorate.core.values.results import ChangeResult as ChangeResult
from quorate.core.values.results import CheckResult as CheckResult
from quorate.core.values.results import ExplainResult as ExplainResult
from quorate.core.values.results import ForgetResult as ForgetResult
from quorate.core.values.results import JoinResult as JoinResult
from quorate.core.values.results import LocalResult as LocalResult
from quorate.core.values.results import Note as Note
from quorate.core.values.results import ReplicaView as ReplicaView
from quorate.core.values.results import ScanResult as ScanResult
from quorate.core.values.wish import Wish

SCAN_ROWS_MAX: Final = 1000
"""In one page of keys; a larger limit counts as this."""


# --- client requests ---------------------------------------------------------------------------


class Scan(msgspec.Struct, frozen=True, gc=False):
    """List live keys in row order from `cursor`; ends in ScanResult."""

    waiter: Waiter
    prefix: bytes = b""
    cursor: bytes = b""
    """Empty to begin, else the `cursor` of the result before."""
    limit: int = SCAN_ROWS_MAX
    r: int = 0
    timeout_ms: int = 0
    expired: bool = False
    """Also keys that have expired: replicas keep and count them, so who deletes all must find them.
    """


class Explain(msgspec.Struct, frozen=True, gc=False):
    """Ask every replica of `key` for its version; ends in ExplainResult."""

    waiter: Waiter
    key: bytes
    timeout_ms: int = 0


class LocalGet(msgspec.Struct, frozen=True, gc=False):
    """Read this node's own copy, durable, tombstones included; ends in LocalResult."""

    waiter: Waiter
    key: bytes


class LocalPut(msgspec.Struct, frozen=True, gc=False):
    """Give this replica a whole record, newest wins; ends in LocalResult once durable."""

    waiter: Waiter
    key: bytes
    record: Record


class LocalScan(msgspec.Struct, frozen=True, gc=False):
    """List the keys that this node holds, in row order; ends in ScanResult."""

    waiter: Waiter
    prefix: bytes = b""
    cursor: bytes = b""
    limit: int = SCAN_ROWS_MAX


class Join(msgspec.Struct, frozen=True, gc=False):
    """Make `url` a member, or announce it again; ends in JoinResult."""

    waiter: Waiter
    url: str


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Know the member at `url` no more: one that holds no copies and is not there. Ends in
    ForgetResult."""

    waiter: Waiter
    url: str


class Change(msgspec.Struct, frozen=True, gc=False):
    """Change the cluster as `wish` says, or tell what that would come to; ends in ChangeResult."""

    waiter: Waiter
    wish: Wish
    is_preview: bool = False
    from_epoch: int = 0
    """Conflict if another layout is in force by now; 0 whatever is in force."""
    timeout_ms: int = 0


class Check(msgspec.Struct, frozen=True, gc=False):
    """Compare the digests of this node's partitions with what it holds, or tell how far that is;
    ends in CheckResult, at once."""

    waiter: Waiter
    is_asked: bool = True
    """Whether to begin, unless a check is under way."""


# --- what the runtime reports ------------------------------------------------------------------


class LinkUp(msgspec.Struct, frozen=True, gc=False):
    """The outgoing link to `peer`, who was met, is up: frames sent now will leave."""

    peer: int


class LinkDown(msgspec.Struct, frozen=True, gc=False):
    """The outgoing link to `peer` is gone; anything not yet answered may be lost."""

    peer: int


class LinkRefused(msgspec.Struct, frozen=True, gc=False):
    """No link to the node at `url` comes to be: either of the two refuses the other. Told when the
    reason changes."""

    url: str
    reason: str


class Discovered(msgspec.Struct, frozen=True, gc=False):
    """Nodes may be at these URLs, of whatever cluster: dial them. `known_as`: what the first of
    them was dialled at, which calls itself so; empty if none was."""

    urls: list[str]
    known_as: str = ""


class LinkRoom(msgspec.Struct, frozen=True, gc=False):
    """`peer`, some of whose requests were put off, has read most of what it was sent."""

    peer: int


class Met(msgspec.Struct, frozen=True, gc=False):
    """A peer introduced itself, on its link to us or on ours to it. Before its first PeerFrame and
    before LinkUp."""

    greeting: Greeting
    is_answer: bool = False
    """Whether it is the answer to ours."""


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Refuse new requests from now on; requests in flight go on."""


Event = (
    Get
    | Put
    | Update
    | Scan
    | Explain
    | LocalGet
    | LocalPut
    | LocalScan
    | Join
    | Forget
    | Change
    | Check
    | PeerFrame
    | LinkUp
    | LinkDown
    | LinkRefused
    | Discovered
    | LinkRoom
    | Met
    | Durable
    | StorageState
    | Stop
)
