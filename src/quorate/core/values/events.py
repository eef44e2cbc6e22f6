# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes into a node and what goes out, except messages between nodes (`core.messages`).

Events are msgspec Structs: made in C, and cheap for the garbage collector. A client request carries
its `waiter`, an object that the core hands back with the result and never looks into.
All times are milliseconds; 0 means "the configured default" for `r`, `w` and `timeout_ms`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from quorate.core.values.messages import Frame, Greeting, Message, ScannedRow
from quorate.core.values.record import Record
from quorate.core.values.wish import Preview, Wish
from quorate.errors import BY_CODE, QuorateError

SCAN_ROWS_MAX: Final = 1000
"""In one page of keys; a larger limit counts as this."""


class Instant(msgspec.Struct, frozen=True, gc=False):
    """Now, twice: `mono_ms` never steps and drives every timer, `wall_ms` stamps and expires."""

    mono_ms: int
    wall_ms: int


class Waiter(Protocol):
    """Who wants the result of a request. The runtime calls `done` exactly once."""

    def done(self, result: Result) -> None:
        """Take the result: the type that belongs to the request, or a QuorateError. Must not raise:
        the runtime logs what it does, and the request stays without an answer."""


# --- client requests ---------------------------------------------------------------------------


class Get(msgspec.Struct, frozen=True, gc=False):
    """Read the newest of `r` replicas' answers; ends in GetResult."""

    waiter: Waiter
    key: bytes
    r: int = 0
    timeout_ms: int = 0


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write `value` (None: delete) to all replicas, done when `w` hold it; ends in PutResult."""

    waiter: Waiter
    key: bytes
    value: bytes | None
    expires_ms: int = 0
    """Absolute wall-clock milliseconds; 0 never."""
    w: int = 0
    timeout_ms: int = 0


class Edited(msgspec.Struct, frozen=True, gc=False):
    """What a read-modify-write makes of a key: a value (None: delete) and when it expires."""

    value: bytes | None
    expires_ms: int = 0
    """Absolute wall-clock milliseconds; 0 never."""


Edit = Callable[[Record | None], Edited | None]
"""A read-modify-write as a function of the live record that it finds, None if there is none. It
tells what is to be there instead, or None for "leave it"; a QuorateError refuses the request. Pure,
and called any number of times: each proposal that another one beats makes it anew."""


class Update(msgspec.Struct, frozen=True, gc=False):
    """Read-modify-write (`exchanges.updates`): takes effect exactly once, on the record directly
    before it; ends in UpdateResult."""

    waiter: Waiter
    key: bytes
    edit: Edit
    timeout_ms: int = 0
    request: int = 0
    """A number of 64 bits under which a client may ask once more; 0: it will not. If it is still
    remembered that this request took effect, it is answered as `is_repeated`."""
    since_ms: int = 0
    """It was asked before, at this time of the wall clock or later, and the answer is not known; 0:
    never. Where it cannot be told any more whether it took effect, it is not done; that is a
    Conflict, UNKNOWN."""
    size: int = 0
    """The bytes of the values that the edit keeps in memory, which are counted as those of a Put
    are."""


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


class PeerFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame arrived on the link from `peer`, an id."""

    peer: int
    frame: Frame


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


class Durable(msgspec.Struct, frozen=True, gc=False):
    """Every storage batch up to and including `mark` survives what its durability promises."""

    mark: int


class StorageState(msgspec.Struct, frozen=True, gc=False):
    """Whether the engine takes writes: `code` of the error that refuses them, empty if it does."""

    code: str = ""
    reason: str = ""

    def error(self) -> QuorateError:
        """A fresh error that says why writes are refused."""
        return BY_CODE[self.code](self.reason)


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


# --- results -----------------------------------------------------------------------------------


class GetResult(msgspec.Struct, frozen=True, gc=False):
    """`record` is None when `r` replicas said that they have nothing; it may also be a tombstone or
    expired: ask `record.is_live` before serving it."""

    record: Record | None
    answers: int
    """Replicas that answered before the result was known."""
    repaired: int = 0
    """Replicas that were written the newest record before this answer."""


class PutResult(msgspec.Struct, frozen=True, gc=False):
    """The write is durable on `acks` replicas (at least `w`)."""

    version: bytes
    acks: int
    replicas: int
    restamped: bool = False
    superseded: bool = False
    """A newer concurrent write won; this one is ordered directly before it."""


