# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica remembers of instances that are resolved: enough to tell who won, and little."""

from __future__ import annotations

from quorate.core.values.messages import Said
from quorate.core.votes import RESOLVED_MAX
from tests.unit.core.test_votes import HIGH, LOW, NEW, OLD, Voter, after, record, version


def test_who_won_the_last_links_is_told_after_something_newer_came() -> None:
    voter = Voter(OLD)
    links = range(1, 6)
    bases = [OLD.version, *[after(OLD.version, number=link).version for link in links]]
    for link in links:
        voter.accept(LOW, bases[link - 1], after(OLD.version, number=link))
        voter.hold(after(OLD.version, number=link))
    voter.prepare(LOW, bases[-1])
    voter.hold(NEW)
    for base in bases[:-1]:
        said = voter.prepare(HIGH, base)
        assert said.said == Said.RESOLVED
        assert said.record is not None
        assert said.record.version == bases[-1]
    assert voter.accept(HIGH, bases[0]).said == Said.RESOLVED
    assert voter.prepare(HIGH, bases[-1]).said == Said.PROMISED
    assert voter.restarted().prepare(HIGH, bases[1]).said == Said.RESOLVED


def test_of_chains_that_are_resolved_few_are_kept() -> None:
    voter = Voter(OLD)
    for count in range(30):
        held = record(10_000 + count)
        voter.hold(held)
        voter.accept(LOW, held.version, after(held.version))
        voter.hold(after(held.version))
        voter.prepare((count + 1, 1), version(99_000))
    assert len(voter.stored().instances) == RESOLVED_MAX
    assert voter.stored().floor == record(10_022).version
