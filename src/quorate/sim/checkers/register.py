# SPDX-License-Identifier: GPL-3.0-or-later
"""A register that is read, written, and read and written at once: its operations, and the order of
them that versions tell.

A delete writes None, which is also the first content. An order explains a history if every
operation takes effect between its start and its end, each read returns what the write before it
wrote, and each read-modify-write (an *update*) finds that and takes effect exactly once. Three
kinds of writes need not: one whose outcome is unknown may take effect at any later time or never; a
put that was stamped again may twice within its duration, but no update finds its first stamp (P2);
an unknown put may have been stamped again too.

The versions are a guess, held against the rules like any other order: a store whose versions are
wrong gains nothing by it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final, NamedTuple, Protocol, runtime_checkable

from quorate.core.values.versions import chain_of, link_of

Content = bytes | tuple[bytes, int] | None
"""What a register holds: a value, with its expiry if it has one; None for nothing."""


class Nothing(NamedTuple):
    """Found by who takes an expired value for nothing: when its clock says `by_ms` at most."""

    by_ms: float = 0.0


class Anything(NamedTuple):
    """Found by who overwrites whatever there is."""


Required = Content | Nothing | Anything
"""What an operation requires of a register."""

ContentEdit = Callable[[Content], Content]
"""An update as a function of what is live. It returns the same content to leave it."""


@runtime_checkable
class Growing(Protocol):
    """An edit that makes of a value nothing, or puts something behind it, or gives it another
    expiry. Which of these it does is the same for all values of one expiry but `compared`."""

    @property
    def compared(self) -> bytes | None:
        """The value that it is meant for, if it compares."""


ANYTHING: Final = Anything()
LINKS_MAX: Final = 12
"""So many updates that nobody knows of are looked for between two versions."""
STEPS_MAX: Final = 2_000
"""So many steps are looked at to explain one version by what nobody knows of."""


def content_of(value: bytes | None, expires_ms: int = 0) -> Content:
    """The content of a record."""
    return value if value is None or not expires_ms else (value, expires_ms)


def value_of(found: Required) -> bytes | None:
    """The value that is required, if it is one."""
    if isinstance(found, Nothing | Anything) or found is None:
        return None
    return found if isinstance(found, bytes) else found[0]


def fits(found: Required, content: Content) -> bool:
    """Whether an operation can have found this."""
    if type(found) is Nothing:
        return content is None or (type(content) is tuple and content[1] <= found.by_ms)
    return found == content or type(found) is Anything


class RegisterOperation(NamedTuple):
    """One operation as its client saw it. A read that got no answer says nothing: leave it out."""

    start: float
    end: float
    is_read: bool
    value: Content | Nothing
    """What was read or written; None if an `edit` tells."""
    must: bool = True
    """Whether it surely took effect."""
    version: bytes | None = None
    """Of the record that was read, or that was written in the end; None if that is not known."""
    found: Required = ANYTHING
    """Of an update: what it was built on."""
    edit: ContentEdit | None = None
    """Of an update without an answer: what it makes of what it finds."""
    base: bytes | None = None
    """Of an update: the version that it was built on, if that is known."""
    is_first: bool = False
    """Whether it is the first stamp of a put, which was stamped again since."""
    is_exception: bool = False
    """Whether it is the first stamp of a put or a delete. That it takes effect, too, is the
    exception of P2."""

    @property
    def is_blind(self) -> bool:
        """Whether it writes, whatever there is."""
        return not self.is_read and self.edit is None and self.found is ANYTHING

    def reads(self) -> Required:
        """What it must find."""
        if self.is_read:
            return self.value
        return self.found if self.edit is None else ANYTHING

    def outcomes(self, content: Content) -> tuple[Content, ...]:
        """What a register may hold after this if it held `content` before; none if it cannot be."""
        if self.is_read:
            return (content,) if fits(self.value, content) else ()
        if self.edit is None:
            assert not isinstance(self.value, Nothing), "nothing is written as None"
            return (self.value,) if fits(self.found, content) else ()
        made = self.edit(content)
        found = () if made == content else (made,)
        # Its coordinator may have taken for nothing what expires.
        other = self.edit(None) if type(content) is tuple else None
        return found if other is None else (*found, other)


def read(
    start: float,
    end: float,
    value: bytes | Nothing | None,
    version: bytes | None = None,
    *,
    expires_ms: int = 0,
) -> RegisterOperation:
    """A read that was answered."""
    content = value if isinstance(value, Nothing) else content_of(value, expires_ms)
    return RegisterOperation(start, end, True, content, version=version)


def write(
    start: float,
    end: float,
    value: bytes | None,
    version: bytes | None = None,
    *,
    expires_ms: int = 0,
    is_moved: bool = False,
) -> list[RegisterOperation]:
    """A write that was answered."""
    content = content_of(value, expires_ms)
    once = RegisterOperation(start, end, False, content, version=version)
    return [once, _first(once)] if is_moved else [once]


def unknown_write(
    start: float, value: bytes | None, *, expires_ms: int = 0
) -> list[RegisterOperation]:
    """A write that may have happened, or may happen yet."""
    content = content_of(value, expires_ms)
    once = RegisterOperation(start, math.inf, False, content, must=False)
    return [once, _first(once)]


def _first(once: RegisterOperation) -> RegisterOperation:
    # Deletes are all alike, so it is not told which of them an update found.
    is_first = once.value is not None
    return once._replace(must=False, version=None, is_first=is_first, is_exception=True)


def update(
    start: float,
    end: float,
    found: Required,
    made: Content,
    version: bytes | None = None,
    *,
    base: bytes | None = None,
) -> RegisterOperation:
    """A read-modify-write that was answered, and wrote."""
    return RegisterOperation(start, end, False, made, version=version, found=found, base=base)


def unknown_update(start: float, edit: ContentEdit) -> RegisterOperation:
    """A read-modify-write that may have happened, or may happen yet."""
    return RegisterOperation(start, math.inf, False, None, must=False, edit=edit)


# --- the order of versions ---------------------------------------------------------------------


def explains(order: list[RegisterOperation], history: list[RegisterOperation]) -> bool:
    """Whether an order explains a history of a key that held nothing. It does if it has every
    operation that must have happened, and none twice; if no operation comes after one that began
    when it was already over; and if each finds what was last written."""
    contents: list[Content] = [None]
    is_first = False
    now = -math.inf
    for op in order:
        now = max(now, op.start)
        if op.end < now or (is_first and not op.is_read and not op.is_blind):
            return False
        contents = [made for each in contents for made in op.outcomes(each)]
        if not contents:
            return False
        if not op.is_read:
            is_first = op.is_first
    used, given = Counter(order), Counter(history)
    return used <= given and all(used[op] == count for op, count in given.items() if op.must)


def by_version(history: list[RegisterOperation]) -> list[RegisterOperation]:
    """The order that the versions tell: each write stands at its version, and those who read it
    directly after it. Optional writes have no version: they stand where what they made was found.
    Those who found nothing, and do not know the version of that, stand where nothing was."""
    guess = _Guess(history)
    for version in sorted(guess.groups):
        guess.go_on(version)
    for op in sorted(guess.loose, key=attrgetter("end", "start")):
        guess.insert(op)
    return guess.order


class _Gap(NamedTuple):
    """A place in an order."""

    at: int
    contents: list[Content]
    """What there may be."""
    first: RegisterOperation | None
    """Whose first stamp that is, if it is one."""
    now: float
    """When the last of those before it began."""
    end: float
    """By when the first of those behind it is over."""


class _Guess:
    """An order that grows, version by version."""

    def __init__(self, history: list[RegisterOperation]) -> None:
        self.order: list[RegisterOperation] = []
        self.groups: dict[bytes, list[RegisterOperation]] = {}
        """By version: who wrote it, and who read it."""
        self.loose: list[RegisterOperation] = []
        self._spare: list[RegisterOperation] = []
        self._founds: dict[bytes, Required] = {}
        """By version: what the update that was built on it found."""
        self._links: dict[bytes, int] = {}
        """By chain: the last link of it that is known."""
        self._content: Content = None
        self._is_first = False
        self._now = -math.inf
        self._last = b""
        """The version up to which all is in order."""
        self._steps = 0
        for op in history:
            if not op.must:
                self._spare.append(op)
            elif op.version is not None:
                self._know(op, op.version)
            elif op.is_read:
                self.loose.append(op)

    def _know(self, op: RegisterOperation, version: bytes) -> None:
        self.groups.setdefault(version, []).append(op)
        chain = chain_of(version)
        self._links[chain] = max(self._links.get(chain, 0), link_of(version))
        if op.base is not None:
            self.groups.setdefault(op.base, [])
            self._founds[op.base] = op.found

    def go_on(self, version: bytes) -> None:
        """Put the operations of the next version."""
        group = sorted(self.groups[version], key=attrgetter("is_read", "start"))
        if not group or not group[0].is_blind:
            wanted = group[0].reads() if group else self._founds[version]
            is_update = bool(group) and not group[0].is_read
            is_base = is_update or self._is_base(version)
            if not fits(wanted, self._content) or (self._is_first and is_base):
                self._take(wanted, version, is_base=is_base)
        for op in group:
            self._put(op, op.value)
        self._last = version

    def _is_base(self, version: bytes) -> bool:
        """Whether an update was built on it."""
        return link_of(version) < self._links.get(chain_of(version), 0)

    def _put(self, op: RegisterOperation, wanted: Required) -> None:
        self.order.append(op)
        self._now = max(self._now, op.start)
        if not op.is_read:
            made = [each for each in op.outcomes(self._content) if fits(wanted, each)]
            # If it does not fit, the order explains nothing; who comes later is put all the same.
            self._content = made[0] if made else self._content
            self._is_first = op.is_first

    def _take(self, wanted: Required, version: bytes, *, is_base: bool) -> None:
        """Put writes of unknown outcome before this version, so many that its reader or update
        finds what it did (`wanted`): a read saw `b`, the order so far ends with `a`, and a put of
        `b` timed out, so that put took effect between them. Nothing if none explain it."""
        is_new = chain_of(self._last) != chain_of(version)
        links = LINKS_MAX if link_of(version) > (0 if is_new else link_of(self._last)) else 0
        self._steps = 0
        path = self._path(self._content, wanted, links, is_new, is_base)
        for op, made in path or ():
            self._spare.remove(op)
            self._put(op, made)

    def _path(
        self, content: Content, wanted: Required, links: int, is_new: bool, is_base: bool
    ) -> list[tuple[RegisterOperation, Content]] | None:
        """Spare operations that lead from one content to another, each with what it makes: a write
        if a version was stamped, and so many updates, or fewer. None if there are none."""
        for op, made in self._steps_from(content, wanted, links, is_new, is_base):
            self._steps += 1
            if fits(wanted, made):
                return [(op, made)]
            left = links - (not op.is_blind)
            if left and self._steps < STEPS_MAX:
                self._spare.remove(op)
                rest = self._path(made, wanted, left, False, is_base)
                self._spare.append(op)
                if rest is not None:
                    return [(op, made), *rest]
        return None

    def _steps_from(
        self, content: Content, wanted: Required, links: int, is_new: bool, is_base: bool
    ) -> list[tuple[RegisterOperation, Content]]:
        """What may be next, the most likely first: who makes what is wanted, or the longest
        beginning of it; of these who can take effect first; of these who ends first; and the first
        stamp of a put before its last. No update is built on a first stamp."""
        now = self._now
        found = [
            (op, made)
            for op in self._spare
            if op.end >= now
            and (is_new if op.is_blind else links)
            and not (op.is_first and (is_base or links))
            for made in op.outcomes(content)
        ]
        return sorted(
            found,
            key=lambda step: (
                not fits(wanted, step[1]),
                -_beginning(step[1], wanted),
                max(step[0].start, now),
                step[0].end,
                not step[0].is_first,
            ),
        )

    # --- who found nothing, and knows no version --------------------------------------------

    def insert(self, op: RegisterOperation) -> None:
        """Put a read where what it found was, if there is such a place in time; else with a spare
        delete before it, where something else is written next."""
        order = self.order
        fallback = None
        for place in self._places():
            if place.now > op.end:
                break
            if op.start > place.end:
                continue
            if any(fits(op.value, each) for each in place.contents):
                order.insert(place.at, op)
                return
            is_end = place.at == len(order) or order[place.at].is_blind
            if fallback is None and is_end and (deleted := self._deleted(op, place)):
                fallback = place.at, deleted
        index, before = fallback or (len(order), [])
        for spare in before:
            self._spare.remove(spare)
        order[index:index] = [*before, op]

    def _places(self) -> Iterator[_Gap]:
        """Where something can be put: before each operation of the order, and behind all."""
        ends = self._later_ends()
        contents: list[Content] = [None]
        first = None
        now = -math.inf
        for index, op in enumerate(self.order):
            yield _Gap(index, contents, first, now, ends[index])
            now = max(now, op.start)
            contents = [made for each in contents for made in op.outcomes(each)] or contents
            if not op.is_read:
                first = op if op.is_first else None
        yield _Gap(len(self.order), contents, first, now, math.inf)

    def _deleted(self, op: RegisterOperation, place: _Gap) -> list[RegisterOperation]:
        """A spare write that makes what a read found. No update finds the first stamp of a put:
        before one comes the last. Nothing if there is none."""
        first = place.first
        for spare in self._spare:
            is_in_time = spare.start <= min(op.end, place.end) and spare.end >= place.now
            made = spare.outcomes(place.contents[0]) if is_in_time else ()
            if any(fits(op.value, each) for each in made):
                if first is None or spare.is_blind:
                    return [spare]
                last = first._replace(is_first=False, is_exception=False)
                if last in self._spare:
                    return [last, spare]
        return []

    def _later_ends(self) -> list[float]:
        """By place: by when the first of those behind it is over."""
        ends = [math.inf]
        for op in reversed(self.order):
            ends.append(min(ends[-1], op.end))
        return ends[::-1]


def _beginning(content: Content, wanted: Required) -> int:
    """How many bytes of what is wanted are there, if it is a content that only has to grow; else
    -1. Who sets an expiry leaves as many there as there were, and so comes after who appends."""
    one, other = value_of(content), value_of(wanted)
    is_beginning = one is not None and other is not None and other.startswith(one)
    return len(one) if is_beginning and one is not None else -1
