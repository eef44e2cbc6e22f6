# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and JSON: rich on a terminal, tab-separated lines when piped, so that `cut` can read."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence


def json_text(raw: bytes) -> object:
    """Bytes as JSON text, or as `{"base64": ...}` where they are no UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


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

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
