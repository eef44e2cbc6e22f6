# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests end in that there are few of, and notes for the log. (`core.values.events`)"""

from __future__ import annotations

import msgspec

from quorate.core.values.messages import ScannedRow
from quorate.core.values.record import Record
from quorate.core.values.wish import Preview


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


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something an operator should read in the log: stable `event` name plus facts."""

    level: str
    event: str
    facts: dict[str, int | str]
