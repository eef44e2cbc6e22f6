# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes say to each other: one frame per peer and turn, holding that turn's messages.

A request message carries a `batch` number, never used before between the two nodes; the answer
repeats it and lists its items in the same order. Answers to writes are sent only when
the writes are durable. Everything is array-like msgpack (`wire.frames`).

Two adjacent releases talk to each other. A field at the end with a default is compatible at once:
who does not know it passes over it, and who misses it takes the default. A new message is used from
its feature level on, and so is a new field of what others pass on, keep or hash (a record, a
layout), as who does not know it would lose it. Anything else is another protocol.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from quorate.core.values.body import Body
from quorate.core.values.record import has_expired


class Mutate(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Keep each record if it is newer than yours; ends in Mutated."""

    batch: int
    items: list[tuple[bytes, Body]]
    """Row and record."""
    lock: int = 0
    """Of a partition (`core.horizons`), if the sender holds all of these in it, now, with this."""


class Mutated(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Every item of the batch is durable here, or a newer record is, but for those refused."""

    batch: int
    superseded: list[tuple[int, bytes]]
    """Index and the higher version already held; empty without conflicts."""
    refused: list[tuple[int, str]]
    """Index and reason, for items that were not stored and never will be."""
    busy: bool = False
    """The disk takes no writes now, or cannot be read to see what they must beat. As good as no
    answer: some of the batch may be stored, and all of it may be sent again."""
    fenced: list[tuple[int, bytes]] = []
    """Index and version, for items that were not stored as nothing below that version may win here
    (`core.horizons`): a write has to be stamped again above it. Those that are not in `refused`,
    too, may be taken later."""
    denied: list[int] = []
    """Indices of `superseded`, of items that were never held here (`core.replaced`)."""


class Read(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Send the records of `full` rows and the versions of `brief` rows; ends in ReadAnswer."""

    batch: int
    full: list[bytes]
    brief: list[bytes]
    partition: int = -1
    """If all are of one, and its lock is to be told."""


class ReadAnswer(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Durable records and versions in the order asked; None and ABSENT where there is nothing.

    A long answer comes in pieces: each goes on where the one before ended, records first. `failed`
    are rows without an answer: damaged, not readable, or `withheld`: what is there goes first."""

    batch: int
    records: list[Body | None]
    versions: list[bytes]
    failed: list[bytes] = []
    lock: int = 0
    """Of the partition that was asked for."""
    withheld: list[bytes] = []


class ScannedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row without its value. `live` is False for tombstones; expiry is the reader's to judge."""

    row: bytes
    version: bytes
    live: bool
    expires_ms: int

    def is_live(self, *, wall_ms: int) -> bool:
        """Whether a reader sees its key: neither deleted nor expired."""
        return self.live and not has_expired(self.expires_ms, wall_ms=wall_ms)


class ScanRows(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """List up to `limit` rows of `partition` after `after` whose key has `prefix`."""

    batch: int
    partition: int
    after: bytes
    prefix: bytes
    limit: int


class ScannedRows(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Rows in order; `more` when the limit cut the list."""

    batch: int
    rows: list[ScannedRow]
    more: bool
    failed: bool = False
    """Damaged bytes were met: counts as no answer."""
    lock: int = 0
    """Of the partition, at who was asked to `Pull`."""
    horizon: int = 0
    records: list[Body] = []
    """Of the first rows, as many as a message has room for, if `Pull` asked for them."""


class Whereabouts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a node is, by its own word. Of two such tellings the one of the higher serial holds."""

    id: int
    """0 of who was announced, and never met by the teller."""
    serial: int
    """The node's wall clock when it started, in milliseconds."""
    url: str
    client: str = ""
    """Where clients reach it; empty: at `url`."""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A heartbeat, answered with a Pong at once."""

    batch: int
    members: list[Whereabouts]
    """Some that the sender knows, and that its layout does not name by their ids."""
    keys: int
    """Live keys held by the sender."""
    bytes_used: int
    pulled: int = 0
    """The epoch for which it has, durably, all copies that it is to hold (`pulls`); 0 if none."""
    left: int = 0
    """Partitions of which it has yet to get its copy."""
    unreadable: list[int] = []
    """Those of which it gets none for that epoch, as too few replicas can read what they have."""
    mark: int = 0
    """How far its disk is, durably (`topology.marks`)."""
    facts: int = 0
    """A hash of what it knows of where the members are (`topology.facts`); 0 while nothing."""
    waits: bool = False
    """Whether it waits to hear how far its disk was: its votes do not count yet."""


class Known(msgspec.Struct, frozen=True, array_like=True, tag=19, gc=False):
    """What I know of where members are, as far as you may know other things."""

    serials: list[tuple[int, int]]
    """Id and serial: tell me of those of whom you know a later one."""
    members: list[Whereabouts] = []
    """Those of whom I do."""


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """I heard your ping."""

    batch: int


class OtherEpoch(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """I did not serve these requests, for my epoch is another than yours. Who is behind adopts the
    other's layout. With an empty list it only tells, before anything else in its frame."""

    epoch: int
    batches: list[int]
    layout: bytes = b""
    """The sender's encoded layout, where the other's epoch is lower."""


Ballot = tuple[int, int]
"""One try to decide something: a count, and a number drawn for this try alone."""
NO_BALLOT: Final[Ballot] = (0, 0)
BALLOT_COUNT_MAX: Final = (1 << 32) - 1
BALLOT_BITS: Final = 62
"""Of the number that is drawn."""


class Vote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an acceptor says of a ballot (`consensus`)."""

    number: int
    """Of what is to be decided: the epoch of the next layout."""
    is_granted: bool
    promised: Ballot
    """It takes nothing of a lower ballot."""
    accepted: Ballot = NO_BALLOT
    value: bytes = b""
    """What it accepted under that ballot."""


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Promise to take nothing of a lower ballot; ends in Voted, or OtherEpoch where this number is
    decided or the one before is not known."""

    batch: int
    number: int
    ballot: Ballot
    lost: list[int] = []
    """The ids of members whose disk the proposer takes for lost: do not promise if you hear one."""


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Accept this value under this ballot; ends as Prepare does."""

    batch: int
    number: int
    ballot: Ballot
    value: bytes


class Voted(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """My vote, durable if granted."""

    batch: int
    vote: Vote


class Pull(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """List up to `limit` rows of `partition` after `after`, and all of them that you acknowledged
    under an earlier layout: it is I who shall hold them. Ends in ScannedRows, or PulledVotes."""

    batch: int
    partition: int
    after: bytes
    limit: int
    base: bytes | None = None
    """If given: list what you voted instead, behind that on this version's successor."""
    is_full: bool = False
    """Whether to send the records of the first rows, too."""


Fencing = tuple[int, int, int, int]
"""Partition, lock, the digest on whose ground it was set, and horizon (`core.horizons`)."""


class Agree(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    """What I hold, durably, of all stamps below a boundary (`digests`)."""

    boundary: int
    digests: list[tuple[int, int]]
    """Partition and digest."""
    fences: list[Fencing] = []
    """Of partitions that have a lock, all of `digests` among them and maybe others."""


class AskSums(msgspec.Struct, frozen=True, array_like=True, tag=15, gc=False):
    """Send the sums of a partition's buckets at this boundary; ends in Sums."""

    batch: int
    partition: int
    boundary: int


class Sums(msgspec.Struct, frozen=True, array_like=True, tag=16, gc=False):
    """By bucket; empty while there are none at that boundary."""

    batch: int
    sums: list[int]


class ListBuckets(msgspec.Struct, frozen=True, array_like=True, tag=17, gc=False):
    """List those of some buckets of `limit` rows of `partition` after `after`; ends in Listed."""

    batch: int
    partition: int
    buckets: int
    """A bit for each."""
    after: bytes
    limit: int


class Listed(msgspec.Struct, frozen=True, array_like=True, tag=18, gc=False):
    """Rows in order, and their versions, all durable."""

    batch: int
    rows: list[tuple[bytes, bytes]]
    bound: bytes
    """Rows behind it were not looked at; empty if there are none."""
    failed: bool = False
    """They cannot be read: counts as no answer."""


class FoundStage(enum.IntEnum):
    """What is said of a list of founders (`topology.founding`)."""

    ASK = 0
    """Are you free for it?"""
    FREE = 1
    """I am, for a while."""
    PROMISE = 2
    """Promise to it."""
    PROMISED = 3
    """I did, durably."""


class Foundation(msgspec.Struct, frozen=True, array_like=True, tag=20, gc=False):
    """What I say of this list of founders. For those alone that expect some (`Greeting.expect`)."""

    stage: int
    founders: list[tuple[int, str]]
    """Id and URL, ascending."""
    replication: int


class PrepareRows(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """Promise, for the successor of each version, to take nothing of a lower ballot
    (`exchanges.rounds`); ends in RowsVoted."""

    batch: int
    items: list[tuple[bytes, bytes | None, Ballot, bytes]]
    """Row, version, ballot, and the version that the proposer has the record of, so that it need
    not be sent. Instead of the first version None: the one that you hold."""


class AcceptRows(msgspec.Struct, frozen=True, array_like=True, tag=22, gc=False):
    """Accept each record as a version's successor, unseen until a Mutate; ends in RowsVoted."""

    batch: int
    items: list[tuple[bytes, bytes, Ballot, Body]]
    """Row, version, ballot, record."""


class Said(enum.IntEnum):
    """What a replica says of one ballot for the successor of a version."""

    PROMISED = 0
    ACCEPTED = 1
    OUTBID = 2
    """A higher ballot was promised."""
    RESOLVED = 3
    """It is decided: a later record of that chain is held, or was."""
    GONE = 4
    """It may have voted, and does not remember: no vote, ever."""
    REFUSED = 5
    """The row is not held here, or cannot be read or written now."""


class RowVote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One replica's answer, durable as far as it is a promise or an acceptance."""

    said: int
    """A Said."""
    base: bytes = b""
    """The version whose successor it is about; what the replica holds, where it was asked for that.
    A row of which nothing is held has that of the lock (`horizons`)."""
    promised: Ballot = NO_BALLOT
    accepted: Ballot = NO_BALLOT
    """The ballot under which it accepted `record`."""
    record: Body | None = None
    """If RESOLVED: a later one of the chain, without its value."""
    held: Body | None = None
    """What it holds, where that is of another version than the proposer has."""


class RowsVoted(msgspec.Struct, frozen=True, array_like=True, tag=23, gc=False):
    """My votes, in the order asked."""

    batch: int
    votes: list[RowVote]


class Instance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica voted on the successor of one version."""

    base: bytes
    promised: Ballot
    accepted: Ballot = NO_BALLOT
    record: Body | None = None
    """What it accepted under that ballot."""
    is_resolved: bool = False
    """A successor was held when the row was last voted on. `record` then is of that chain, without
    its value: its winners tell who won."""


class PulledVotes(msgspec.Struct, frozen=True, array_like=True, tag=24, gc=False):
    """What I voted, in order."""

    batch: int
    votes: list[tuple[bytes, bytes, int, Instance | None]]
    """Row, its floor and what of it is lost (`StoredVotes`), and one of its instances; None if it
    has none."""
    more: bool
    failed: bool = False
    """They cannot be read: counts as no answer."""


Message = (
    Mutate
    | Mutated
    | Read
    | ReadAnswer
    | ScanRows
    | ScannedRows
    | Ping
    | Pong
    | OtherEpoch
    | Prepare
    | Accept
    | Voted
    | Pull
    | Agree
    | AskSums
    | Sums
    | ListBuckets
    | Listed
    | Known
    | Foundation
    | PrepareRows
    | AcceptRows
    | RowsVoted
    | PulledVotes
)


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that one node says to another in one turn."""

    epoch: int
    """The sender's layout epoch; requests of another epoch end in OtherEpoch."""
    clock: int
    """The sender's hybrid clock (64 bits), so that conflicts are rare."""
    messages: list[Message]


class Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of a greeting that every protocol shares; a decoder skips the rest."""

    protocol_min: int
    protocol_max: object = None
    """A number from protocol 4 on."""


class Greeting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The handshake: who I am and what must match. Sent by both sides of a new link."""

    protocol_min: int
    protocol_max: int
    """The lowest and the highest protocol that the sender speaks."""
    cluster: str
    """A hash of its name; empty, as all that follows but `refusal`, to who is of another."""
    url: str
    node_id: int
    epoch: int
    layout_hash: bytes
    """Empty while the sender has not learnt the cluster's layout."""
    version: str
    """Software version, for people."""
    layout: bytes = b""
    """The sender's encoded layout, in force or proposed: who has none, or a lower one, takes it."""
    refusal: str = ""
    """Set by the acceptor: why it will not talk. The link is then closed."""
    process: int = 0
    """Drawn by the sender when it started: tells two processes with one URL apart."""
    reached: int = 0
    """The process that the acceptor's own link to the dialler's URL, or to another with its
    identity, leads to; 0 while it is down, and from the dialler."""
    w: int = 0
    r: int = 0
    """What the sender was started with; 0 if with none: a majority of the copies there are."""
    lineage: bytes = b""
    """Of its layout, the cluster's alone (`Layout.lineage`); empty while `layout_hash` is."""
    serial: int = 0
    """Of the URL: see `Whereabouts`."""
    zone: str = ""
    """Where it says that it is, should it become a member."""
    weight: int = 1
    """The share of the copies that it asks for then."""
    mark: int = 0
    """The highest that the acceptor heard of the dialler's (`Ping.mark`); 0 from the dialler."""
    level: int = 1
    """The highest feature level that the sender knows (`Layout.level`)."""
    in_force: int = 1
    """The one that is in force by its layout."""
    seen: str = ""
    """The address that the acceptor sees the dialler at; empty if not known, and from the dialler.
    Told to whoever greets, a stranger too: it is his own."""
    client: str = ""
    """Where clients reach the sender; empty: at `url`."""
    expect: int = 0
    """How many founders it looks for, itself among them; 0 if it looks for none."""

    def spoken_with(self, other: Greeting) -> int:
        """The protocol of a link between these two, the lower of the highest that each speaks; 0 if
        they have none in common."""
        highest = min(self.protocol_max, other.protocol_max)
        return highest if highest >= max(self.protocol_min, other.protocol_min) else 0


PROTOCOL_MIN: Final = 4
PROTOCOL_MAX: Final = 4
"""What this release speaks on links: its own, and that of the release before, once there is one."""
FEATURE_LEVEL: Final = 1
"""The highest that this release knows: raised with what is to be used from then on."""
