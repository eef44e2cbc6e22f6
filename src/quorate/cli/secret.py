# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate secret: what makes some nodes one cluster, as text."""

from __future__ import annotations

from pathlib import Path

from quorate.cli.arguments import Given, UsageError
from quorate.cli.output import print_json
from quorate.security.secret import new_secret, show_secret, write_secret


def run_secret(given: Given) -> int:
    """Make a secret: printed, or written to a new file that only its owner can read."""
    if given["act"] != "new":
        raise UsageError(f"secret: {given['act']!r} is nothing to do with it: quorate secret new")
    secret = new_secret()
    if "file" not in given:
        text = show_secret(secret)
        print_json({"secret": text}) if "json" in given else print(text)
        return 0
    path = Path(given["file"])
    try:
        write_secret(path, secret)
    except FileExistsError:
        raise UsageError(
            f"secret: {path} is there already, and is left as it is: name another file"
        ) from None
    except OSError as error:
        raise UsageError(f"secret: {path} cannot be written: {error.strerror}") from None
    if "json" in given:
        print_json({"file": str(path)})
    return 0
