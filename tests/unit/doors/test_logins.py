# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of passwords: one at a time, bounded, and later for who was wrong."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import weakref
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from quorate.doors.logins import (
    CHECKS_MAX,
    DELAY_S_MAX,
    FORGET_S,
    SOURCE_CHECKS_MAX,
    SOURCES_MAX,
    Logins,
    Thread,
)
from quorate.security.passwords import parse_hash
from tests.principals import quick_hash
from tests.unit.doors.redis.turns import ManualTimers

KEPT = parse_hash(quick_hash("right"))


class ByHand(Thread):
    """Makes checks when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], bool], Callable[[bool], None]]] = []
        super().__init__()

    def run(self, check: Callable[[], bool], done: Callable[[bool], None]) -> None:
        self.asked.append((check, done))

    def make(self) -> None:
        """Make the one that was asked for."""
        ((check, done),) = self.asked
        self.asked.clear()
        done(check())

    def make_all(self) -> None:
        """Make those asked for, and those that this leads to."""
        while self.asked:
            self.make()


class Claimant:
    """Notes in `told` what it hears."""

    is_gone = False

    def __init__(self, told: list[bool | None]) -> None:
        self._told = told

    def checked(self, is_right: bool | None) -> None:
        self._told.append(is_right)


class Bench:
    """Logins by hand."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.thread = ByHand()
        self.logins = Logins(self.timers, self.thread)
        self.told: list[bool | None] = []
        self._number = 0

    def ask(self, password: bytes, address: str = "10.0.0.1", *, digest: bytes = b"") -> Claimant:
        self._number += 1
        claimant = Claimant(self.told)
        self.logins.check(
            password,
            KEPT,
            digest=digest or b"%d" % self._number,
            address=address,
            claimant=claimant,
        )
        return claimant

    def fail(self, count: int, address: str = "10.0.0.1") -> None:
        """So many wrong passwords, each waited for."""
        for _ in range(count):
            self.ask(b"wrong", address)
            self.timers.advance(DELAY_S_MAX)
            self.thread.make_all()
        self.told.clear()


def test_a_right_password_is_right_and_a_wrong_one_is_not() -> None:
    bench = Bench()
    bench.ask(b"right")
    bench.ask(b"wrong")
    assert bench.told == []
    bench.thread.make_all()
    assert bench.told == [True, False]


def test_one_check_is_made_at_a_time() -> None:
    bench = Bench()
    for number in range(5):
        bench.ask(b"right", f"10.0.0.{number}")
    for count in range(5):
        assert len(bench.told) == count
        bench.thread.make()
    assert bench.told == [True] * 5


def test_who_asks_the_same_meanwhile_waits_for_the_one_check() -> None:
    bench = Bench()
    for number in range(1000):
        bench.ask(b"right", f"10.0.{number // 250}.{number % 250}", digest=b"one")
    bench.thread.make()
    assert bench.told == [True] * 1000
    assert bench.thread.asked == []


@pytest.mark.parametrize("staying", [0, 10, 500])
def test_who_asks_the_same_and_goes_at_once_is_not_kept(staying: int) -> None:
    bench = Bench()
    for _ in range(staying):
        bench.ask(b"wrong", digest=b"one")
    gone = []
    for _ in range(5000):
        claimant = bench.ask(b"wrong", digest=b"one")
        claimant.is_gone = True
        gone.append(weakref.ref(claimant))
        del claimant
    assert len([1 for each in gone if each() is not None]) <= 100 + 2 * staying
    bench.thread.make()
    assert len(bench.told) <= 100 + 3 * staying
    assert len(bench.told) >= staying


def test_more_than_so_many_are_not_kept_waiting() -> None:
    bench = Bench()
    for _ in range(SOURCE_CHECKS_MAX + 1):
        bench.ask(b"wrong")
    assert bench.told == [None]
    for number in range(CHECKS_MAX):
        bench.ask(b"wrong", f"10.1.{number}.1")
    assert bench.told == [None] * (1 + SOURCE_CHECKS_MAX)
    while bench.thread.asked or len(bench.told) < CHECKS_MAX:
        bench.thread.make_all()
        bench.timers.advance(DELAY_S_MAX)
    bench.told.clear()
    bench.ask(b"right", "10.2.0.1")
    bench.thread.make_all()
    assert bench.told == [True]


