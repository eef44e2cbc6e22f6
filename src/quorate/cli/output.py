# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and JSON: rich on a terminal, tab-separated lines when piped, so that `cut` can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Final

_COLUMNS_MAX: Final = 10_000


def print_json(value: object) -> None:
    """One JSON document on one line."""
    print(json.dumps(value), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table with a header line."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
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


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one on a line."""
    width = max(map(len, facts)) if sys.stdout.isatty() else 0
    for name, value in facts.items():
        print(f"{name:{width}}  {value}" if width else f"{name}\t{value}")
