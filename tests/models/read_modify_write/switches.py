# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that can be left out, each by a name."""

from __future__ import annotations

from typing import Final

SWITCHES: Final[dict[str, str]] = {
    # Deciding the successor of a version.
    "no_adopt": "a proposer proposes its own although another's was accepted",
    "no_promise": "a replica does not remember what it promised",
    "leak": "what is accepted is shown before it is decided",
    "forgets": "votes are forgotten, and no floor is kept",
    "refuse": "a replica with a newer record takes no part",
    "restart_after_accept": "who asked for acceptance in vain begins again from another base",
    "forgets_asked": "an own value that may be accepted is given up for another base",
    "no_ids": "a record does not tell who won",
    "fresh_stamp": "an update gets a stamp of its own, not the link after its base",
    "wrong_link": "several updates in one proposal advance the link by one",
    # Reading the base, and committing.
    "no_verify": "a base is built on that a majority does not hold",
    "no_writeback": "the base counts as written back before it is",
    "no_reread": "a base that was overwritten meanwhile is built on",
    "no_commit": "an update is answered before a majority holds it",
    # Puts.
    "at_once": "a put is stamped again if one of the first acks is superseded",
    "stuck_again": "a put that some held and others did not is stamped again",
    "low": "the second stamp is not above what was told",
    "ahead_is_denial": "who is ahead counts as never having held a put",
    "denied_before": "denials count for a put that was sent under an earlier layout, too",
    "denied_in_one_row": "it is enough that a majority of one row never held a put",
    "refused_is_ack": "a refusal counts as an ack",
    # Layouts.
    "no_fence": "a request of an earlier layout is served",
    "old_only": "the old row's quorum is enough",
    "switch_early": "copies have moved before they are pulled",
    "pull_from_one": "one source is enough for a pull",
    "votes_not_pulled": "who gains pulls records alone",
    "keeps_answers": "answers of an earlier layout count in a later one",
    "promises_of_before": "promises of an earlier layout count in a later one",
    "empty_disk_counts": "a wiped node is the replica that it was",
    # Collection.
    "no_lock": "garbage goes before all have locked it",
    "no_horizon": "what is below a horizon wins",
    "by_age": "garbage goes by age",
    "collect_while_joint": "copies that move are collected",
    "pull_forgets_horizon": "who gains takes on no lock and horizon",
    "lone_lock": "who gains takes on a lock that not all sources have",
    "refuses_own": "who is left in a shorter row drops what those who leave would refuse",
    "no_proof": "below a lock what a replica holds is refused like what is late",
    "any_proof": "a hint, or a write that is late, counts as told by who holds it",
    "phantom_at_zero": "the successors of nothing begin at zero, whatever is locked",
    "promise_without_lock": "a replica promises for a phantom of another lock",
    "accept_without_lock": "a replica accepts for a phantom of another lock",
    "phantom_preferred": "a phantom is built on although a live record was told",
    "mixed_phantoms": "replicas that tell different phantoms count for the highest",
    "live_below_ignored": "a phantom is voted on where something live is held below",
    "lock_with_open_votes": "a boundary is locked that refuses what is accepted",
    "agrees_with_open_votes": "who could not lock, for its open votes, agrees on the boundary",
    "unlock_with_open_votes": "a lock is taken back while its phantom's successor is open",
    "accepts_refused": "what the lock refuses is accepted",
    "keeps_votes_of_collected": "the votes of a collected row stay",
    "collect_with_open_votes": "all votes of a collected row go, those of its phantom too",
    "votes_after_collection": "a row that lives again votes on what was before its collection",
    "dead_base_votes": "who holds garbage below its lock, or nothing, goes on voting on it",
    "votes_below_accepted": "who accepted on a phantom votes on what is below it",
    "tombstone_of_base": "a tombstone made by an update is garbage by the stamp of its base",
    "tombstone_of_wall": "a tombstone made by an update has the wall clock's time",
    "gone_is_a_promise": "a replica that may have forgotten counts as having promised",
    "keeps_undecidable": "an open vote stays although others have passed its lock",
    "ahead_of_phantom": "what was built on nothing, at a lock, counts as having overtaken a put",
}
"""What each leaves out."""


class Broken:
    """Which rules are left out."""

    __slots__ = ("names",)

    def __init__(self, names: str = "") -> None:
        """Several are joined by "+"."""
        self.names = frozenset(names.split("+")) - {""}
        unknown = self.names - SWITCHES.keys()
        if unknown:
            raise ValueError(f"no switch {min(unknown)!r}")

    def __call__(self, name: str) -> bool:
        """Whether this rule is left out."""
        return name in self.names
