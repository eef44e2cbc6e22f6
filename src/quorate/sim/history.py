# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients asked and saw, and what else a checker may look at.

Every value is a list of *tokens* (`tokens`), one of each operation that it is of: it says who wrote
it, and on what that was built. Times are virtual milliseconds, wall-clock times the world's own
clock (no machine's offset).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from quorate.core.values.events import GetResult, PutResult, ScanResult, UpdateResult
from quorate.core.values.record import Record, is_live, wins
from quorate.core.values.settings import majority
from quorate.core.values.slots import key_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Outcome, QuorateError
from quorate.sim.layouts import Holders
from quorate.sim.tokens import Name, Token, last_of, tokens_of
from quorate.sim.trace import told_result


class Kind(enum.Enum):
    """What an operation asks for."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"
    APPEND = "append"
    """Put a token behind what is there."""
    INCREMENT = "increment"
    """The same, and count one more."""
    CAS = "cas"
    """Put a token behind what is there, if it is what the client saw last."""
    LOCK = "lock"
    """Write a token, if there is nothing: SET NX PX."""
    UNLOCK = "unlock"
    """Delete it, if it is what the client saw last."""
    EXPIRE = "expire"
    """Give it another expiry, or none: EXPIRE, PERSIST, GETEX."""
    GETDEL = "getdel"
    """Delete it, and tell what it was."""


UPDATES: Final = frozenset(Kind) - {Kind.GET, Kind.PUT, Kind.DELETE}
"""Read-modify-writes."""
WRITES_TOKEN: Final = frozenset((Kind.PUT, Kind.APPEND, Kind.INCREMENT, Kind.CAS, Kind.LOCK))
"""What leaves a value with its own token at the end."""
KEEPS_EXPIRY: Final = frozenset((Kind.APPEND, Kind.INCREMENT))
"""What leaves a value with the expiry that it had."""


class ClientOperation(msgspec.Struct, eq=False):
    """One operation as its client saw it; `result` is None until it is answered, and for ever if
    the coordinator died or the connection did.

    A request that is asked again is told as several, its attempts: each takes effect once at most.
    """

    serial: int
    client: int
    node: int
    """Index of the coordinator."""
    kind: Kind
    key: bytes
    asked_ms: float
    value: bytes | None = None
    """What a put writes; None deletes."""
    expires_ms: int = 0
    """Absolute, by the world's wall clock; 0 never."""
    r: int = 0
    w: int = 0
    timeout_ms: int = 0
    """What the coordinator was given; 0 if the history does not tell."""
    attempt: int = 0
    """How often it was asked before."""
    request: int = 0
    """The number that all of its attempts have; 0 if it is not asked again."""
    since_ms: float = 0.0
    """When the first of them was asked; 0 of that one."""
    seen: Record | None = None
    """What its client saw of the key last, for who compares with that."""
    done_ms: float | None = None
    wall_ms: int = 0
    """The coordinator's wall clock at the answer: what a door judges expiry by."""
    result: GetResult | PutResult | UpdateResult | QuorateError | None = None

    def __repr__(self) -> str:
        end = "..." if self.done_ms is None else f"{self.done_ms:.3f}"
        wrote = "" if self.value is None else f" {self.value[:40]!r}"
        again = f" attempt {self.attempt}" if self.attempt else ""
        return (
            f"#{self.serial}{again} client {self.client} at n{self.node} "
            f"{self.asked_ms:.3f}-{end}: {self.kind.value} {self.key!r}{wrote} "
            f"-> {told_result(self.result)}"
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
    def name(self) -> Name:
        """By which values tell who wrote them."""
        return self.client, self.serial, self.attempt

    @property
    def version(self) -> bytes:
        """Of what it read or wrote; ABSENT if it did neither, or of what it does not know."""
        result = self.result
        if isinstance(result, PutResult):
            return result.version
        record = None
        if isinstance(result, GetResult):
            record = result.record
        elif isinstance(result, UpdateResult):
            record = result.after or result.before
        return ABSENT if record is None else record.version

    @property
    def wrote(self) -> Record | None:
        """What it was told that it wrote: of an update the record, of a put its version."""
        result = self.result
        if isinstance(result, PutResult):
            return Record(result.version, self.value, self.expires_ms)
        if isinstance(result, UpdateResult) and not result.is_repeated:
            return result.after
        return None

    @property
    def told(self) -> list[Record]:
        """The records that its client was told of."""
        result = self.result
        found: tuple[Record | None, ...] = ()
        if isinstance(result, GetResult):
            found = (result.record,)
        elif isinstance(result, UpdateResult):
            found = result.before, result.after
        return [each for each in found if each is not None]

    @property
    def is_update(self) -> bool:
        """Whether it is a read-modify-write."""
        return self.kind in UPDATES

    @property
    def is_write(self) -> bool:
        """Whether it may write."""
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
        if not self.may_have_stamped(record.version):
            return False
        if self.wrote is not None:
            return self.wrote.value == record.value
        if self.kind is Kind.PUT:
            return record.value == self.value
        if self.kind in WRITES_TOKEN:
            return last_of(record.value) == self.name
        if self.kind is Kind.EXPIRE:
            return record.value is not None and record.expires_ms == self.expires_ms
        return record.value is None

    def may_have_stamped(self, version: bytes) -> bool:
        """Whether a version can be of this write, whatever its value is."""
        if not self.is_write or self.is_refused:
            return False
        wrote, result = self.wrote, self.result
        if wrote is not None:
            is_first = isinstance(result, PutResult) and result.restamped
            return wrote.version == version or (is_first and version < wrote.version)
        return not isinstance(result, UpdateResult) or result.is_repeated

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


class Page(msgspec.Struct, eq=False):
    """A page of keys as its client saw it; `result` is None until it is answered."""

    node: int
    """Index of the coordinator."""
    cursor: bytes
    limit: int
    r: int
    asked_ms: float
    over_ms: float = math.inf
    """When it was answered; infinite if it was not."""
    result: ScanResult | QuorateError | None = None

    def __repr__(self) -> str:
        return (
            f"page of {self.limit} keys behind {self.cursor!r} at n{self.node} "
            f"{self.asked_ms:.3f}-{self.over_ms:.3f}: {told_result(self.result)}"
        )

    @property
    def key(self) -> bytes:
        """Behind which it begins; empty for none."""
        return key_of(self.cursor)

    def as_read(self, key: bytes) -> ClientOperation:
        """What it is for one key: a read without an answer."""
        return ClientOperation(
            0, -1, self.node, Kind.GET, key, self.asked_ms, r=self.r, done_ms=self.over_ms
        )


class History:
    """Every operation of a run, in the order in which nodes were asked."""

    def __init__(self) -> None:
        self.operations: list[ClientOperation] = []
        self.pages: list[Page] = []

    def by_key(self) -> dict[bytes, list[ClientOperation]]:
        """The operations of each key, in order."""
        return _grouped((op.key, op) for op in self.operations)

    @cached_property
    def by_name(self) -> dict[Name, ClientOperation]:
        """The operations by what values call them. Of a history that does not grow any more."""
        return {op.name: op for op in self.operations}

    def writers(self, key: bytes, record: Record) -> list[ClientOperation]:
        """The writes of a key that may have left a record: who put the last token, and who gave it
        another expiry. Of tombstones none is told."""
        if record.value is None:
            return []
        last = last_of(record.value)
        found = [] if last is None or last not in self.by_name else [self.by_name[last]]
        found += self._expiring.get(key, [])
        return [op for op in found if op.key == key and op.may_have_written(record)]

    @cached_property
    def _expiring(self) -> dict[bytes, list[ClientOperation]]:
        return _grouped((op.key, op) for op in self.operations if op.kind is Kind.EXPIRE)

    def writer_of(self, token: Token) -> ClientOperation | None:
        """Who wrote a token."""
        return self.by_name.get(token.name)

    def expiries(self, record: Record, *, by_ms: float = math.inf) -> list[int]:
        """When a record may expire by what was asked for it until then: by those whose tokens it
        has, and by those who gave it another expiry."""
        assert record.value is not None, "a tombstone does not expire"
        found = [0]
        for token in tokens_of(record.value) or ():
            op = self.writer_of(token)
            if op is None:
                continue
            if op.kind not in KEEPS_EXPIRY:
                found = [op.expires_ms]
            later = self._expired_behind(op, record)
            found += [each.expires_ms for each in later if each.asked_ms <= by_ms]
        return found

    def _expired_behind(self, op: ClientOperation, record: Record) -> Iterable[ClientOperation]:
        """Who may have given another expiry to what ended in the token of an operation."""
        for each in self._expiring.get(op.key, []):
            if each.is_refused:
                continue
            result = each.result
            if isinstance(result, UpdateResult) and not result.is_repeated:
                after = each.wrote
                if after is None or after.value is None or last_of(after.value) != op.name:
                    continue
                if after.version > record.version:
                    continue
            yield each


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
    sizes: frozenset[int] = frozenset()
    """How many copies a key had, or was to have, at any time. What one of these does not promise,
    no answer of the run has to keep."""
    had: Callable[[ClientOperation], list[list[Holders]]] = lambda _: []
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
    handed: frozenset[Name] = frozenset()
    """Whose writes were given to a replica, as `checkers.refusals.Handed` saw it."""
    forgotten: Sequence[ClientOperation | Page] = ()
    """What a coordinator that lives never answered."""
    healthy_from_ms: float = float("inf")
    """From then on there are no faults, but that the nodes of `dead` cannot be reached, nor who is
    silent (`paused_ms`)."""
    answer_within_ms: float = 0.0
    """Each request that is asked since then succeeds within this time if enough replicas live."""
    whole_from_ms: float = float("inf")
    """From then on every replica of every key runs, can be reached, and can be read."""
    dead: frozenset[int] = frozenset()
    paused_ms: dict[int, tuple[float, float]] = {}
    """By node: from when until when it was last silent, which no other was told."""
    calm_ms: list[tuple[float, float]] = []
    """Spans before that in which no fault is on, and none has consequences any more."""
    hints_left: dict[int, int] = {}
    """Hints that wait on each node after quiescence."""

    def defaults(self) -> list[tuple[int, int, int]]:
        """N, and the W and R that requests need which ask for no number, of each number of copies
        that a key had."""
        if not self.sizes.difference([self.n]):
            return [(self.n, self.w, self.r)]
        return [
            (n, self.set_w or majority(n), self.set_r or majority(n)) for n in sorted(self.sizes)
        ]

    def do_overlap(self, read: ClientOperation, write: ClientOperation) -> bool:
        """Whether such a read meets such a write: R + W > N."""
        return all((read.r or r) + (write.w or w) > n for n, w, r in self.defaults())

    def w_of(self, operation: ClientOperation) -> int:
        """The acks that a write needs."""
        return operation.w or self.w

    def rows_of(self, operation: ClientOperation) -> list[list[Holders]]:
        """`had`, or what there is without any change."""
        return self.had(operation) or [[Holders(tuple(range(self.n)))]]

    def away(self, operation: ClientOperation) -> frozenset[int]:
        """Who could not be reached at some time of an operation, once there were no faults."""
        asked_ms, over_ms = operation.asked_ms, operation.over_ms
        return self.dead.union(
            [
                node
                for node, (since_ms, until_ms) in self.paused_ms.items()
                if since_ms <= over_ms and asked_ms < until_ms
            ]
        )

    def needed(self, operation: ClientOperation, row: Holders) -> int:
        """The acks, or answers, that an operation needs of a row."""
        if operation.is_update:
            return row.majority
        asked, usual = (
            (operation.w, self.set_w) if operation.is_write else (operation.r, self.set_r)
        )
        return asked or usual or row.majority

    def is_promised(self, op: ClientOperation) -> bool:
        """Whether P2 promises its order: for a read, that it finds the last finished write; for a
        write, that each such read finds it or a later one."""
        if self.met_loss(op):
            return False
        if op.is_write:
            return all((op.w or w) >= majority(n) for n, w, _ in self.defaults())
        # The default W too: by that a read decides whether to write back before it answers.
        return all(
            (op.r or r) >= majority(n) and (op.r or r) + w > n for n, w, r in self.defaults()
        )

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
