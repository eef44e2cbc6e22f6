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
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from quorate.core.topology.topology import majority
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record, is_live, wins
from quorate.core.values.versions import ABSENT
from quorate.errors import Outcome, QuorateError
from quorate.sim.layouts import Row
from quorate.sim.trace import told_result

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


class ClientOperation(msgspec.Struct, eq=False):
    """One operation as its client saw it; `result` is None until it is answered, and for ever if
    the coordinator died or the connection did.

    A derived write is told as two: its read, and, if that found something, its write. The write
    began when its read did: it takes effect directly behind what was read, and what was written
    since may be over before it is even sent.
    """

    serial: int
    client: int
    node: int
    """Index of the coordinator."""
    kind: Kind
    key: bytes
    asked_ms: float
    value: bytes | None = None
    """What is written; None deletes."""
    expires_ms: int = 0
    """Absolute, by the world's wall clock; 0 never."""
    r: int = 0
    w: int = 0
    timeout_ms: int = 0
    """What the coordinator was given; 0 if the history does not tell."""
    derived_from: bytes | None = None
    """Of a derived write: the version that it carries on."""
    done_ms: float | None = None
    wall_ms: int = 0
    """The coordinator's wall clock at the answer: what a door judges expiry by."""
    result: GetResult | PutResult | QuorateError | None = None

    def __repr__(self) -> str:
        end = "..." if self.done_ms is None else f"{self.done_ms:.3f}"
        wrote = "" if self.value is None else f" {self.value[:40]!r}"
        wrote += "" if self.derived_from is None else f" from {self.derived_from.hex()}"
        return (
            f"#{self.serial} client {self.client} at n{self.node} {self.asked_ms:.3f}-{end}: "
            f"{self.kind.value} {self.key!r}{wrote} -> {told_result(self.result)}"
        )

    def is_answered(self) -> bool:
        """Whether its client was told anything."""
        return self.result is not None

    @property
    def took_ms(self) -> float:
        """From asking to the answer; infinite without one."""
        return self.over_ms - self.asked_ms

    @property
    def over_ms(self) -> float:
        """When it was answered; infinite if it was not."""
        return math.inf if self.done_ms is None else self.done_ms

    @property
    def version(self) -> bytes:
        """Of what it read or wrote; ABSENT if it did neither."""
        if isinstance(self.result, PutResult):
            return self.result.version
        if isinstance(self.result, GetResult) and self.result.record is not None:
            return self.result.record.version
        return ABSENT

    @property
    def is_write(self) -> bool:
        """Whether it is a put or a delete, derived or not."""
        return self.kind is not Kind.GET

    @property
    def is_refused(self) -> bool:
        """Whether it is a write that failed as NOT_APPLIED."""
        result = self.result
        return (
            self.is_write
            and isinstance(result, QuorateError)
            and result.outcome is Outcome.NOT_APPLIED
        )

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


def value_of(client: int, serial: int, key: bytes, *, size: int = 0) -> bytes:
    """The value that operation `serial` of `client` writes to `key`, padded to `size` bytes."""
    content = b"%d|%d|%s|" % (client, serial, key.hex().encode())
    return _summed(content + b"." * (size - len(content) - _SUM_BYTES))


def parse_value(value: bytes) -> tuple[int, int, bytes] | None:
    """Client, serial and key of a value; None if nobody made it."""
    content, found = value[:-_SUM_BYTES], value[-_SUM_BYTES:]
    if _summed(content)[-_SUM_BYTES:] != found:
        return None
    parts = content.split(b"|", 3)
    if len(parts) != 4:
        return None
    client, serial, key, _ = parts
    return int(client), int(serial), bytes.fromhex(key.decode())


def _summed(content: bytes) -> bytes:
    return content + b"%08x" % crc32(content)


Content = tuple[bytes, int]
"""A value and when it expires, by which a write is known: each put has a value of its own, and a
derived write gives that value another expiry."""


class History:
    """Every operation of a run, in the order in which nodes were asked."""

    def __init__(self) -> None:
        self.operations: list[ClientOperation] = []

    def by_key(self) -> dict[bytes, list[ClientOperation]]:
        """The operations of each key, in order."""
        return _grouped((op.key, op) for op in self.operations)

    def by_value(self) -> dict[bytes, list[ClientOperation]]:
        """The writes of each value, in order: its put, and those that carry it on."""
        writes = (op for op in self.operations if op.is_write)
        return _grouped((op.value, op) for op in writes if op.value is not None)


def _grouped(named: Iterable[tuple[bytes, ClientOperation]]) -> dict[bytes, list[ClientOperation]]:
    groups: dict[bytes, list[ClientOperation]] = {}
    for name, op in named:
        groups.setdefault(name, []).append(op)
    return groups


