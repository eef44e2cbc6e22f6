# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the collector does not know are freed wherever they are, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys

_NESTED = """
from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
for depth in range(1, 200):
    for make in (lambda: GetResult(None, 1), lambda: Record(bytes(14), b"v")):
        value = make()
        for _ in range(depth):
            value = [value]
        del value
print("freed")
"""


def test_a_value_that_is_nested_deep_is_freed_without_touching_what_is_before_it() -> None:
    """CPython puts off freeing such a one, and links those that wait by headers: what has none must
    not wait. The debugging allocator ends a process that wrote where one would be."""
    done = subprocess.run(
        [sys.executable, "-c", _NESTED],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("freed\n", 0), done.stderr
