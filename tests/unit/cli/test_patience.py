# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a cluster that cannot answer is asked, and how fast one that can."""

from __future__ import annotations

import pytest

from quorate.cli import patience
from quorate.cli.patience import PATIENCE_SECONDS, KeyRate, patiently
from quorate.errors import KeyTooLarge, Overloaded


class Clock:
    """A time that passes where a test says so, and in sleep; stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pass."""
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


class Refusing:
    """Fails so many times, then answers."""

    def __init__(self, error: Exception, *, times: int) -> None:
        self.asked = 0
        self._error = error
        self._times = times

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self._times:
            raise self._error
        return "answer"


def test_it_asks_again_ever_more_slowly_and_says_so_once(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert patiently(Refusing(Overloaded("full"), times=8)) == "answer"
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert capsys.readouterr().err == "quorate: full; asking again, for 120 s at most\n"


def test_it_gives_up_in_the_end_with_the_error(clock: Clock) -> None:
    with pytest.raises(Overloaded):
        patiently(Refusing(Overloaded("full"), times=10**9))
    assert PATIENCE_SECONDS - 5 <= clock.now - 1000 <= PATIENCE_SECONDS


def test_what_another_try_cannot_help_is_raised_at_once(clock: Clock) -> None:
    refusing = Refusing(KeyTooLarge("no"), times=1)
    with pytest.raises(KeyTooLarge):
        patiently(refusing)
    assert (refusing.asked, clock.pauses) == (1, [])


def test_a_rate_is_kept_and_an_outage_is_not_made_up_for(clock: Clock) -> None:
    rate = KeyRate({"rate": "500"})
    assert rate.keys == 50
    for _ in range(3):
        rate.wait(50)
    assert clock.pauses == pytest.approx([0, 0.1, 0.1])
    clock.now += 60
    for _ in range(3):
        rate.wait(50)
    assert clock.pauses[3:] == pytest.approx([0, 0.1, 0.1])


@pytest.mark.parametrize(("rate", "keys"), [("1", 1), ("5", 1), ("2k", 200), ("1M", 1000)])
def test_a_slow_rate_is_of_many_small_requests(rate: str, keys: int) -> None:
    assert KeyRate({"rate": rate}).keys == keys


def test_without_a_rate_nothing_is_waited_for(clock: Clock) -> None:
    rate = KeyRate({})
    rate.wait(10**9)
    rate.wait(1)
    assert (rate.keys, clock.pauses) == (1000, [])
