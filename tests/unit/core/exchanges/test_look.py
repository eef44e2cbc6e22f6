# SPDX-License-Identifier: GPL-3.0-or-later
"""What a read remembers of the answers to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.core.exchanges.look import Look
from quorate.core.topology.topology import Group, Replicas
from quorate.core.values.events import Get, Result
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ABSENT
from tests.unit.core.alone import record_at

BITS = tuple(1 << index for index in range(5))


class Nobody:
    """Waits for nothing."""

    def done(self, result: Result) -> None:
        raise AssertionError(result)


def _look() -> Look:
    replicas = Replicas([[None]], own_url="http://n0:8000", r=1, w=1)
    return Look(Get(Nobody(), b"k"), row_of(b"k"), replicas, (Group(31, 3),))


ANSWERS = st.lists(
    st.tuples(st.sampled_from(BITS), st.integers(0, 2), st.booleans(), st.booleans()), max_size=12
)


@given(ANSWERS)
def test_each_replicas_answer_is_told_in_the_order_they_came_however_alike_they_are(
    answers: list[tuple[int, int, bool, bool]],
) -> None:
    look, told = _look(), dict[int, bytes]()
    for bit, stamp, is_brief, is_looked_at in answers:
        if bit in told:
            look.take_back(bit)
            del told[bit]
        else:
            record = record_at(stamp) if stamp else None
            version = ABSENT if record is None else record.version
            look.note(bit, version, None if is_brief else record)
            told[bit] = version
        if is_looked_at:
            assert list(look.versions.items()) == list(told.items())
        if told:
            assert look.is_settled() is all(each == look.version for each in told.values())
        assert look.answers == sum(told)
    assert list(look.versions.items()) == list(told.items())
