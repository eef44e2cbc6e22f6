# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the blocking client from the other one, so that both do the same: in src/quorate/client
blocking.py from asynchronous.py, and leases.py from async_leases.py.

Drops `async` and `await` and puts other names for some. Strings and comments stay as they are, but
for the docstrings of the modules. `scripts/setup` and every build of the package run this
(`hatch_build.py`), so what it writes is not kept in git.
"""

from __future__ import annotations

import io
import tokenize
from itertools import pairwise
from pathlib import Path
from typing import Final

CLIENT: Final = Path(__file__).parents[1] / "src" / "quorate" / "client"
MADE: Final = {"blocking.py": "asynchronous.py", "leases.py": "async_leases.py"}
"""What is written, and of what."""
DROPPED: Final = frozenset({"async", "await"})
NAMES: Final = {
    "AsyncBackground": "Background",
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "AsyncLease": "Lease",
    "AsyncLeaseStore": "LeaseStore",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "async_background": "blocking_background",
    "async_leases": "leases",
    "async_sockets": "blocking_sockets",
    "asyncio": "threading",
}
DOCSTRINGS: Final = {
    "blocking.py": '''
"""The client for ordinary code: safe to share between threads, and to use after a fork.

Generated from asynchronous.py: change that, and run `scripts/setup`.

Each call takes an idle connection or opens one, and gives it back only when the whole answer was
read, so an answer can never reach another call. After a fork the child forgets its parent's
connections: two processes must not read from one.
"""
''',
    "leases.py": '''
"""Leases for ordinary code: locks that are free again by themselves where their holder is gone.

Generated from async_leases.py, which tells how they work: change that, and run `scripts/setup`.
"""
''',
}


def blocking(source: str, docstring: str) -> str:
    """What `source` says for the blocking client, under another docstring."""
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    first = next(token for token in tokens if token.type == tokenize.STRING)
    text, done = "", (1, 0)
    for token, after in pairwise(tokens):
        if token is first:
            new, end = docstring.strip(), token.end
        elif token.type == tokenize.NAME and token.string in DROPPED:
            new, end = "", after.start
        elif token.type == tokenize.NAME and token.string in NAMES:
            new, end = NAMES[token.string], token.end
        else:
            continue
        text += _between(lines, done, token.start) + new
        done = end
    return text + _between(lines, done, tokens[-1].start)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one (line, column) to another, as tokens count them."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    last = lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else ""
    return lines[start[0] - 1][start[1] :] + "".join(lines[start[0] : end[0] - 1]) + last


def made(name: str) -> str:
    """The text of a file that is written."""
    return blocking((CLIENT / MADE[name]).read_text(encoding="utf-8"), DOCSTRINGS[name])


if __name__ == "__main__":
    for each in MADE:
        path, text = CLIENT / each, made(each)
        # As it is, it stays: somebody may be importing it.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
