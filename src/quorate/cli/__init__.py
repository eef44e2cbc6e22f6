# SPDX-License-Identifier: GPL-3.0-or-later
"""The `quorate` command. Exit codes: 0 done; 1 no such key; 2 wrong usage or settings, or no node
could be reached; 3 the cluster refused; 130 interrupted.

get, put and delete are recognised here without click, whose import alone takes longer than asking
the cluster; whatever is not their plain form, help and mistakes included, goes to click (`front`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from quorate.cli.arguments import Line, UsageError, read
from quorate.cli.commands import BY_NAME

_QUICK: Final = frozenset({"put", "get", "delete"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        line = read(list(sys.argv[1:] if arguments is None else arguments))
        code = _run(line)
        sys.stdout.flush()
    except UsageError as fault:
        print(f"quorate: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough; keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(line: Line) -> int:
    command = BY_NAME.get(line.command)
    if command is not None and command.name in _QUICK:
        given = line.given(command)
        if given is not None:
            from quorate.cli import data

            return data.run(command.name, given)
    from quorate.cli import front

    return front.run(line)
