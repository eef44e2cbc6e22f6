# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has not logged in gives way: the oldest of the address that has the most such connections."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.access import ANYBODY, NOBODY
from quorate.doors.guests import Guests


class From(asyncio.BaseTransport):
    """A connection from an address."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})


def test_the_oldest_of_the_address_that_has_most_leaves_first() -> None:
    guests = Guests()
    one = [From("10.0.0.1") for _ in range(3)]
    other = [From("10.0.0.2") for _ in range(2)]
    for each in (other[0], *one, other[1]):
        assert guests.judge(each, NOBODY)
    assert [guests.next_to_leave() for _ in range(2)] == [one[0], other[0]]
    assert {guests.next_to_leave() for _ in range(3)} == {one[1], one[2], other[1]}
    assert guests.next_to_leave() is None
    assert len(guests) == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    guests = Guests()
    flood = [From(f"2001:db8::{number}") for number in range(1, 4)]
    for each in (From("10.0.0.1"), *flood):
        guests.judge(each, NOBODY)
    assert guests.next_to_leave() is flood[0]


def test_who_is_known_stays_and_is_a_guest_again_if_he_is_not() -> None:
    guests, here = Guests(), From("10.0.0.1")
    guests.judge(here, NOBODY)
    assert not guests.judge(here, ANYBODY)
    assert guests.next_to_leave() is None
    guests.judge(here, NOBODY)
    assert guests.next_to_leave() is here


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["judge", "known", "leave", "gone"]))))
def test_as_many_are_kept_as_there_are(steps: list[tuple[int, str]]) -> None:
    guests, there = Guests(), set[From]()
    all_there = [From(f"10.0.0.{number % 3}") for number in range(9)]
    for number, step in steps:
        each = all_there[number]
        if step == "leave":
            left = guests.next_to_leave()
            assert (left is None) == (not there)
            there.discard(left)
        elif step == "gone":
            guests.forget(lambda transport, gone=each: transport is gone)  # type: ignore[misc]
            there.discard(each)
        elif step == "known":
            guests.judge(each, ANYBODY)
            there.discard(each)
        else:
            guests.judge(each, NOBODY)
            there.add(each)
        assert len(guests) == len(there)