def test_addresses_that_guess_keep_no_other_from_logging_in() -> None:
    bench = Bench()
    guessers = [f"10.1.{number}.1" for number in range(CHECKS_MAX // SOURCE_CHECKS_MAX)]
    for each in guessers:
        bench.fail(10, each)
    for each in guessers:
        for _ in range(SOURCE_CHECKS_MAX):
            bench.ask(b"wrong", each)
    bench.ask(b"right", "10.2.0.1")
    bench.thread.make_all()
    assert [bench.told.count(each) for each in (None, True)] == [1, 1]
    for _ in range(SOURCE_CHECKS_MAX):
        bench.timers.advance(DELAY_S_MAX)
        bench.thread.make_all()
    assert bench.told.count(False) == CHECKS_MAX - 1
    assert not bench.logins._checks
    assert {each.checks for each in bench.logins._sources.values()} == {0}


def test_who_never_guessed_wrong_is_next_however_many_wait_who_did() -> None:
    """256 checks are most of a minute, and a client waits for less."""
    bench = Bench()
    guessers = [f"10.1.{number // 100}.{number % 100}" for number in range(CHECKS_MAX)]
    for _ in range(2):
        bench.thread.make_all()
        bench.timers.advance(DELAY_S_MAX)
        for address in guessers:
            bench.ask(b"wrong", address)
    bench.told.clear()
    bench.ask(b"right", "10.0.0.9")
    bench.thread.make()
    assert bench.told.count(False) == 1, "the one that was under way"
    bench.thread.make()
    assert bench.told[-1] is True
    bench.thread.make_all()
    assert bench.told.count(False) == CHECKS_MAX - 1, "one gave way for the other to wait"


def test_each_wrong_password_makes_the_next_check_of_that_address_begin_later() -> None:
    bench = Bench()
    waited = []
    for _ in range(8):
        bench.ask(b"wrong")
        begun = bench.timers.now
        while not bench.thread.asked:
            bench.timers.advance(0.1)
        waited.append(round(bench.timers.now - begun, 1))
        bench.thread.make()
    assert waited == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2]


def test_what_comes_at_once_is_spread_too() -> None:
    bench = Bench()
    bench.fail(10)
    for _ in range(SOURCE_CHECKS_MAX):
        bench.ask(b"wrong")
    begun = bench.timers.now
    while len(bench.told) < SOURCE_CHECKS_MAX:
        bench.timers.advance(0.1)
        bench.thread.make_all()
    assert bench.timers.now - begun >= DELAY_S_MAX * (SOURCE_CHECKS_MAX - 1)


def test_one_more_that_is_wrong_lets_nothing_begin_before_what_waits_already() -> None:
    bench = Bench()
    bench.fail(10)
    bench.told.clear()
    for _ in range(3):
        bench.ask(b"wrong")
    bench.timers.advance(DELAY_S_MAX)
    bench.thread.make_all()
    bench.ask(b"wrong")
    for count in (2, 3, 4):
        bench.timers.advance(DELAY_S_MAX)
        bench.thread.make_all()
        assert len(bench.told) == count


def test_other_addresses_are_not_held_up() -> None:
    bench = Bench()
    bench.fail(10)
    bench.ask(b"wrong")
    bench.ask(b"right", "10.0.0.2")
    bench.thread.make_all()
    assert bench.told == [True]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("10.0.0.1", "::ffff:10.0.0.1", False),
        ("", "", True),
    ],
)
def test_addresses_of_one_network_of_ipv6_are_one_source(
    one: str, other: str, is_same: bool
) -> None:
    bench = Bench()
    bench.fail(10, one)
    bench.ask(b"right", other)
    bench.thread.make_all()
    assert (bench.told == []) is is_same


def test_an_address_that_was_quiet_for_long_is_forgiven() -> None:
    bench = Bench()
    bench.fail(10)
    bench.timers.advance(FORGET_S)
    bench.ask(b"right")
    bench.thread.make_all()
    assert bench.told == [True]


def test_a_right_password_does_not_forgive_the_wrong_ones() -> None:
    bench = Bench()
    bench.fail(10)
    bench.ask(b"right")
    bench.timers.advance(DELAY_S_MAX)
    bench.thread.make_all()
    assert bench.told == [True]
    bench.ask(b"right")
    bench.thread.make_all()
    assert bench.told == [True]


def test_endlessly_many_addresses_take_no_memory() -> None:
    bench = Bench()
    for number in range(SOURCES_MAX + 100):
        bench.ask(b"wrong", f"10.{number // 62500}.{number // 250 % 250}.{number % 250}")
        bench.thread.make_all()
    assert len(bench.logins._sources) == SOURCES_MAX
    assert not bench.logins._checks


def test_a_check_is_made_off_the_loop_and_one_that_fails_is_a_wrong_password() -> None:
    threads: set[str] = set()

    def check() -> bool:
        threads.add(threading.current_thread().name)
        return True

    def broken() -> bool:
        raise MemoryError

    async def main() -> list[bool]:
        thread, told = Thread(), list[bool]()
        for each in (check, broken, broken, check, broken):
            done = asyncio.get_running_loop().create_future()
            thread.run(each, done.set_result)
            told.append(await done)
        thread.close()
        return told

    with capture_logs() as lines:
        assert asyncio.run(main()) == [True, False, False, True, False]
    assert threads == {"logins_0"}
    # Told once, until a check is made again.
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("background_failed", "MemoryError()")
    ] * 2


def test_where_there_is_no_thread_any_more_each_check_is_a_wrong_password() -> None:
    """As of a node that stops, or one whose system has no thread for it; no check is stuck."""
    told: list[bool | None] = []

    async def main() -> None:
        thread = Thread()
        logins = Logins(asyncio.get_running_loop(), thread)
        thread.close()
        for number in range(3):
            digest = b"%d" % number
            logins.check(b"right", KEPT, digest=digest, address="::1", claimant=Claimant(told))
        while len(told) < 3:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert told == [False] * 3


def test_the_loop_goes_on_while_a_password_is_checked() -> None:
    """hashlib lets go of the interpreter's lock: a check of a tenth of a second is many turns."""
    turns = 0

    async def main() -> None:
        nonlocal turns
        thread, done = Thread(), asyncio.get_running_loop().create_future()
        thread.run(_slow, done.set_result)
        while not done.done():
            turns += 1
            await asyncio.sleep(0)
        thread.close()

    asyncio.run(main())
    assert turns > 100


def _slow() -> bool:
    return bool(hashlib.scrypt(b"x", salt=b"y", n=1 << 14, r=8, p=2, maxmem=1 << 26))
