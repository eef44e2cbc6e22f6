# SPDX-License-Identifier: GPL-3.0-or-later
"""LCS: the longest common subsequence of two values, by the textbook's table.

Work and memory are the product of the two lengths. The table is bounded as in Redis and charged as
a reply is, and it is filled in slices (`work`).
"""

from __future__ import annotations

from array import array
from collections.abc import Generator
from functools import partial
from typing import Final, NamedTuple

from quorate.core.values.events import Get, GetResult, Result
from quorate.doors.limits import no_room_for_reply
from quorate.doors.redis.command import KeyPositions, integer_argument, reads_keys
from quorate.doors.redis.gather import Gather, Part
from quorate.doors.redis.plans import value_of
from quorate.doors.redis.session import CommandError, Session, visible
from quorate.errors import InvalidRequest, Outcome
from quorate.wire import resp

_CELL_BYTES: Final = array("I").itemsize
_SLICE_CELLS: Final = 1024
_SLICE_STEPS: Final = 16 * _SLICE_CELLS
"""What a slice of cells costs (`work`)."""


class Stretch(NamedTuple):
    """A stretch that both have: where it begins in each, and how long it is."""

    first: int
    second: int
    length: int


class LcsOptions(NamedTuple):
    """What LCS is to answer."""

    shows_length: bool
    shows_matches: bool
    length_min: int
    with_length: bool


class _Lcs(Gather):
    __slots__ = ("_options", "_search", "_values")

    def __init__(self, session: Session, keys: list[bytes], options: LcsOptions) -> None:
        self._options = options
        self._values = [b"", b""]
        super().__init__(session, keys)

    def ask(self, part: Part) -> None:
        self.session.store.submit(Get(part, part.key))

    def take(self, part: Part, result: Result) -> bool:
        assert isinstance(result, GetResult)
        self._values[part.index] = value_of(visible(result, self.session)) or b""
        return True

    def finish(self) -> None:
        first, second = self._values
        size = (len(first) + 1) * (len(second) + 1) * _CELL_BYTES
        if size > self.session.store.config.value_bytes_max:
            self.resolve_failed(
                InvalidRequest(
                    "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
                    outcome=Outcome.NOT_APPLIED,
                )
            )
        elif not self.hold(size):
            self.resolve_failed(no_room_for_reply())
        else:
            self._search = search(first, second)
            self.session.door.work.add(self)

    def work(self, steps: int) -> int:
        """Part of `Job`."""
        while steps > 0:
            try:
                next(self._search)
            except StopIteration as end:
                self.resolve(self._render(*end.value))
                return steps
            steps -= _SLICE_STEPS
        return 0

    def _render(self, text: bytes, matches: list[Stretch]) -> bytes:
        options = self._options
        if options.shows_length:
            return resp.integer(len(text))
        if not options.shows_matches:
            return resp.bulk(text)
        shown = [
            [
                [each.first, each.first + each.length - 1],
                [each.second, each.second + each.length - 1],
                *([each.length] if options.with_length else []),
            ]
            for each in matches
            if each.length >= options.length_min
        ]
        return resp.encode({"matches": shown, "len": len(text)}, self.session.protocol)


def search(first: bytes, second: bytes) -> Generator[None, None, tuple[bytes, list[Stretch]]]:
    """The subsequence, and where its stretches are, last first; it pauses after each slice."""
    width = len(second) + 1
    table = array("I", bytes(_CELL_BYTES * width * (len(first) + 1)))
    done = 0
    for row, byte in enumerate(first):
        for start in range(0, len(second), _SLICE_CELLS):
            part = second[start : start + _SLICE_CELLS]
            _fill(table, byte, part, above=row * width + start, below=(row + 1) * width + start)
            done += len(part)
            if done >= _SLICE_CELLS:
                done = 0
                yield
    return (yield from _trace(first, second, table))


def _fill(table: array[int], byte: int, part: bytes, *, above: int, below: int) -> None:
    """Fill the cells behind `below` for a byte of the one value and `part` of the other."""
    length = table[below]
    for other in part:
        if byte == other:
            length = table[above] + 1
        elif table[above + 1] > length:
            length = table[above + 1]
        above += 1
        below += 1
        table[below] = length


def _trace(
    first: bytes, second: bytes, table: array[int]
) -> Generator[None, None, tuple[bytes, list[Stretch]]]:
    """The way back through the table, as Redis goes it."""
    text = bytearray()
    matches: list[Stretch] = []
    width = len(second) + 1
    i, j, length, passed = len(first), len(second), 0, 0
    while i and j:
        if first[i - 1] == second[j - 1]:
            text.append(first[i - 1])
            i, j, length = i - 1, j - 1, length + 1
        else:
            if length:
                matches.append(Stretch(i, j, length))
                length = 0
            if table[(i - 1) * width + j] > table[i * width + j - 1]:
                i -= 1
            else:
                j -= 1
        passed += 1
        if passed % _SLICE_CELLS == 0:
            yield
    if length:
        matches.append(Stretch(i, j, length))
    return bytes(reversed(text)), matches


def _lcs(session: Session, args: list[bytes]) -> None:
    words = [word.upper() for word in args[3:]]
    length_min = 0
    if b"MINMATCHLEN" in words[:-1]:
        at = words.index(b"MINMATCHLEN")
        length_min = integer_argument(args[3 + at + 1])
        del words[at : at + 2]
    if set(words) - {b"LEN", b"IDX", b"WITHMATCHLEN"}:
        raise CommandError("ERR syntax error")
    if b"LEN" in words and b"IDX" in words:
        raise CommandError("ERR If you want both the length and indexes, please just use IDX.")
    options = LcsOptions(b"LEN" in words, b"IDX" in words, length_min, b"WITHMATCHLEN" in words)
    _Lcs(session, args[1:3], options)


COMMANDS: Final = (
    partial(reads_keys, keys=KeyPositions(1, 2, 1))(
        *("lcs", -3, _lcs, "Find the longest common subsequence of two values", "7.0.0"),
        group="string",
    ),
)
