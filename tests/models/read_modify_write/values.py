# SPDX-License-Identifier: GPL-3.0-or-later
"""Records, versions, and what replicas answer.

A version is (stamp, process, link). A put has link 0; an update of `u` has the stamp and the
process of `u`, and a higher link: the stamp of when it was made. A *phantom* is the version
(lock, 0, 0), and the base of whoever finds nothing; no process is 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Version = tuple[int, int, int]
Ballot = tuple[int, int]
"""A round and a process. Round 0 of an instance is for whoever stamped it, to move its put."""
Value = tuple[int, ...] | None
"""None: deleted. Else the tokens of those that wrote, and appended to, it."""

ABSENT: Final[Version] = (0, 0, 0)
NO_BALLOT: Final[Ballot] = (-1, 0)
WINNERS_MAX: Final = 6


class Record(NamedTuple):
    """One version of one key."""

    version: Version
    value: Value
    expires: int = 0
    """Of a tombstone that an update made: it is no garbage before that."""
    winners: tuple[tuple[int, int], ...] = ()
    """The link of the base, and the number, of the last proposals of this chain."""


NOTHING: Final = Record(ABSENT, None)


class Instance:
    """What a replica promised and accepted for the successor of one version."""

    __slots__ = ("accepted", "ballot", "promised")

    def __init__(
        self,
        promised: Ballot = NO_BALLOT,
        ballot: Ballot = NO_BALLOT,
        accepted: Record | None = None,
    ) -> None:
        self.promised = promised
        self.ballot = ballot
        """Under which `accepted` was."""
        self.accepted = accepted


class Ack(NamedTuple):
    """A replica's answer to a record: "held", "ahead" or "refused"."""

    said: str
    version: Version = ABSENT
    """What it holds, or does not let anything win below."""
    is_denied: bool = False
    """Whether it is ahead, and is known never to have held the record."""


class Vote(NamedTuple):
    """A replica's answer to a ballot: "promised", "accepted", "outbid", "resolved", "gone" or
    "refused"."""

    said: str
    base: Record
    """What it holds; a phantom if that is nothing, or garbage below its lock."""
    held: Record
    lock: int
    promised: Ballot = NO_BALLOT
    ballot: Ballot = NO_BALLOT
    accepted: Record | None = None


class Told(NamedTuple):
    """What a source of a pull has of a partition."""

    records: list[Record]
    votes: list[dict[Version, Instance]]
    floors: list[Version]
    horizon: int
    lock: int


class Report(NamedTuple):
    """What a replica tells of its partition."""

    boundary: int
    digest: tuple[Version, ...]
    lock: int
    ground: tuple[Version, ...] | None
    """The digest on the ground of which it locked."""
    horizon: int


def is_successor(version: Version, of: Version) -> bool:
    """Whether a version is a later link of the chain."""
    return version[:2] == of[:2] and version[2] > of[2]


def is_phantom(version: Version) -> bool:
    """Whether nobody ever wrote such a version."""
    return version[1:] == (0, 0)


def is_of_phantom(version: Version) -> bool:
    """Whether it is of a chain that began where there was nothing, with some lock."""
    return version[1] == 0 < version[0]


def made_of(version: Version) -> int:
    """The stamp of when it was made."""
    return version[2] or version[0]


def phantom(lock: int) -> Version:
    """The lowest version that is not below a boundary."""
    return (lock, 0, 0)


def is_garbage(record: Record, boundary: int) -> bool:
    """Whether all that agree at the boundary may drop the record."""
    return (
        record.version[0] < boundary
        and record.value is None
        and record.expires < boundary
        and record.version != ABSENT
    )


def is_dead(record: Record, lock: int) -> bool:
    """Whether there is nothing, or garbage."""
    return record.version == ABSENT or is_garbage(record, lock)


def refuses(record: Record, held: Record, lock: int) -> bool:
    """Whether a record that would win over `held` must not."""
    return record.version[0] < lock and (is_dead(held, lock) or is_garbage(record, lock))
