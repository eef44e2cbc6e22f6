# SPDX-License-Identifier: GPL-3.0-or-later
"""Who shakes hands next: addresses take turns, the newest first, and who stalls gives way."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.doors.handshakes import Handshakes, Turnstile
from quorate.security.contexts import Trust


def turnstile(*, at_once_max: int = 4, address_max: int = 2) -> Turnstile[str]:
    return Turnstile(at_once_max=at_once_max, address_max=address_max, stalled_s=1.0)


def test_one_address_has_so_many_and_the_newest_of_it_is_next() -> None:
    gate = turnstile()
    for name in ("a1", "a2", "a3", "a4"):
        gate.arrive(name, "a")
    assert [gate.next(0.0) for _ in range(3)] == ["a4", "a3", None]
    gate.leave("a4", "a")
    assert gate.next(0.0) == "a2"


def test_addresses_take_turns() -> None:
    gate = turnstile(at_once_max=9, address_max=9)
    for number in range(5):
        gate.arrive(f"a{number}", "a")
    gate.arrive("b", "b")
    gate.arrive("c", "c")
    assert [gate.next(0.0) for _ in range(4)] == ["a4", "b", "c", "a3"]


def test_who_has_stalled_gives_way_to_one_that_waits_for_its_place_and_to_no_other() -> None:
    gate = turnstile()
    for name in ("a1", "a2"):
        gate.arrive(name, "a")
        gate.next(0.0)
    assert gate.gives_way(9.0) is None, "nobody waits"
    gate.arrive("b", "b")
    assert gate.gives_way(9.0) is None, "there is room for it"
    gate.arrive("a3", "a")
    assert gate.gives_way(0.9) is None, "it has its time"
    assert gate.gives_way(1.0) == "a1"


def test_of_a_full_house_the_oldest_gives_way_whoever_it_is() -> None:
    gate = turnstile()
    for address in "abcd":
        gate.arrive(address, address)
        gate.next(0.0)
    gate.arrive("e", "e")
    assert gate.next(2.0) is None
    assert gate.gives_way(2.0) == "a"
    gate.leave("a", "a")
    assert gate.next(2.0) == "e"


@pytest.mark.parametrize(
    ("addresses", "lines"),
    [
        ([f"2001:db8::{number:x}" for number in range(1, 100)], 1),
        (["2001:db8::1", "2001:db8:0:1::1"], 2),
        (["10.0.0.1", "10.0.0.2"], 2),
    ],
)
def test_addresses_of_one_network_of_ipv6_take_turns_as_one(
    addresses: list[str], lines: int
) -> None:
    async def main() -> int:
        handshakes = Handshakes(lambda: cast(Trust, None), lambda *_: None)
        for each in addresses:
            raw = cast(asyncio.Transport, asyncio.BaseTransport({"peername": (each, 1, 0, 0)}))
            handshakes.begin(raw, bytes, lambda _: None)
        waiting = len(handshakes._turnstile._waiting)
        handshakes.close()
        return waiting

    assert asyncio.run(main()) == lines


def test_nobody_waits_at_a_port_that_is_closed() -> None:
    async def main() -> list[dict[str, object]]:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        handshakes = Handshakes(lambda: cast(Trust, None), lambda *_: None)
        raw = cast(asyncio.Transport, asyncio.BaseTransport({"peername": ("10.0.0.1", 1)}))
        handshakes.begin(raw, bytes, lambda _: None)
        handshakes.close()
        # As one that had begun does when it ends.
        handshakes._look_in(0.0)
        await asyncio.sleep(0.01)
        return faults

    assert asyncio.run(main()) == []


def test_a_flood_of_one_address_keeps_no_other_waiting() -> None:
    gate = turnstile(at_once_max=256, address_max=64)
    for number in range(5_000):
        gate.arrive(f"flood {number}", "flood")
    while gate.next(0.0) is not None:
        pass
    assert len(gate) == 64
    gate.arrive("other", "other")
    assert gate.next(0.0) == "other"


@given(st.lists(st.tuples(st.sampled_from("anlg"), st.integers(0, 9)), max_size=80))
@settings(max_examples=200)
def test_the_bounds_hold_and_nobody_is_forgotten(acts: list[tuple[str, int]]) -> None:
    """Beside a slow model: two sets."""
    gate = turnstile()
    waiting: set[str] = set()
    begun: set[str] = set()
    now = 0.0
    for act, number in acts:
        name, now = f"{number % 3}-{number}", now + 0.3
        address = name[0]
        if act == "a" and name not in waiting | begun:
            gate.arrive(name, address)
            waiting.add(name)
        elif act == "n" and (found := gate.next(now)) is not None:
            waiting.remove(found)
            begun.add(found)
        elif act == "l":
            gate.leave(name, address)
            waiting.discard(name)
            begun.discard(name)
        elif act == "g":
            late = gate.gives_way(now)
            assert late is None or late in begun
        assert len(gate) == len(begun) <= 4
        assert all(sum(each[0] == place for each in begun) <= 2 for place in "012")
        assert gate.is_waited_for == bool(waiting)
        could = len(begun) < 4 and any(
            sum(each[0] == other[0] for each in begun) < 2 for other in waiting
        )
        if act == "n" and could:
            # There was room before as well, so somebody has begun.
            assert begun
    for name in list(waiting | begun):
        gate.leave(name, name[0])
    assert (len(gate), gate.is_waited_for) == (0, False)
