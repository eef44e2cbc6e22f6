# SPDX-License-Identifier: GPL-3.0-or-later
"""Running one node, and saying which version this is."""

from __future__ import annotations

import os
from importlib.util import find_spec

from quorate import __version__
from quorate.cli.arguments import Given
from quorate.cli.output import print_json
from quorate.loading import SECRET_VARIABLE, file_of, ignored, load


def run_serve(given: Given) -> int:
    """Run a node until it is told to stop. ConfigError before anything is started."""
    flags = dict(given)
    if flags.pop("json", None) is not None:
        flags["log-format"] = "json"  # What a node prints is its log.
    config = load(
        flags=flags,
        environment=os.environ,
        file=file_of(flags=flags, environment=os.environ),
    )
    from quorate.app import run  # Late: the settings' faults need none of the server's packages.

    return run(config, ignored(os.environ), secret=os.environ.get(SECRET_VARIABLE, ""))


def run_version(given: Given) -> int:
    """Print the version, and whether its hot modules are compiled (`hatch_build.py`)."""
    node = find_spec("quorate.core.node")
    is_compiled = node is not None and not (node.origin or "").endswith(".py")
    if "json" in given:
        print_json({"version": __version__, "compiled": is_compiled})
    else:
        print(f"quorate {__version__} ({'compiled' if is_compiled else 'plain Python'})")
    return 0
