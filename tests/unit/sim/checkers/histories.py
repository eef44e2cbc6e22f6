# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads histories of a register in the style of Jepsen's logs (`register_histories.txt`), as
Porcupine does: a line is what happened at the time that is its number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from quorate.sim.checkers.register import (
    Content,
    RegisterOperation,
    read,
    unknown_update,
    unknown_write,
    update,
    write,
)

FILE: Final = Path(__file__).parent / "register_histories.txt"
_PARTS: Final = re.compile(r"\[[^]]*\]|\S+")


class Told(NamedTuple):
    """A history, and what it is."""

    name: str
    is_fine: bool
    operations: list[RegisterOperation]


def told() -> Iterator[Told]:
    """All of them."""
    for section in FILE.read_text().split("\n== ")[1:]:
        title, *lines = section.strip().splitlines()
        verdict, _, name = title.partition(": ")
        yield Told(name, {"fine": True, "broken": False}[verdict], list(operations(lines)))


def operations(lines: list[str]) -> Iterator[RegisterOperation]:
    """What these lines tell."""
    begun: dict[str, tuple[float, str, list[str]]] = {}
    for time, line in enumerate(lines):
        process, what, name, *values = _PARTS.findall(line)
        if what == ":invoke":
            assert process not in begun, f"process {process} waits for an answer"
            begun[process] = float(time), name, values
            continue
        start, asked, given = begun.pop(process)
        assert asked == name, line
        if what == ":info":
            yield from _unknown(start, name, given)
        elif what == ":fail":
            yield from (read(start, time, _value(found)) for found in values[1:])
        else:
            yield from _answered(start, float(time), name, values)
    for start, name, given in begun.values():
        yield from _unknown(start, name, given)


def _answered(
    start: float, end: float, name: str, values: list[str]
) -> Iterator[RegisterOperation]:
    if name == ":read":
        yield read(start, end, _value(values[0]))
    elif name == ":write":
        yield from write(start, end, _value(values[0]))
    else:
        found = _pair(values[0])[0] if name == ":cas" else _value(values[1])
        yield update(start, end, found, edited(name, values[0], found))


def _unknown(start: float, name: str, values: list[str]) -> Iterator[RegisterOperation]:
    if name == ":write":
        yield unknown_write(start, _value(values[0]))[0]
    elif name != ":read":
        yield unknown_update(start, partial(edited, name, values[0]))


def edited(name: str, argument: str, content: Content) -> Content:
    """What an operation of this name makes of what there is."""
    assert content is None or isinstance(content, bytes)
    if name == ":cas":
        old, new = _pair(argument)
        return new if content == old else content
    if name == ":add":
        return b"%d" % (int(content or 0) + int(argument))
    assert name == ":append", name
    return (content or b"") + argument.encode()


def _pair(argument: str) -> tuple[bytes | None, bytes | None]:
    old, new = argument.strip("[]").split()
    return _value(old), _value(new)


def _value(text: str) -> bytes | None:
    return None if text == "nil" else text.encode()