class Violation(NamedTuple):
    """A promise that was not kept."""

    invariant: str
    """"I6" or "P3", as docs/design.md counts invariants and promises."""
    key: bytes
    told: str


class Evidence(msgspec.Struct, kw_only=True):
    """What a checker may look at besides the history. Nodes are indices of machines."""

    n: int
    r: int
    w: int
    """The defaults in effect, never 0."""
    set_r: int = 0
    set_w: int = 0
    """What the nodes were started with: 0 is a majority of the replicas, however many there are."""
    had: Callable[[ClientOperation], list[list[Row]]] = lambda _: []
    """Who held the key of an operation, and who was to: by each layout that its coordinator had
    while it went on, as indices of machines, negative for disks that are no more. None told: the
    `n` replicas that the key has."""
    epoch_ms: int
    """The world's wall clock at virtual time 0."""
    wall_skew_ms: int = 0
    """The largest error of any machine's wall clock, either way, at any time of the run."""
    in_budget: bool = True
    """No key lost more copies than can be repaired: loss is a violation."""
    forgot_ms: dict[bytes, float] = {}
    """By key: since when a replica may have forgotten what it acknowledged, as its disk was lost or
    bytes were damaged. A quorum may count it before it is repaired, so order is judged only of what
    was over by then."""
    lost_ms: dict[bytes, list[float]] = {}
    """By key: when a replica lost what it held, or it was damaged, whatever the others hold."""
    replicas: dict[bytes, list[int]] = {}
    """The nodes where each key belongs."""
    settled: dict[bytes, dict[int, Record | None]] = {}
    """Per key and replica: the durable record after heal, quiescence, and a read of every key that
    repaired what hints did not bring. A replica that is down or unreadable is left out."""
    unreadable: dict[bytes, list[int]] = {}
    """Replicas whose copy is still damaged after all that."""
    beyond_repair: frozenset[bytes] = frozenset()
    """Keys of which too few sound copies were left to repair a damaged one: R + W <= N, with R the
    sound ones."""
    is_quiet: bool = True
    """Whether all replicas ran and could talk until nothing was left to do."""
    handed: frozenset[Content] = frozenset()
    """Everything that was given to a replica, as `checkers.refusals.Handed` saw it."""
    forgotten: list[ClientOperation] = []
    """What a coordinator that lives never answered."""
    healthy_from_ms: float = float("inf")
    """From then on there are no faults, but that the nodes of `dead` cannot be reached."""
    answer_within_ms: float = 0.0
    """Each request that is asked since then succeeds within this time if enough replicas live."""
    dead: frozenset[int] = frozenset()
    calm_ms: list[tuple[float, float]] = []
    """Spans before that in which no fault is on, and none has consequences any more."""
    hints_left: dict[int, int] = {}
    """Hints that wait on each node after quiescence."""

    def r_of(self, operation: ClientOperation) -> int:
        """The answers that a read needs."""
        return operation.r or self.r

    def w_of(self, operation: ClientOperation) -> int:
        """The acks that a write needs."""
        return operation.w or self.w

    def rows_of(self, operation: ClientOperation) -> list[list[Row]]:
        """`had`, or what there is without any change."""
        return self.had(operation) or [[Row(tuple(range(self.n)))]]

    def needed(self, operation: ClientOperation, row: Row) -> int:
        """The acks, or answers, that an operation needs of a row."""
        asked, usual = (
            (operation.w, self.set_w) if operation.is_write else (operation.r, self.set_r)
        )
        return asked or usual or row.majority

    def is_promised(self, op: ClientOperation) -> bool:
        """Whether P2 promises its order: for a read, that it finds the last finished write; for a
        write, that each such read finds it or a later one."""
        if self.met_loss(op) or (op.is_write and self.w_of(op) < majority(self.n)):
            return False
        if op.is_write and op.derived_from is None:
            return True
        # The default W too: by that a read decides whether to write back before it answers.
        return self.r_of(op) >= majority(self.n) and self.r_of(op) + self.w > self.n

    def met_loss(self, op: ClientOperation) -> bool:
        """Whether a copy of its key was lost while it went on. It may then have heard one replica
        before a record came there, and another after it was lost there: such answers are those of
        no single moment."""
        losses_ms = self.lost_ms.get(op.key)
        if losses_ms is None:
            return False
        return any(op.asked_ms <= ms <= op.over_ms for ms in losses_ms)

    def merged(self, key: bytes) -> Record | None:
        """The record on which the replicas of a key settle: the one that wins."""
        newest: Record | None = None
        for record in self.settled.get(key, {}).values():
            if record is not None and wins(record, newest):
                newest = record
        return newest
