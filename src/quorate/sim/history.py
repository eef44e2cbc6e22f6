# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients asked and saw, and what else a checker may look at.

Every value says who wrote it, as which of that client's operations, and to which key, under a
checksum: a value that nobody wrote, or that turns up under another key, shows in a single read.
Times are virtual milliseconds, wall-clock times the world's own clock (no machine's offset).
"""

from __future__ import annotations

import enum
import math
from binascii import crc32
from typing import Final

import msgspec

from quorate.core.topology.quorum import majority
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record, is_live, wins
from quorate.errors import Outcome, QuorateError

_SEPARATOR: Final = b"|"
_SUM_BYTES: Final = 8
"""A CRC32 in hexadecimal: values stay readable in transcripts."""


class Kind(enum.Enum):
    """What an operation asks for."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"
    EXPIRE = "expire"
    """Write what was read with another expiry, or with none: EXPIRE, PERSIST, GETEX."""
    GETDEL = "getdel"
    """Delete what was read."""


DERIVED: Final = frozenset((Kind.EXPIRE, Kind.GETDEL))
"""What begins with a read, and then is a write that carries on what was read."""


class Operation:
    """One operation as its client saw it; `result` is None until it is answered, and for ever if
    the coordinator died or the connection did.

    A derived write is told as two: its read, and, if that found something, its write. The write
    began when its read did: it takes effect directly behind what was read, and what was written
    since may be over before it is even sent.
    """

    __slots__ = (
        "asked_ms",
        "client",
        "derived_from",
        "done_ms",
        "expires_ms",
        "key",
        "kind",
        "node",
        "r",
        "result",
        "serial",
        "timeout_ms",
        "value",
        "w",
        "wall_ms",
    )

    def __init__(  # noqa: PLR0913 - a row of a table, told in full
        self,
        serial: int,
        client: int,
        node: int,
        kind: Kind,
        key: bytes,
        *,
        asked_ms: float,
        value: bytes | None = None,
        expires_ms: int = 0,
        r: int = 0,
        w: int = 0,
        timeout_ms: int = 0,
        derived_from: bytes | None = None,
    ) -> None:
        self.serial = serial
        self.client = client
        self.node = node
        """Index of the coordinator."""
        self.kind = kind
        self.key = key
        self.value = value
        """What is written; None deletes."""
        self.expires_ms = expires_ms
        """Absolute, by the world's wall clock; 0 never."""
        self.r = r
        self.w = w
        self.derived_from = derived_from
        """Of a derived write: the version that it carries on."""
        self.timeout_ms = timeout_ms
        """What the coordinator was given; 0 if the history does not tell."""
        self.asked_ms = asked_ms
        self.done_ms: float | None = None
        self.wall_ms = 0
        """The coordinator's wall clock at the answer: what a door judges expiry by."""
        self.result: GetResult | PutResult | QuorateError | None = None

    def __repr__(self) -> str:
        end = "..." if self.done_ms is None else f"{self.done_ms:.3f}"
        wrote = "" if self.value is None else f" {self.value[:40]!r}"
        wrote += "" if self.derived_from is None else f" from {self.derived_from.hex()}"
        return (
            f"#{self.serial} client {self.client} at n{self.node} {self.asked_ms:.3f}-{end}: "
            f"{self.kind.value} {self.key!r}{wrote} -> {told(self.result)}"
        )

    @property
    def took_ms(self) -> float:
        """From asking to the answer; infinite without one."""
        return math.inf if self.done_ms is None else self.done_ms - self.asked_ms

    @property
    def is_write(self) -> bool:
        """Whether it is a put or a delete, derived or not."""
        return self.kind is not Kind.GET

    @property
    def is_refused(self) -> bool:
        """Whether it is a write of which the client was told that it surely is not there."""
        result = self.result
        return (
            self.is_write
            and isinstance(result, QuorateError)
            and result.outcome is Outcome.NOT_APPLIED
        )

    @property
    def is_unknown(self) -> bool:
        """Whether it is a write that may be there, come later, or never."""
        return self.is_write and not self.is_refused and not isinstance(self.result, PutResult)

    def may_have_written(self, record: Record) -> bool:
        """Whether a record can be of this write, by its value and version. A write that was stamped
        twice may have left its first stamp somewhere."""
        if not self.is_write or self.is_refused or self.value != record.value:
            return False
        result = self.result
        if not isinstance(result, PutResult) or result.version == record.version:
            return True
        return result.restamped and record.version < result.version

    @property
    def read(self) -> bytes | None:
        """The value that a GET's record carries, expired or not; None for nothing or a tombstone.
        Of an answered GET only."""
        assert isinstance(self.result, GetResult), f"not a read that was answered: {self}"
        return None if self.result.record is None else self.result.record.value

    @property
    def served(self) -> bytes | None:
        """The value that a door gives to the client of a GET: None past its expiry."""
        assert isinstance(self.result, GetResult), f"not a read that was answered: {self}"
        record = self.result.record
        return self.read if is_live(record, wall_ms=self.wall_ms) else None


