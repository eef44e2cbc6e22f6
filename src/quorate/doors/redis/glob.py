# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis's glob patterns as regular expressions that cannot be made to backtrack.

After each `*` the shortest stretch up to the next match of the following part is taken for good: if
any way of matching exists, so does that one, except for the last part, which must end the key. So
a pattern costs at most its length times the key's, whatever stars it has.
"""

from __future__ import annotations

import re
from typing import Final

PATTERN_BYTES_MAX: Final = 1024
NAME_PATTERN_BYTES_MAX: Final = 64
"""Of patterns for names of ours, which are short."""

_TOKEN: Final = re.compile(
    rb"(?P<star>\*+)|(?P<any>\?)|\[(?P<not>\^?)(?P<set>(?>(?:\\.|[^\]]-.|[^\]])*))\]?|\\?(?P<byte>.)",
    re.DOTALL,
)
# As Redis reads a set: `\\x` is x and begins no range; a range may end with any byte, `]` too; a
# backslash with nothing behind it is itself.
_MEMBER: Final = re.compile(rb"\\(.)|(.)-(.)|(.)", re.DOTALL)
_LITERAL: Final = re.compile(rb"(?>(?:\\.|[^*?\[\\])*)", re.DOTALL)


def literal_prefix(pattern: bytes) -> bytes:
    """What every key that matches begins with."""
    found = _LITERAL.match(pattern)
    return re.sub(rb"\\(.)", rb"\1", found[0], flags=re.DOTALL) if found is not None else b""


def is_prefix_alone(pattern: bytes) -> bool:
    """Whether every key matches that begins with its `literal_prefix`."""
    found = _LITERAL.match(pattern)
    return found is not None and pattern[found.end() :].strip(b"*") == b"" and found[0] != pattern


def compile_glob(pattern: bytes) -> re.Pattern[bytes]:
    """What a key must `fullmatch`; the pattern knows `*`, `?`, `[a-z]`, `[^a]` and `\\x`."""
    parts = [b""]
    for token in _TOKEN.finditer(pattern):
        if token["star"] is not None:
            parts.append(b"")
        elif token["any"] is not None:
            parts[-1] += b"."
        elif token["set"] is not None:
            parts[-1] += _set(token["set"], negated=bool(token["not"]))
        else:
            parts[-1] += re.escape(token["byte"])
    if len(parts) == 1:
        return re.compile(parts[0], re.DOTALL)
    first, *middle, last = parts
    stars = b"".join(b"(?>.*?%b)" % part for part in middle if part)
    return re.compile(first + stars + b".*" + last, re.DOTALL)


def steps_per_byte(pattern: bytes) -> int:
    """How many steps a match takes at most for each byte of a key: the members of the longest part
    behind a star, as each byte may be tried as its beginning."""
    longest = length = 0
    has_star = False
    for token in _TOKEN.finditer(pattern):
        if token["star"] is not None:
            has_star, length = True, 0
        elif has_star:
            length += 1
            longest = max(longest, length)
    return longest + 1


def _set(body: bytes, *, negated: bool) -> bytes:
    """A character class; the bytes are spelled out so that nothing in them is special."""
    members: set[int] = set()
    for found in _MEMBER.finditer(body):
        low, high = sorted((found[2] or found[1] or found[4], found[3] or found[1] or found[4]))
        members.update(range(low[0], high[0] + 1))
    if negated:
        members = set(range(256)) - members
    runs: list[list[int]] = []
    for member in sorted(members):
        if runs and runs[-1][1] == member - 1:
            runs[-1][1] = member
        else:
            runs.append([member, member])
    # An empty class matches nothing, which `[]` cannot say in a regular expression.
    return b"[%b]" % b"".join(b"\\x%02x-\\x%02x" % (*run,) for run in runs) if runs else b"(?!)"
