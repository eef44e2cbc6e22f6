# SPDX-License-Identifier: GPL-3.0-or-later
"""What updates of unknown outcome (*edits*) may make of a content that nobody finds.

Contents of which they make the same, as far as anybody finds it, are one content to a search:
fifty puts that timed out, and that nobody read, are one to a GETDEL that timed out. So are those of
which they make nothing that is found.

An outcome that nobody finds is left out where edits make no more of it than of what was there
before: an edit that was never applied does as well.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

from quorate.sim.checkers.register import (
    Anything,
    Content,
    ContentEdit,
    Growing,
    Nothing,
    RegisterOperation,
    content_of,
    value_of,
)

OUTCOMES_MAX: Final = 500
"""So many outcomes are looked at of one content before it counts as like no other."""
OUTCOMES_MAX_IN_ALL: Final = 20_000
"""The same of all contents together. This takes some tenths of a second."""

UNFOUND: Final = b"\xff any content that nobody finds"
"""Stands for all contents that nobody finds, and of which edits make nothing that is found."""

_UNKNOWN: Final = -1
_OTHER: Final = b"\xff any value that has no part in what is found"


class _Made(NamedTuple):
    """What an edit makes: a content that is found, or one of which edits make more."""

    by: int
    """The number of the edit; `_UNKNOWN`: what is made of the content is too much to look at."""
    content: Content
    later: frozenset[_Made] | None = None
    """What edits make of the content, if nobody finds it; None if somebody does. Of a content that
    nobody finds nothing else counts but when it expires: from then on somebody may find nothing."""


class Prospects:
    """The edits of a history, and what they may make."""

    def __init__(self, history: list[RegisterOperation]) -> None:
        self._edits = [(op, op.edit) for op in history if op.edit is not None]
        numbers: dict[ContentEdit, int] = {}
        self._numbers = [numbers.setdefault(edit, len(numbers)) for _, edit in self._edits]
        """Equal edits have one number."""
        self._number_of = numbers
        self._founds: set[Content] = set()
        self._nothing_by_ms = -math.inf
        self._contents: dict[Content, None] = {None: None}
        """What there may be, but for what edits make that nobody finds."""
        for op in history:
            found = op.reads()
            if isinstance(found, Nothing):
                self._founds.add(None)
                self._nothing_by_ms = max(self._nothing_by_ms, found.by_ms)
            elif not isinstance(found, Anything):
                self._founds.add(found)
                self._contents[found] = None
            if not op.is_read and not isinstance(op.value, Nothing):
                self._contents[op.value] = None
        self._values: list[bytes] | None = None
        """What is found, or compared with, in order; None if edits may not only grow."""
        edits: list[object] = list(numbers)
        growing = [edit for edit in edits if isinstance(edit, Growing)]
        if len(growing) == len(numbers):
            values = {value_of(each) for each in self._founds} | {each.compared for each in growing}
            self._values = sorted(each for each in values if each is not None)
        self._known: dict[Content, frozenset[_Made]] = {}
        self._leaves: set[tuple[int, Content]] | None = None
        self._kinds: dict[frozenset[_Made], int] = {}
        self._stand_of: dict[Content, bytes] = {UNFOUND: UNFOUND}
        self._samples: dict[Content, Content] = {UNFOUND: UNFOUND}
        self._left = 0
        """So many outcomes may still be looked at of one content, and of all."""
        self._left_in_all = OUTCOMES_MAX_IN_ALL

    def __contains__(self, content: Content) -> bool:
        """Whether edits may make something of this that is found."""
        return bool(self._of(content))

    def stand_in(self, content: Content) -> bytes:
        """What stands for a content that nobody finds, and for all that are like it."""
        stand = self._stand_of.get(content)
        if stand is None:
            prospects = self._of(content)
            number = self._kinds.setdefault(prospects, len(self._kinds))
            stand = b"\xff like %d" % number if prospects else UNFOUND
            self._stand_of[content] = self._stand_of[stand] = stand
            self._samples.setdefault(stand, self._plain(content))
        return stand

    def is_more(self, content: Content, other: Content) -> bool:
        """Whether more may come of a content than of another: if it is found itself, or if edits
        make something else of it."""
        if content not in self._samples:
            return True
        return not self._of(self.sample(content)) <= self._of(self.sample(other))

    def sample(self, content: Content) -> Content:
        """A content for which this stands, or itself."""
        return self._samples.get(content, content)

    def makes(self, edit: ContentEdit) -> frozenset[Content] | None:
        """What is found that an edit may make, of anything there ever is. None if that is not
        known."""
        if self._leaves is None:
            self._leaves = {leaf for each in self._contents for leaf in _leaves(self._of(each))}
        if any(by == _UNKNOWN for by, _ in self._leaves):
            return None
        return frozenset(made for by, made in self._leaves if by == self._number_of[edit])

    def _of(self, content: Content) -> frozenset[_Made]:
        if not self._edits or content == UNFOUND:
            return frozenset()
        known = self._known.get(content)
        if known is None:
            plain = self._plain(content)
            known = self._looked_at(plain) if plain == content else self._of(plain)
            self._known[content] = known
        return known

    def _looked_at(self, content: Content) -> frozenset[_Made]:
        self._left = min(OUTCOMES_MAX, self._left_in_all)
        self._left_in_all -= self._left
        try:
            return self._made(content, tuple(range(len(self._edits))))
        except _TooMany:
            return frozenset([_Made(_UNKNOWN, content)])
        finally:
            self._left_in_all += self._left

    def _made(self, content: Content, left: tuple[int, ...]) -> frozenset[_Made]:
        """What those edits make that are left, one after another."""
        found: set[_Made] = set()
        others: list[tuple[int, Content]] = []
        for place, made in self._outcomes(content, left):
            if made in self._founds:
                found.add(_Made(self._numbers[place], made))
            else:
                others.append((place, made))
        for place, made in others:
            later = self._made(made, tuple(each for each in left if each != place))
            expired = self._expired(made)
            if expired is not None or not later <= found:
                found.add(_Made(self._numbers[place], expired, later))
        return frozenset(found)

    def _outcomes(self, content: Content, left: tuple[int, ...]) -> Iterator[tuple[int, Content]]:
        tried = set()
        for place in left:
            if self._numbers[place] in tried:
                continue
            tried.add(self._numbers[place])
            for made in map(self._plain, self._edits[place][0].outcomes(content)):
                if not self._left:
                    raise _TooMany
                self._left -= 1
                if made != content:
                    yield place, made

    def _plain(self, content: Content) -> Content:
        """The content, or one that edits which only grow treat alike: of a value with which nothing
        begins that is found, or that an edit compares with."""
        value = value_of(content)
        if value is None or self._values is None:
            return content
        place = bisect_left(self._values, value)
        if place < len(self._values) and self._values[place].startswith(value):
            return content
        return content_of(_OTHER, content[1] if type(content) is tuple else 0)

    def _expired(self, content: Content) -> Content:
        """What a content is to those who find nothing; None if it is not that."""
        if type(content) is not tuple or content[1] > self._nothing_by_ms:
            return None
        return b"", content[1]


class _TooMany(Exception):
    """There is too much to look at."""


def _leaves(prospects: frozenset[_Made]) -> Iterator[tuple[int, Content]]:
    """The contents that are found, and which edit makes them."""
    for by, content, later in prospects:
        if later is None:
            yield by, content
        else:
            yield from _leaves(later)
