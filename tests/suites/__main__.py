# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests that libraries publish, against three real nodes: ./scripts/suites [NAME...]

And, as `protocol`, those of Redis' own protocol, against a node that speaks TLS alone; as `tls`,
what testssl.sh finds at the port of one. Sources come from PyPI and go to `build/suites`, with an
environment of their own. In them the port is changed, nothing else. Printed is how many cases of
each suite pass and fail. The exit code is 1 if others fail than docs/frameworks.md says, by their
number, or something weak is found.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.cluster.processes import Cluster
from tests.suites import protocol, tls

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parents[1] / "build" / "suites"
TOOLS: Final = """
aiomcache asgiref hiro marshmallow mock numpy packaging pybreaker PyJWT pymemcache pymongo pytest
pytest-asyncio pytest-lazy-fixtures pytest-mock pytest-timeout pytest-xprocess sqlparse tblib ujson
valkey
"""
"""What the suites import, besides what they test."""
PYTEST: Final = """
-m pytest -q --tb=line --timeout=60 -p chosen -W ignore -o addopts= -o filterwarnings=
-o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function
"""
DOWNLOAD: Final = "-m pip download --quiet --no-deps --no-binary :all: --dest"
SETTINGS: Final = """
DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
SECRET_KEY = "suite"
USE_TZ = False
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://localhost:PORT",
    }
}
"""


class Suite(NamedTuple):
    """Some tests of a library."""

    source: str
    """What PyPI calls it."""
    words: str
    """What Python is told to run them, PORT for the node's."""
    failing: int
    """So many fail: what they ask for there is not, as docs/frameworks.md says."""
    port: str = ""
    """The port that stands in its files."""
    directory: str = "."
    """Where it is run."""


REDIS: Final = "redis==8.1.0"
URL: Final = "--redis-url=redis://localhost:PORT/0"
SUITES: Final = {
    "django": Suite(
        "Django==5.2.19",
        "-W ignore runtests.py --settings=suite_settings --parallel=1 cache.tests.RedisCacheTests",
        0,
        directory="tests",
    ),
    "cachelib": Suite("cachelib==0.17.0", "tests/test_redis_cache.py", 0, port="6360"),
    "aiocache": Suite("aiocache==0.12.3", "-m redis tests/acceptance", 19, port="6379"),
    "commands": Suite(REDIS, f"{URL} -m 'not onlycluster' tests/test_commands.py", 5),
    "pipelines": Suite(REDIS, f"{URL} -m 'not onlycluster' tests/test_pipeline.py", 8),
    "locks": Suite(REDIS, f"{URL} tests/test_lock.py", 26),
    "limits": Suite(
        "limits==5.8.0",
        "-m redis tests/test_storage.py tests/test_strategy.py tests/storage/test_redis.py",
        25,
        port="7379",
    ),
}


def main(names: list[str]) -> int:
    """Run these suites, or all."""
    wrong = 0
    for name, own in (("protocol", protocol), ("tls", tls)):
        if not names or name in names:
            wrong += not own.run(BUILD)
    libraries = [name for name in names or SUITES if name not in ("protocol", "tls")]
    if libraries:
        wrong += against_three(libraries)
    return 1 if wrong else 0


def against_three(names: list[str]) -> int:
    """How many of these suites of libraries have others fail than should."""
    python, wrong = environment(), 0
    with tempfile.TemporaryDirectory() as directory:
        flags = ("-durability=os", "-allow-flush")
        with Cluster(Path(directory), *flags) as cluster:
            for name in names:
                wrong += not run(name, SUITES[name], python, str(cluster.nodes[0].port))
    return wrong


def environment() -> Path:
    """The Python that has what suites import."""
    python = BUILD / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", BUILD / "venv"], check=True)
    sources = sorted({suite.source for suite in SUITES.values()})
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *shlex.split(TOOLS), *sources], check=True
    )
    return python


def run(name: str, suite: Suite, python: Path, port: str) -> bool:
    """Whether so many cases fail as should."""
    where = unpacked(name, suite, python, port) / suite.directory
    words = shlex.split(suite.words)
    if name == "django":
        (where / "suite_settings.py").write_text(SETTINGS.replace("PORT", port))
    else:
        words = [*shlex.split(PYTEST), *words]
    done = subprocess.run(
        [python, *(each.replace("PORT", port) for each in words)],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(HERE), "CI": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    (BUILD / f"{name}.log").write_text(done.stdout + done.stderr)
    counts = counted(done.stdout + done.stderr)
    print(f"{name}: {suite.source}: {counts or 'did not run'}", flush=True)
    return bool(counts) and counts.get("failed", 0) + counts.get("errors", 0) == suite.failing


def unpacked(name: str, suite: Suite, python: Path, port: str) -> Path:
    """The directory of a suite's sources, laid anew."""
    archives, target = BUILD / "archives", BUILD / name
    subprocess.run([python, *shlex.split(DOWNLOAD), archives, suite.source], check=True)
    file = suite.source.replace("==", "-").lower()
    protocol.unpack(archives / f"{file}.tar.gz", target)
    for path in (target / file).rglob("*.py"):
        text = path.read_text("utf-8")
        changed = text.replace(suite.port, port) if suite.port else text
        # A node says that it is one of a cluster: the clients of these tests are not to care.
        changed = changed.replace('info["cluster_enabled"]', "False")
        if changed != text:
            path.write_text(changed, "utf-8")
    return target / file


def counted(output: str) -> dict[str, int]:
    """How many cases passed, failed and so on; empty if none was run."""
    ran = re.search(r"^Ran (\d+) tests", output, re.MULTILINE)
    if ran is None:
        last = output.strip().splitlines()[-1] if output.strip() else ""
        return {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", last)}
    counts = {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", output[ran.end() :])}
    counts["failed"] = counts.pop("failures", 0)
    return {"passed": int(ran[1]) - sum(counts.values()), **counts}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
