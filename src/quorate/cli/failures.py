# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed command says and how it exits: one line, with what to do next; JSON if asked for.

The line goes to standard error, the JSON to standard output. `quorate get` imports this, and json
only where it is printed.
"""

from __future__ import annotations

import sys

from quorate.client.calls import Unreachable
from quorate.errors import Fact, Outcome, QuorateError


def report(error: QuorateError, *, is_json: bool) -> int:
    """Tell of `error`; the exit code that it means."""
    if is_json:
        _print_json(
            error.code,
            error.detail,
            outcome=error.outcome.value if error.outcome else None,
            retryable=error.retryable,
            facts=error.facts,
        )
    advice = [_fate(error)] if error.outcome else []
    if isinstance(error, Unreachable):
        advice.append("check --target or --nodes, or start a node with: quorate serve")
    print("; ".join([f"quorate: {error}", *advice]), file=sys.stderr)
    return 2 if isinstance(error, Unreachable) else 3


def complain(text: str, *, code: str, is_json: bool, exit_code: int = 2) -> int:
    """Report a failure that is not the cluster's, such as wrong usage; returns `exit_code`.

    Each line of `text` is a fault of its own; an indented one goes on with the line above it.
    """
    if is_json:
        _print_json(code, text, outcome=None, retryable=False, facts={})
    for line in text.split("\n"):
        print(line if line.startswith(" ") else f"quorate: {line}", file=sys.stderr)
    return exit_code


def _fate(error: QuorateError) -> str:
    """What became of a write."""
    if error.outcome is Outcome.UNKNOWN:
        return "it may have been written: read the key before trying again"
    return "nothing was written" + (", and trying again is safe" if error.retryable else "")


def _print_json(
    code: str, detail: str, *, outcome: str | None, retryable: bool, facts: dict[str, Fact]
) -> None:
    from quorate.cli.output import print_json

    said = {"code": code, "detail": detail, "outcome": outcome, "retryable": retryable}
    print_json({"error": {**facts, **said}})
