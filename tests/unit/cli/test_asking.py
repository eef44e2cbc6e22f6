# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes are asked at once, and nobody waits long for a name that is not found."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from quorate.cli import asking
from quorate.cli.asking import AT_ONCE, ask_all

found = socket.getaddrinfo


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A DNS that never answers for names below silent.invalid, and at once for others."""
    never = threading.Event()

    def look(host: str, *_: object, **_named: object) -> object:
        if host.endswith("silent.invalid"):
            never.wait()
        if host.endswith(".invalid"):
            raise socket.gaierror(-2, "Name or service not known")
        return found("127.0.0.1", 80)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    yield
    never.set()


def test_a_hundred_names_that_are_not_found_take_one_wait_and_hold_up_no_other(
    silent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del silent
    monkeypatch.setattr(asking, "RESOLVE_SECONDS", 0.2)
    asked: list[str] = []

    def ask(url: str) -> str:
        asked.append(url)
        return f"asked {url}"

    bad = [f"http://n{number}.silent.invalid:8000" for number in range(100)]
    good = ["http://10.0.0.1:8000", "http://localhost:8000", "http://none.invalid:8000", "what?"]
    told = ask_all([*bad, *good], ask, lambda _, fault: fault)
    assert told[:100] == [f"{url}: its name was not found in time" for url in bad]
    assert told[100:] == [f"asked {url}" for url in good]
    assert sorted(asked) == sorted(good)


def test_so_many_are_asked_at_once() -> None:
    """Each waits until all of them have been asked."""
    together = threading.Barrier(AT_ONCE)
    urls = [f"http://10.0.0.1:{8000 + number}" for number in range(AT_ONCE)]
    told = ask_all(urls, lambda _: together.wait(10) >= 0, lambda *_: False)
    assert told == [True] * AT_ONCE


def test_nobody_is_asked_of_none() -> None:
    assert ask_all([], str, lambda _, fault: fault) == []
