# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured on, and which versions of what."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.peers import debian, postgres

_LIBRARIES: Final = ("uvloop", "httptools", "rocksdict", "msgspec", "aiohttp")
_ASK: Final = "from importlib.metadata import version; print(version({name!r}))"
_ROOT: Final = Path(__file__).parents[1]


def facts(python: str, directory: Path) -> dict[str, str]:
    """What to know about this run, by name, in the order to show it. Ends with the versions."""
    memory_kb = re.search(r"MemTotal: *([0-9]+)", Path("/proc/meminfo").read_text())
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{int(memory_kb[1]) / 1e6:.0f} GB" if memory_kb else "",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _said("stat", "--file-system", "--format=%T", str(directory)),
        "Python": _said(python, "-m", "quorate.bench.interpreter"),
        "Quorate": _said(python, "-m", "quorate", "version").removeprefix("quorate "),
    }
    for name in _LIBRARIES:
        found[name] = _said(python, "-c", _ASK.format(name=name))
    for name, package in (("Redis", "redis-server"), ("etcd", "etcd-server")):
        found[name] = debian.version(package)
    if debian.version("postgresql"):  # A package without a version of its own to speak of.
        said = _said(postgres.binary("postgres"), "--version")
        found["PostgreSQL"] = said.removeprefix("postgres (PostgreSQL) ")
    return {name: value for name, value in found.items() if value}


def _commit() -> str:
    commit = _said("git", "-C", str(_ROOT), "rev-parse", "--short=12", "HEAD")
    changed = _said("git", "-C", str(_ROOT), "status", "--porcelain", "--", "src")
    return f"{commit} and uncommitted changes" if changed else commit


def _processor() -> str:
    found = re.search(r"model name\s*: *(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _said(*command: str) -> str:
    """What a program printed; empty if there is none, or it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
