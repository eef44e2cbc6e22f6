# SPDX-License-Identifier: GPL-3.0-or-later
"""The `quorate` command. Exit codes: 0 done; 1 no such key; 2 wrong usage or settings, or no node
could be reached, or the output cannot be written; 3 the cluster refused; 130 interrupted; 141
whoever read the output went, as `head` does.

get, put, delete and incr are run from here, past `front`: what it imports alone takes longer than
asking the cluster.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from quorate.cli.arguments import CommandLine, UsageError, read
from quorate.cli.commands import BY_NAME
from quorate.cli.output import complain, report
from quorate.errors import QuorateError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    line = read(list(sys.argv[1:] if arguments is None else arguments))
    if not _has_output() and (line.command not in ("", "serve") or line.has("help")):
        return complain("cannot write the output: it is closed", code="output", is_json=False)
    try:
        code = _reported(line)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough: no fault, and to a shell the same as if SIGPIPE had ended
        # us. Not 1: that is "no such key".
        _drop_output()
        return 141
    except OSError as fault:
        if line.command in ("", "serve") and not line.has("help"):
            raise  # A node's own failure: its trace is wanted.
        _drop_output()
        what = fault.filename or "cannot write the output"
        print(f"quorate: {what}: {fault.strerror}", file=sys.stderr)
        return 2
    return code


def _has_output() -> bool:
    """Whether standard output is open. What is closed of the three (as by `>&-`) leads nowhere from
    here on: else a file or socket of ours gets its number, and what is written to it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if sys.stdout is not None:
        return True
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    return False


def _reported(line: CommandLine) -> int:
    """Run `line`, and say what went wrong if something did."""
    is_json = ("json", None) in line.flags
    try:
        return _run(line)
    except UsageError as fault:
        return complain(str(fault), code="usage", is_json=is_json)
    except QuorateError as error:
        return report(error, is_json=is_json)


def _run(line: CommandLine) -> int:
    command = BY_NAME.get(line.command)
    if command is not None and command.module == "data" and not line.has("help"):
        from quorate.cli import data

        code: int = getattr(data, f"run_{command.name}")(line.given(command))
        return code
    from quorate.cli import front

    return front.run(line)


def _drop_output() -> None:
    """Send to nowhere what is still buffered: at its end the interpreter would fail to write it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
