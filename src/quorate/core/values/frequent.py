# SPDX-License-Identifier: GPL-3.0-or-later
"""The events that there are many of: one or more for each operation, or for each step.

They are found in `core.values.events`, with all others. Those are Structs, whose attributes are
looked up by their names each time; these are compiled, and each of their attributes is a place in
memory. Nobody changes them, but who fills a batch; they are equal if their fields are, and take no
time of the garbage collector.
"""

# ruff: noqa: PLR0917 (made by place: their fields are few, and come in the order of need)

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final, Protocol, final

from quorate.core.values.compiling import mypyc_attr
from quorate.core.values.messages import Frame, Message
from quorate.core.values.record import Record
from quorate.core.values.results import (
    ChangeResult,
    CheckResult,
    ExplainResult,
    ForgetResult,
    JoinResult,
    LocalResult,
    Note,
    ScanResult,
)
from quorate.errors import BY_CODE, QuorateError


@mypyc_attr(acyclic=True)
class Fields:
    """Compared and shown by the fields that `__match_args__` names."""

    __slots__: tuple[str, ...] = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fields) or type(other) is not type(self):
            return False
        return fields(self) == fields(other)

    def __repr__(self) -> str:
        told = ", ".join([f"{name}={getattr(self, name)!r}" for name in self.__match_args__])
        return f"{type(self).__name__}({told})"


def fields(thing: Fields) -> tuple[object, ...]:
    """All that it consists of, in the order in which it is made of them."""
    return tuple([getattr(thing, name) for name in thing.__match_args__])


@final
@mypyc_attr(acyclic=True)
class Instant(Fields):
    """Now, twice: `mono_ms` never steps and drives every timer, `wall_ms` stamps and expires."""

    __match_args__ = ("mono_ms", "wall_ms")
    __slots__ = __match_args__

    def __init__(self, mono_ms: int, wall_ms: int) -> None:
        self.mono_ms: Final = mono_ms
        self.wall_ms: Final = wall_ms


# --- results --------------------------------------------------------------------------------------


@final
@mypyc_attr(acyclic=True)
class GetResult(Fields):
    """`record` is None when `r` replicas said that they have nothing; it may also be a tombstone or
    expired: ask `record.is_live` before serving it."""

    __match_args__ = ("record", "answers", "repaired")
    __slots__ = __match_args__

    def __init__(self, record: Record | None, answers: int, repaired: int = 0) -> None:
        self.record: Final = record
        self.answers: Final = answers
        """Replicas that answered before the result was known."""
        self.repaired: Final = repaired
        """Replicas that were written the newest record before this answer."""


@final
@mypyc_attr(acyclic=True)
class PutResult(Fields):
    """The write is durable on `acks` replicas (at least `w`)."""

    __match_args__ = ("version", "acks", "replicas", "restamped", "superseded", "moved")
    __slots__ = __match_args__

    def __init__(
        self,
        version: bytes,
        acks: int,
        replicas: int,
        restamped: bool = False,
        superseded: bool = False,
        moved: bool = False,
    ) -> None:
        self.version: Final = version
        self.acks: Final = acks
        self.replicas: Final = replicas
        self.restamped: Final = restamped
        self.superseded: Final = superseded
        """A newer concurrent write won; this one is ordered directly before it."""
        self.moved: Final = moved
        """It was stamped again though reads may have seen its first stamp, and may see it twice."""


@final
@mypyc_attr(acyclic=True)
class UpdateResult(Fields):
    """What a read-modify-write found, and what it made of that."""

    __match_args__ = ("before", "after", "acks", "replicas", "is_repeated")
    __slots__ = __match_args__

    def __init__(
        self,
        before: Record | None,
        after: Record | None,
        acks: int,
        replicas: int,
        is_repeated: bool = False,
    ) -> None:
        self.before: Final = before
        """The live record that it was built on; None without one, or if `is_repeated`."""
        self.after: Final = after
        """What it wrote: a read of the key may have seen it, and what is built on it has its
        version. None if it left the key as it was."""
        self.acks: Final = acks
        self.replicas: Final = replicas
        self.is_repeated: Final = is_repeated
        """Whether this very request took effect before; then `after` is what the key has now."""


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


class Waiter(Protocol):
    """Who wants the result of a request. The runtime calls `done` exactly once."""

    def done(self, result: Result) -> None:
        """Take the result: the type that belongs to the request, or a QuorateError. Must not raise:
        the runtime logs what it does, and the request stays without an answer."""


# --- client requests ------------------------------------------------------------------------------


@final
@mypyc_attr(acyclic=True)
class Get(Fields):
    """Read the newest of `r` replicas' answers; ends in GetResult."""

    __match_args__ = ("waiter", "key", "r", "timeout_ms")
    __slots__ = __match_args__

    def __init__(self, waiter: Waiter, key: bytes, r: int = 0, timeout_ms: int = 0) -> None:
        self.waiter: Final = waiter
        self.key: Final = key
        self.r: Final = r
        self.timeout_ms: Final = timeout_ms


@final
@mypyc_attr(acyclic=True)
class Put(Fields):
    """Write `value` (None: delete) to all replicas, done when `w` hold it; ends in PutResult."""

    __match_args__ = ("waiter", "key", "value", "expires_ms", "w", "timeout_ms")
    __slots__ = __match_args__

    def __init__(
        self,
        waiter: Waiter,
        key: bytes,
        value: bytes | None,
        expires_ms: int = 0,
        w: int = 0,
        timeout_ms: int = 0,
    ) -> None:
        self.waiter: Final = waiter
        self.key: Final = key
        self.value: Final = value
        self.expires_ms: Final = expires_ms
        """Absolute wall-clock milliseconds; 0 never."""
        self.w: Final = w
        self.timeout_ms: Final = timeout_ms