def told(result: GetResult | PutResult | QuorateError | None) -> str:
    """A result in a few words."""
    if result is None:
        return "no answer"
    if isinstance(result, QuorateError):
        return f"{result.code} {result.outcome.value if result.outcome else '-'}"
    if isinstance(result, PutResult):
        marks = " restamped" * result.restamped + " superseded" * result.superseded
        return f"{result.acks} acks of {result.version.hex()}{marks}"
    if result.record is None:
        return f"nothing, {result.answers} answers"
    value = result.record.value
    what = "tombstone" if value is None else repr(value[:40])
    return f"{what} {result.record.version.hex()}, {result.answers} answers"


def value_of(client: int, serial: int, key: bytes, *, size: int = 0) -> bytes:
    """The value that operation `serial` of `client` writes to `key`, padded to `size` bytes."""
    content = b"%d|%d|%s|" % (client, serial, key.hex().encode())
    return _summed(content + b"." * (size - len(content) - _SUM_BYTES))


def parse_value(value: bytes) -> tuple[int, int, bytes] | None:
    """Client, serial and key of a value; None if nobody made it."""
    content, found = value[:-_SUM_BYTES], value[-_SUM_BYTES:]
    if _summed(content)[-_SUM_BYTES:] != found:
        return None
    parts = content.split(_SEPARATOR, 3)
    if len(parts) != 4:
        return None
    client, serial, key, _ = parts
    return int(client), int(serial), bytes.fromhex(key.decode())


def _summed(content: bytes) -> bytes:
    return content + b"%08x" % crc32(content)


Content = tuple[bytes, int]
"""A value and when it expires: what a write is known by. Values are unique to their put, and what
is derived from it has another expiry."""


class History:
    """Every operation of a run, in the order in which nodes were asked."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def by_key(self) -> dict[bytes, list[Operation]]:
        """The operations of each key, in order."""
        found: dict[bytes, list[Operation]] = {}
        for operation in self.operations:
            found.setdefault(operation.key, []).append(operation)
        return found


class Evidence(msgspec.Struct, kw_only=True):
    """What a checker may look at besides the history. Nodes are indices of machines."""

    n: int
    r: int
    w: int
    """The defaults in effect, never 0."""
    epoch_ms: int
    """The world's wall clock at virtual time 0."""
    guard_ms: int = 1_000
    """`max_clock_skew_ms`: how far ahead of its own clock a node takes a peer's."""
    wall_skew_ms: int = 0
    """The largest error of any machine's wall clock, either way, at any time of the run."""
    in_budget: bool = True
    """No key lost more copies than can be repaired: loss is a violation."""
    forgot_ms: dict[bytes, float] = {}
    """Since when a replica of a key may have forgotten what it acknowledged: its disk was lost, or
    bytes were damaged. Until it is repaired a quorum may meet it, so the checks of order look only
    at what was over by then."""
    lost_ms: dict[bytes, list[float]] = {}
    """When replicas of a key lost what they held of it, or had it damaged, whatever the others
    hold."""
    replicas: dict[bytes, list[int]] = {}
    """The nodes where each key belongs."""
    settled: dict[bytes, dict[int, Record | None]] = {}
    """Per key and replica: the durable record after heal, quiescence, and a read of every key that
    repaired what hints did not bring. A replica that is down or unreadable is left out."""
    unreadable: dict[bytes, list[int]] = {}
    """Replicas whose copy is still damaged after all that."""
    is_quiet: bool = True
    """Whether all replicas ran and could talk until nothing was left to do."""
    handed: frozenset[Content] = frozenset()
    """Everything that was given to a replica, as `checkers.handed.Handed` saw it."""
    forgotten: list[Operation] = []
    """What a coordinator that lives never answered."""
    healthy_from_ms: float = float("inf")
    """From when on there are no faults but that the nodes of `dead` stay unreachable."""
    answer_within_ms: float = 0.0
    """Within which each request asked since then succeeds, if enough replicas live."""
    dead: frozenset[int] = frozenset()
    calm_ms: list[tuple[float, float]] = []
    """Before all that: spans in which no fault is on, and none has consequences any more."""
    hints_left: dict[int, int] = {}
    """Hints that wait on each node after quiescence."""

    def r_of(self, operation: Operation) -> int:
        """The answers that a read needs."""
        return operation.r or self.r

    def w_of(self, operation: Operation) -> int:
        """The acks that a write needs."""
        return operation.w or self.w

    def is_promised(self, op: Operation) -> bool:
        """Whether it is in order with all others of the kind: what it reads is the last finished
        write, and what it writes is met by each such read."""
        if self.met_loss(op) or (op.is_write and self.w_of(op) < majority(self.n)):
            return False
        if op.is_write and op.derived_from is None:
            return True
        # The default W too: by that a read decides whether to write back before it answers.
        return self.r_of(op) >= majority(self.n) and self.r_of(op) + self.w > self.n

    def met_loss(self, op: Operation) -> bool:
        """Whether a copy of its key was lost while it went on. It may then have counted one replica
        before that got a record, and another after that lost it: a quorum that never was."""
        losses_ms = self.lost_ms.get(op.key)
        if losses_ms is None:
            return False
        end_ms = math.inf if op.done_ms is None else op.done_ms
        return any(op.asked_ms <= ms <= end_ms for ms in losses_ms)

    def merged(self, key: bytes) -> Record | None:
        """The record on which the replicas of a key settle: the one that wins."""
        newest: Record | None = None
        for record in self.settled.get(key, {}).values():
            if record is not None and wins(record, newest):
                newest = record
        return newest
