# SPDX-License-Identifier: GPL-3.0-or-later
"""This release and a made-up next one as wheels, each unpacked where PYTHONPATH finds it.

A pure wheel is a zip of the package: to unpack it is to install it, and dependencies are those of
the Python that runs the tests. The next release speaks one protocol more, knows one feature level
more, adds fields to what nodes say, and one to the layout, which is used from its level on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEXT_VERSION = "99.0.0"
BUILT_OF = ("src", "scripts", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
_IGNORED = shutil.ignore_patterns("__pycache__")


def _raise(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) + 1}"


_MESSAGES = "core/values/messages.py"
_EDITS: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...] = (
    ("__init__.py", r'__version__ = ".+"', f'__version__ = "{NEXT_VERSION}"'),
    (_MESSAGES, r"(PROTOCOL_MAX: Final = )(\d+)", _raise),
    (_MESSAGES, r"(FEATURE_LEVEL: Final = )(\d+)", _raise),
    (_MESSAGES, r'("""I heard your ping."""\n\n    batch: int\n)', r'\1    mood: str = "well"\n'),
    (_MESSAGES, r"(    expect: int = 0\n)", r'\1    mood: str = "well"\n'),
    ("core/topology/layout.py", r"(    spent: Spent = \(\)\n)", r'\1    motto: str = ""\n'),
    ("core/topology/steps.py", r"(moves=\(\), level=level)\)", r'\1, motto="onwards")'),
)
"""File, pattern, and what the one match becomes."""


def install(directory: Path, *, is_next: bool) -> Path:
    """Where a release's package is, built as a wheel from this tree."""
    tree, site = directory / "tree", directory / "site"
    tree.mkdir(parents=True)
    for name in BUILT_OF:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=_IGNORED)
        else:
            shutil.copy(source, tree / name)
    for name, pattern, replacement in _EDITS if is_next else ():
        path = tree / "src" / "quorate" / name
        text, count = re.subn(pattern, replacement, path.read_text("utf-8"))
        assert count == 1, f"{name} has {count} of {pattern}"
        path.write_text(text, "utf-8")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=tree,
        env={**os.environ, "QUORATE_COMPILE": "0"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = directory.glob("quorate-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return site
