# SPDX-License-Identifier: GPL-3.0-or-later
"""One disk, and the replica on it. Each step is atomic, and durable before its answer."""

from __future__ import annotations

from copy import copy
from typing import Final, NamedTuple

from tests.models.read_modify_write.switches import Broken
from tests.models.read_modify_write.values import (
    ABSENT,
    NOTHING,
    Ack,
    Ballot,
    Instance,
    Record,
    Report,
    Told,
    Version,
    Vote,
    is_dead,
    is_garbage,
    is_of_phantom,
    is_phantom,
    is_successor,
    made_of,
    phantom,
    refuses,
)

REPLACED_MAX: Final = 3
LOWEST: Version = (-1, 0, 0)
Contents = dict[tuple[int, Version], Record]


class Kind(NamedTuple):
    """What all replicas of a world have in common."""

    keys: int
    instances_max: int
    """Of one key, that it has votes for."""
    is_historic: bool
    """Whether its digests know what was overwritten since."""


class Replica:
    """What a node keeps of the partition."""

    def __init__(self, name: int, kind: Kind, contents: Contents, broken: Broken) -> None:
        self.name = name
        self.kind = kind
        self.contents = contents
        """What each version was seen to be anywhere; ABSENT: one of a version that was two."""
        self.broken = broken
        self.keys = range(kind.keys)
        self.epoch = 0
        self.pulled = 0
        """The layout for which it has what it gains."""
        self.is_lost = False
        self.told = 0
        """The last boundary that it told."""
        self.reports: dict[int, Report] = {}
        self.clear()

    def clear(self) -> None:
        """Give the copy up."""
        self.records = [NOTHING for _ in self.keys]
        self.past: list[list[Version]] = [[] for _ in self.keys]
        self._replaced: list[list[Version]] = [[] for _ in self.keys]
        """The last versions that it held before the present one, from the oldest on."""
        self.votes: list[dict[Version, Instance]] = [{} for _ in self.keys]
        self.floors = [LOWEST for _ in self.keys]
        """An instance up to it, and without votes, may have had some."""
        self.lock = self.horizon = 0
        self.ground: tuple[Version, ...] | None = None

    # --- records -----------------------------------------------------------------------------

    def mutate(self, key: int, record: Record, lock: int = -1) -> Ack:
        """Keep the newer. `lock`: that under which another replica holds it, if that tells it."""
        held = self.records[key]
        if record.version == held.version:
            return Ack("held")
        if record.version < held.version:
            is_built_on = record.version[:2] == held.version[:2]
            is_late = is_of_phantom(held.version) and not (is_built_on or record.version[2])
            if is_late and not self.broken("ahead_of_phantom"):
                # There was nothing, up to that lock: no other write has overtaken this one.
                return Ack("refused", held.version)
            if is_built_on:
                return Ack("held", held.version)
            return Ack("ahead", held.version, self._never_held(key, record.version))
        # Who holds it under such a lock proves that nothing newer below the lock was dropped.
        is_proved = lock >= self.lock and not is_garbage(record, self.lock)
        if is_proved and not self.broken("no_proof"):
            pass
        elif refuses(record, held, self.lock) and not self.broken("no_horizon"):
            if held.version == ABSENT and is_garbage(record, self.horizon):
                return Ack("held")
            return Ack("refused", phantom(self.lock))
        self.records[key] = record
        self.past[key].append(record.version)
        self._note_replaced(key, held.version)
        if self.contents.setdefault((key, record.version), record) != record:
            self.contents[key, ABSENT] = record
        return Ack("held")

    def _note_replaced(self, key: int, version: Version) -> None:
        self._replaced[key] = [*self._replaced[key], version][-REPLACED_MAX:]

    def _never_held(self, key: int, version: Version) -> bool:
        """Whether it is remembered that it never held this version, nor anything built on it."""
        if self.broken("ahead_is_denial"):
            return True
        replaced = self._replaced[key]
        is_remembered = bool(replaced) and version > replaced[0]
        return is_remembered and not any([each[:2] == version[:2] for each in replaced])

    def base(self, key: int) -> Record:
        """What an update may build on."""
        held = self.records[key]
        if self.broken("phantom_at_zero"):
            return NOTHING if is_dead(held, self.lock) else held
        return Record(phantom(self.lock), None) if is_dead(held, self.lock) else held

    # --- votes -------------------------------------------------------------------------------

    def prepare(self, key: int, inst: Version | None, ballot: Ballot) -> Vote:
        """Promise to take nothing of a lower ballot; None: for what is held."""
        inst = self.base(key).version if inst is None else inst
        said = self._enter(key, inst, "promise_without_lock")
        if said:
            return self._vote(key, said)
        instance = self.votes[key][inst]
        if ballot <= instance.promised:
            return self._vote(key, "outbid", instance)
        if not self.broken("no_promise"):
            instance.promised = ballot
        return self._vote(key, "promised", instance)

    def accept(self, key: int, inst: Version, ballot: Ballot, record: Record) -> Vote:
        """Accept a successor of a version."""
        said = self._enter(key, inst, "accept_without_lock")
        if said:
            return self._vote(key, said)
        instance = self.votes[key][inst]
        if ballot < instance.promised:
            return self._vote(key, "outbid", instance)
        is_refused = refuses(record, self.records[key], self.lock)
        if (
            is_refused
            and record.version > self.records[key].version
            and not self.broken("accepts_refused")
        ):
            return self._vote(key, "refused")
        instance.promised = instance.ballot = ballot
        instance.accepted = record
        if self.broken("leak"):
            self.mutate(key, record)
        return self._vote(key, "accepted")

    def _vote(self, key: int, said: str, instance: Instance | None = None) -> Vote:
        told = instance or Instance()
        base, held = self.base(key), self.records[key]
        return Vote(said, base, held, self.lock, told.promised, told.ballot, told.accepted)

    def _enter(self, key: int, inst: Version, without_lock: str) -> str:
        """Why there can be no vote; empty if there are votes for the instance now."""
        held, votes = self.records[key], self.votes[key]
        if is_successor(held.version, inst):
            return "resolved"
        if self._is_out(held, inst, without_lock) or self._has_accepted_above(votes, inst):
            return "gone"
        if self.broken("refuse") and held.version > inst:
            return "gone"
        if inst not in votes:
            if self._may_have_voted(key, inst):
                return "gone"
            votes[inst] = Instance()
            if len(votes) > self.kind.instances_max:
                forgets = self.broken("forgets")
                lowest = min(each for each in votes if each != inst or not forgets)
                del votes[lowest]
                self.floors[key] = max(self.floors[key], lowest)
        return "" if inst in votes else "gone"

    def _is_out(self, held: Record, inst: Version, without_lock: str) -> bool:
        """Whether no successor of the instance may be decided here, with this lock."""
        if is_phantom(inst):
            is_live_below = held.version < inst and not is_dead(held, self.lock)
            if is_live_below and not self.broken("live_below_ignored"):
                return True
            return (
                inst != phantom(self.lock)
                and not self.broken(without_lock)
                and not self.broken("phantom_at_zero")
            )
        return (
            inst < phantom(self.lock)
            and is_dead(held, self.lock)
            and not self.broken("dead_base_votes")
        )

    def _has_accepted_above(self, votes: dict[Version, Instance], inst: Version) -> bool:
        """Whether it was accepted here that there is nothing up to a lock above the instance; that
        lock may have been taken back since."""
        return not self.broken("votes_below_accepted") and any(
            [
                is_phantom(each) and each > inst and instance.accepted is not None
                for each, instance in votes.items()
            ]
        )

    def _may_have_voted(self, key: int, inst: Version) -> bool:
        """Whether votes for an instance of which there are none may have been forgotten."""
        if inst <= self.floors[key] and not self.broken("forgets"):
            return True
        return (
            inst < phantom(self.horizon)
            and inst[:2] != self.records[key].version[:2]
            and not self.broken("votes_after_collection")
            and not (self.broken("phantom_at_zero") and inst == ABSENT)
        )

    def _raise_floor(self, key: int, floor: Version) -> None:
        self.floors[key] = max(self.floors[key], floor)
        for inst in [each for each in self.votes[key] if each <= self.floors[key]]:
            del self.votes[key][inst]

    def open_votes(self) -> list[tuple[int, Version, Record]]:
        """Key, instance and record of what was accepted, and may be decided and not be held."""
        return [
            (key, inst, instance.accepted)
            for key in self.keys
            for inst, instance in self.votes[key].items()
            if instance.accepted is not None
            and instance.accepted.version > self.records[key].version
            and not is_successor(self.records[key].version, inst)
        ]

    # --- lock, then drop ---------------------------------------------------------------------

    def digest(self, boundary: int) -> tuple[Version, ...]:
        """Of what was made before a boundary."""
        if self.kind.is_historic:
            return tuple(
                [
                    max([v for v in past if made_of(v) < boundary], default=ABSENT)
                    for past in self.past
                ]
            )
        versions = [record.version for record in self.records]
        return tuple([version if made_of(version) < boundary else ABSENT for version in versions])

    def has_garbage(self, boundary: int) -> bool:
        """Whether it is worth it to lock the boundary."""
        return any([is_garbage(record, boundary) for record in self.records])

    def in_the_way_of_lock(self, boundary: int) -> list[tuple[int, Version, Record]]:
        """Open votes for what the boundary would refuse."""
        return [
            each for each in self.open_votes() if refuses(each[2], self.records[each[0]], boundary)
        ]

    def in_the_way_of_unlock(self) -> list[tuple[int, Version, Record]]:
        """Open votes that rest on it that nothing below the lock wins."""
        return [
            each for each in self.open_votes() if is_phantom(each[1]) and each[1][0] > self.horizon
        ]

    def lock_at(self, boundary: int) -> bool:
        """Let nothing below the boundary win from now on. False if that is put off."""
        if self.in_the_way_of_lock(boundary) and not self.broken("lock_with_open_votes"):
            return False
        self.lock, self.ground = boundary, self.digest(boundary)
        return True

    def unlock(self) -> bool:
        """Take the lock back. False if that is put off."""
        if self.in_the_way_of_unlock() and not self.broken("unlock_with_open_votes"):
            return False
        self.lock, self.ground = self.horizon, None
        return True

    def drop(self, key: int) -> None:
        """A row is collected."""
        self._note_replaced(key, self.records[key].version)
        self.records[key] = NOTHING
        self.past[key] = []
        votes = self.votes[key]
        if self.broken("keeps_votes_of_collected"):
            return
        if self.broken("collect_with_open_votes"):
            votes.clear()
            self.floors[key] = LOWEST
            return
        for inst in [each for each in votes if each < phantom(self.horizon)]:
            del votes[inst]
        if self.floors[key] < phantom(self.horizon):
            self.floors[key] = LOWEST

    def collect(self, boundary: int) -> int:
        """All hold the same below the boundary, and promised to keep it. Returns how many rows
        are dropped."""
        self.horizon = boundary
        self.lock = max(self.lock, boundary)
        garbage = [key for key in self.keys if is_garbage(self.records[key], boundary)]
        for key in garbage:
            self.drop(key)
        return len(garbage)

    # --- copies move -------------------------------------------------------------------------

    def tell_all(self) -> Told:
        """What who gains a copy pulls."""
        votes = [{inst: copy(instance) for inst, instance in votes.items()} for votes in self.votes]
        return Told(list(self.records), votes, list(self.floors), self.horizon, self.lock)

    def take(self, sources: list[Told], *, is_replica: bool = False) -> None:
        """What was pulled. `is_replica`: what it has itself counts with it."""
        horizon = max([told.horizon for told in sources])
        locks = {told.lock for told in sources}
        # Nobody drops at a lock that not all have. Who has dropped there tells it as the horizon.
        is_shared = len(locks) == 1 or self.broken("lone_lock")
        lock = max(locks) if is_shared else horizon
        is_kept = self.broken("pull_forgets_horizon") or (
            is_replica and not self.broken("refuses_own")
        )
        for key in self.keys:
            best = max([told.records[key] for told in sources], key=lambda each: each.version)
            mine = self.records[key]
            # It came before the lock was known, and may be older than what was dropped there.
            is_refused = mine.version > best.version and refuses(mine, best, lock)
            if mine.version < best.version or (is_refused and not is_kept):
                self._note_replaced(key, mine.version)
                self.records[key] = best
            self.past[key] = [self.records[key].version]
        if not is_kept:
            self.lock, self.horizon, self.ground = lock, horizon, None
        if not self.broken("votes_not_pulled"):
            for told in sources:
                self._take_votes(told)
        for key in self.keys:
            if is_garbage(self.records[key], self.horizon):
                self.drop(key)

    def _take_votes(self, told: Told) -> None:
        for key in self.keys:
            votes = self.votes[key]
            for inst, theirs in told.votes[key].items():
                mine = votes.setdefault(inst, Instance())
                mine.promised = max(mine.promised, theirs.promised)
                if theirs.accepted is not None and theirs.ballot > mine.ballot:
                    mine.ballot, mine.accepted = theirs.ballot, theirs.accepted
            self._raise_floor(key, told.floors[key])
            while len(votes) > self.kind.instances_max:
                self._raise_floor(key, min(votes))
