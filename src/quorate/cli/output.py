# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command says: tables, JSON, and one line where it failed, with what to do next.

Tables are rich on a terminal and tab-separated lines when piped, so that `cut` can read them. A
failure's line goes to standard error, its JSON, if asked for, to standard output. `quorate get`
imports this, and json only where it is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from quorate.client.calls import TlsFailed, Unreachable
from quorate.errors import Fact, Outcome, QuorateError, Unauthenticated
from quorate.notation import show_text

LOGIN_ADVICE: Final = (
    "who asks is said by --secret-file (of nodes that are named without http://), by --user and "
    "--password-file, or by --token-file"
)
"""For who has to show who it is."""
_COLUMNS_MAX: Final = 10_000


def print_json(value: object) -> None:
    """One JSON document on one line."""
    import json

    print(json.dumps(value), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table with a header line."""
    texts = [["-" if cell is None else _escaped(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *texts]:
            print("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    # As wide as its cells, so that none is cut: what is too wide the terminal itself breaks.
    width = Console(width=_COLUMNS_MAX).measure(table).maximum
    Console(width=width).print(table)


def _escaped(text: str) -> str:
    """A cell that no terminal obeys and no other cell is taken for; it may have several lines."""
    return "\n".join(map(show_text, text.split("\n"))) if sys.stdout.isatty() else show_text(text)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one on a line."""
    width = max(map(len, facts)) if sys.stdout.isatty() else 0
    for name, value in facts.items():
        shown = show_text(str(value))
        print(f"{name:{width}}  {shown}" if width else f"{name}\t{shown}")


def report(error: QuorateError, *, is_json: bool) -> int:
    """Tell of `error`; the exit code that it means."""
    if is_json:
        _print_error(
            error.code,
            error.detail,
            outcome=error.outcome.value if error.outcome else None,
            retryable=error.retryable,
            facts=error.facts,
        )
    advice = [_fate(error)] if error.outcome else []
    if isinstance(error, Unauthenticated):
        advice.append(LOGIN_ADVICE)
    if isinstance(error, Unreachable) and not isinstance(error, TlsFailed):
        advice.append("check --target or --nodes, or start a node with: quorate serve")
    print("; ".join([f"quorate: {show_text(str(error))}", *advice]), file=sys.stderr)
    return 2 if isinstance(error, Unreachable) else 3


def complain(text: str, *, code: str, is_json: bool, exit_code: int = 2) -> int:
    """Report a failure that is not the cluster's, such as wrong usage; returns `exit_code`.

    Each line of `text` is a fault of its own; an indented one goes on with the line above it.
    """
    if is_json:
        _print_error(code, text, outcome=None, retryable=False, facts={})
    for line in text.split("\n"):
        print(line if line.startswith(" ") else f"quorate: {line}", file=sys.stderr)
    return exit_code


def _fate(error: QuorateError) -> str:
    """What became of a write."""
    if error.outcome is Outcome.UNKNOWN:
        return "it may have been written: read the key before trying again"
    return "nothing was written" + (", and trying again is safe" if error.retryable else "")


def _print_error(
    code: str, detail: str, *, outcome: str | None, retryable: bool, facts: dict[str, Fact]
) -> None:
    said = {"code": code, "detail": detail, "outcome": outcome, "retryable": retryable}
    print_json({"error": {**facts, **said}})
