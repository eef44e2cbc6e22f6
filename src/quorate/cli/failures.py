# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed command says and how it exits: one line, with what to do next."""

from __future__ import annotations

import sys

from quorate.client.calls import Unreachable
from quorate.errors import Outcome, QuorateError

_WRITES = {
    Outcome.NOT_APPLIED: "nothing was written, and trying again is safe",
    Outcome.UNKNOWN: "it may have been written: read the key before trying again",
}


def report(error: QuorateError) -> int:
    """Print `error` on standard error; the exit code that it means."""
    advice = [_WRITES[error.outcome]] if error.outcome else []
    if isinstance(error, Unreachable):
        advice.append("check --target or --nodes, or start a node with: quorate serve")
    print("; ".join([f"quorate: {error}", *advice]), file=sys.stderr)
    return 2 if isinstance(error, Unreachable) else 3