class UpdateResult(msgspec.Struct, frozen=True, gc=False):
    """What a read-modify-write found, and what it made of that."""

    before: Record | None
    """The live record that it was built on; None without one, or if `is_repeated`."""
    after: Record | None
    """What it wrote: a read of the key may have seen it, and what is built on it has its version.
    None if it left the key as it was."""
    acks: int
    replicas: int
    is_repeated: bool = False
    """Whether this very request took effect before; then `after` is what the key has now."""


class ScanResult(msgspec.Struct, frozen=True, gc=False):
    """Live rows in order. `cursor` is empty at the end, and only there: a page may have fewer rows
    than were asked for, or none, where many are deleted or have expired. `complete` is False where
    some partition was answered by fewer than `r` replicas whose copies are sound, so a key may be
    missing."""

    rows: list[ScannedRow]
    cursor: bytes
    complete: bool


class ReplicaView(msgspec.Struct, frozen=True, gc=False):
    """What one replica says of a key; `version` None when it did not answer, ABSENT when it has
    nothing."""

    url: str
    state: str
    version: bytes | None
    live: bool
    """Whether it holds a value; False for a tombstone too."""
    expires_ms: int
    """When the value expires; 0 never."""
    hints: int
    """Hints waiting for this replica at the node that was asked."""
    damaged: bool = False
    """Whether it answered that its copy cannot be read."""


class ExplainResult(msgspec.Struct, frozen=True, gc=False):
    """Where a key lives and what each replica has."""

    slot: int
    partition: int
    epoch: int
    replicas: list[ReplicaView]


class LocalResult(msgspec.Struct, frozen=True, gc=False):
    """This replica's record now; `applied` tells whether a LocalPut won."""

    record: Record | None
    applied: bool = False


class JoinResult(msgspec.Struct, frozen=True, gc=False):
    """Whether `url` was already known, and whether the layout names it, and gives it partitions."""

    known: bool
    owns: bool
    member: bool


class ForgetResult(msgspec.Struct, frozen=True, gc=False):
    """Whether `url` was a member here."""

    known: bool


class CheckResult(msgspec.Struct, frozen=True, gc=False):
    """How far the check of a node's digests is, or what came of the last one."""

    partitions: int
    """That are compared; 0 if no check was ever asked for."""
    left: int
    """Of these, how many are yet to be."""
    differed: int
    """Whose digest was not that of what is held, and was made anew."""
    unreadable: int
    """That have a row that cannot be read."""


class ChangeResult(msgspec.Struct, frozen=True, gc=False):
    """What the change comes to, from the layout in force on; `epoch` is that of the layout that
    decided it, 0 of a preview, or where nothing had to change."""

    epoch: int
    plan: Preview


Result = (
    GetResult
    | PutResult
    | UpdateResult
    | ScanResult
    | ExplainResult
    | LocalResult
    | JoinResult
    | ForgetResult
    | ChangeResult
    | CheckResult
    | QuorateError
)


# --- effects -----------------------------------------------------------------------------------


class Batch(msgspec.Struct, gc=False):
    """One atomic, ordered storage write. None as a record or a blob deletes."""

    records: list[tuple[bytes, Record | None]]
    """Row and record, None to delete it; a later entry for a row replaces an earlier one."""
    hints: list[tuple[bytes, bytes | None]]
    meta: list[tuple[bytes, bytes | None]]
    dropped_rows: list[tuple[bytes, bytes]] = []
    """Ranges [start, end), start below end, whose rows go *before* `records` are put: what this
    batch itself puts there stays."""
    dropped_hints: list[tuple[bytes, bytes]] = []
    """The same of hints, by name: before `hints` are put."""
    votes: list[tuple[bytes, bytes | None]] = []
    """Row and what this replica voted on its successor (`core.votes`), None to delete it.
    `dropped_rows` drop these too."""


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something an operator should read in the log: stable `event` name plus facts."""

    level: str
    event: str
    facts: dict[str, int | str]


class Effects(msgspec.Struct):
    """What to do after a step, in this order: store, send, answer, log."""

    batch: Batch | None = None
    mark: int = 0
    """The mark that Durable must report for `batch`; marks rise by one per batch."""
    sends: dict[int, list[Message]] = {}
    """By the id of the peer."""
    answers: list[tuple[Waiter, Result]] = []
    notes: list[Note] = []
    peers: list[str] | None = None
    """The URLs to keep links to, when they changed in this step."""
    wake_ms: int | None = None
    """Monotonic time by which `step` must be called again even if nothing arrives."""
    end: str = ""
    """Why this process must end, one line: nothing is sent any more. Empty if it may go on."""