@final
@mypyc_attr(acyclic=True)
class Edited(Fields):
    """What a read-modify-write makes of a key: a value (None: delete) and when it expires."""

    __match_args__ = ("value", "expires_ms")
    __slots__ = __match_args__

    def __init__(self, value: bytes | None, expires_ms: int = 0) -> None:
        self.value: Final = value
        self.expires_ms: Final = expires_ms
        """Absolute wall-clock milliseconds; 0 never."""


Edit = Callable[[Record | None], Edited | None]
"""A read-modify-write as a function of the live record that it finds, None if there is none. It
tells what is to be there instead, or None for "leave it"; a QuorateError refuses the request. Pure,
and called any number of times: each proposal that another one beats makes it anew."""


@final
@mypyc_attr(acyclic=True)
class Update(Fields):
    """Read-modify-write (`exchanges.updates`): takes effect exactly once, on the record directly
    before it; ends in UpdateResult."""

    __match_args__ = ("waiter", "key", "edit", "timeout_ms", "request", "since_ms", "size")
    __slots__ = __match_args__

    def __init__(
        self,
        waiter: Waiter,
        key: bytes,
        edit: Edit,
        timeout_ms: int = 0,
        request: int = 0,
        since_ms: int = 0,
        size: int = 0,
    ) -> None:
        self.waiter: Final = waiter
        self.key: Final = key
        self.edit: Final = edit
        self.timeout_ms: Final = timeout_ms
        self.request: Final = request
        """A number of 64 bits under which a client may ask once more; 0: it will not. If it is
        still remembered that this request took effect, it is answered as `is_repeated`."""
        self.since_ms: Final = since_ms
        """It was asked before, at this time of the wall clock or later, and the answer is not
        known; 0: never. Where it cannot be told any more whether it took effect, it is not done;
        that is a Conflict, UNKNOWN."""
        self.size: Final = size
        """The bytes of the values that the edit keeps in memory, which are counted as those of a
        Put are."""


# --- what the runtime reports ---------------------------------------------------------------------


@final
@mypyc_attr(acyclic=True)
class PeerFrame(Fields):
    """A frame arrived on the link from `peer`, an id."""

    __match_args__ = ("peer", "frame")
    __slots__ = __match_args__

    def __init__(self, peer: int, frame: Frame) -> None:
        self.peer: Final = peer
        self.frame: Final = frame


@final
@mypyc_attr(acyclic=True)
class Durable(Fields):
    """Every storage batch up to and including `mark` survives what its durability promises."""

    __match_args__ = ("mark",)
    __slots__ = __match_args__

    def __init__(self, mark: int) -> None:
        self.mark: Final = mark


@final
@mypyc_attr(acyclic=True)
class StorageState(Fields):
    """Whether the engine takes writes: `code` of the error that refuses them, empty if it does. Not
    frequent, but looked at for each write."""

    __match_args__ = ("code", "reason")
    __slots__ = __match_args__

    def __init__(self, code: str = "", reason: str = "") -> None:
        self.code: Final = code
        self.reason: Final = reason

    def error(self) -> QuorateError:
        """A fresh error that says why writes are refused."""
        return BY_CODE[self.code](self.reason)


# --- effects --------------------------------------------------------------------------------------


@final
@mypyc_attr(acyclic=True)
class Batch(Fields):
    """One atomic, ordered storage write. None as a record or a blob deletes."""

    __match_args__ = ("records", "hints", "meta", "dropped_rows", "dropped_hints", "votes")
    __slots__ = __match_args__

    def __init__(
        self,
        records: list[tuple[bytes, Record | None]],
        hints: list[tuple[bytes, bytes | None]],
        meta: list[tuple[bytes, bytes | None]],
        dropped_rows: list[tuple[bytes, bytes]] | None = None,
        dropped_hints: list[tuple[bytes, bytes]] | None = None,
        votes: list[tuple[bytes, bytes | None]] | None = None,
    ) -> None:
        self.records = records
        """Row and record, None to delete it; a later entry for a row replaces an earlier one."""
        self.hints = hints
        self.meta = meta
        self.dropped_rows = [] if dropped_rows is None else dropped_rows
        """Ranges [start, end), start below end, whose rows go *before* `records` are put: what this
        batch itself puts there stays."""
        self.dropped_hints = [] if dropped_hints is None else dropped_hints
        """The same of hints, by name: before `hints` are put."""
        self.votes = [] if votes is None else votes
        """Row and what this replica voted on its successor (`core.votes`), None to delete it.
        `dropped_rows` drop these too."""


@final
@mypyc_attr(acyclic=True)
class Effects(Fields):
    """What to do after a step, in this order: store, send, answer, log."""

    __match_args__ = ("batch", "mark", "sends", "answers", "notes", "peers", "wake_ms", "end")
    __slots__ = __match_args__

    def __init__(
        self,
        batch: Batch | None = None,
        mark: int = 0,
        sends: dict[int, list[Message]] | None = None,
        answers: list[tuple[Waiter, Result]] | None = None,
        notes: list[Note] | None = None,
        peers: list[str] | None = None,
        wake_ms: int | None = None,
        end: str = "",
    ) -> None:
        self.batch = batch
        self.mark = mark
        """The mark that Durable must report for `batch`; marks rise by one per batch."""
        self.sends = {} if sends is None else sends
        """By the id of the peer."""
        self.answers = [] if answers is None else answers
        self.notes = [] if notes is None else notes
        self.peers = peers
        """The URLs to keep links to, when they changed in this step."""
        self.wake_ms = wake_ms
        """Monotonic time by which `step` must be called again even if nothing arrives."""
        self.end = end
        """Why this process must end, one line: nothing is sent any more. Empty if it may go on."""
