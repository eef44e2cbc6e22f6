# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the blocking client, and compiles the modules that are called most with mypyc.

`scripts/blocking_client.py` makes the client of the other one, for editable installs too.
The Python sources stay in the wheel and mean the same: without a C compiler, or with
QUORATE_COMPILE=0, the wheel is made without the compiled ones, and one line says so.
QUORATE_COMPILE=1 makes that an error. `quorate version` tells which of the two runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED: Final = (
    *(
        f"core/{name}.py"
        for name in (
            *("digests", "horizons", "kept_votes", "local", "moved_votes", "node"),
            *("replaced", "replica", "serving", "turn", "votes", "voting"),
            *("exchanges/agreement", "exchanges/anti_entropy", "exchanges/collection"),
            *("exchanges/attempt", "exchanges/bases", "exchanges/counting", "exchanges/explains"),
            *(
                "consensus",
                "exchanges/changes",
                "exchanges/hints",
                "exchanges/look",
                "exchanges/outbox",
                "exchanges/pulls",
            ),
            *("exchanges/reads", "exchanges/repairs", "exchanges/rounds", "exchanges/scans"),
            *(
                "exchanges/sources",
                "exchanges/spreads",
                "exchanges/successions",
                "exchanges/surplus",
            ),
            *("exchanges/updates", "exchanges/vote_pulls", "exchanges/write", "exchanges/writes"),
            *(
                "topology/facts",
                "topology/liveness",
                "topology/marks",
                "topology/membership",
                "topology/peer",
                "topology/planner",
            ),
            "topology/roster",
            "topology/topology",
            *("values/frequent", "values/record", "values/slots", "values/versions"),
        )
    ),
    *(
        f"host/{name}.py"
        for name in ("acceptor", "backoff", "driver", "journal", "links", "storing")
    ),
    *(
        f"sim/{name}.py"
        for name in (
            *("clock", "cluster", "dial", "disk", "machine", "network", "sometimes"),
            *("trace", "workload", "world"),
        )
    ),
    *(
        f"sim/checkers/{name}.py"
        for name in (
            *("answering", "bounds", "convergence", "deletes", "digests", "dropping"),
            "durability",
            *("expiry", "freshness", "granting", "guard", "handoff", "honesty", "invention"),
            *("linearizability", "liveness", "placement", "refusals", "stamps", "survival"),
            *("telling", "updates", "voting", "watch"),
        )
    ),
    *("doors/access.py", "doors/answered.py", "doors/flow.py"),
    *(f"doors/http/{name}.py" for name in ("fast", "heads", "hosts", "kv", "lane", "replies")),
    *(
        f"doors/redis/{name}.py"
        for name in (
            *("clients", "cluster", "command", "connection", "gather", "kept", "keys", "lcs"),
            *("login", "moving", "one_key", "plans", "scan", "session", "strings"),
            *("transactions", "work"),
        )
    ),
    "storage/cached.py",
    *(f"wire/{name}.py" for name in ("frame_rules", "frames", "resp")),
)
"""Those on a request's way, in the store and in its simulator. Modules of value types stay out:
mypyc cannot compile msgspec Structs. A compiled class has neither a base nor subclasses in Python,
so the Redis door's commands of many keys, which wait as GET and SET do, are in."""


class CompileHook(BuildHookInterface[Any]):
    """Called by hatchling for each wheel and editable install; the latter stay plain Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add what is not in git: the blocking client, and what was compiled. With the latter a
        wheel is of one Python and one platform."""
        subprocess.run([sys.executable, "scripts/blocking_client.py"], cwd=self.root, check=True)
        for made in ("blocking.py", "leases.py"):
            build_data["artifacts"].append(f"src/quorate/client/{made}")
        wanted = os.environ.get("QUORATE_COMPILE", "")
        if version == "editable" or wanted == "0":
            return
        self._directory = tempfile.TemporaryDirectory(prefix="quorate-build-")
        target = Path(self._directory.name)
        done = subprocess.run(
            [sys.executable, __file__, self.root, str(target)], capture_output=True, text=True
        )
        if done.returncode:
            self._say_why(done.stdout + done.stderr, is_error=wanted == "1")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for path in sorted((target / "lib").rglob(f"*{suffix}")):
            build_data["force_include"][str(path)] = str(path.relative_to(target / "lib"))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built on the way."""
        del version, build_data, artifact_path
        if hasattr(self, "_directory"):
            self._directory.cleanup()

    def _say_why(self, output: str, *, is_error: bool) -> None:
        reason = " ".join(output.strip().splitlines()[-1:]) or "no output"
        text = f"quorate is not compiled, and runs as plain Python: {reason}"
        if is_error:
            raise RuntimeError(f"{output}\n{text}")
        self.app.display_warning(text)


def compile_into(root: Path, target: Path) -> None:
    """Leave the compiled modules in `target`/lib. SystemExit or an exception if it cannot be."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    os.chdir(root)
    extensions = mypycify(
        [
            *("--config-file", "pyproject.toml"),
            # What another environment found out about our dependencies is not true in this one.
            *("--cache-dir", os.devnull),
            *(f"src/quorate/{name}" for name in COMPILED),
        ],
        opt_level="2",
        multi_file=True,
        target_dir=str(target / "c"),
        group_name="quorate",
    )
    for made in (target / "c").rglob("*.c"):
        made.write_text(_without_trashcan(made.read_text()))
    command = Distribution({"name": "quorate", "ext_modules": extensions}).get_command_obj(
        "build_ext"
    )
    command.build_lib, command.build_temp = str(target / "lib"), str(target / "o")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    _compile_at_once(command)
    command.run()


def _without_trashcan(source: str) -> str:
    """C of mypyc's in which what the collector does not know is freed at once.

    CPython puts off freeing what is nested more than fifty deep, and links what waits by the header
    that the collector's objects have before them. mypyc 2.4 has classes that are `acyclic`, which
    have none, do so too: it overwrites whatever is before them in memory.
    """
    lines: list[str] = []
    is_tracked = False
    for line in source.splitlines(keepends=True):
        if line.endswith(" *self)\n"):
            is_tracked = False
        is_tracked |= "PyObject_GC_UnTrack(self);" in line
        if is_tracked or not line.lstrip().startswith("CPy_TRASHCAN_"):
            lines.append(line)
    return "".join(lines)


def _compile_at_once(command: Any) -> None:
    """Have `build_ext` compile as many files at a time as there are processors. By itself it takes
    as many extensions, and nearly all of ours is in the files of one."""
    build = command.build_extensions

    def build_extensions() -> None:
        compile_in_turn = command.compiler.compile
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def compile_all(sources: list[str], **how: Any) -> list[str]:
                # The largest last would have one processor wait for the other.
                ordered = sorted(sources, key=os.path.getsize, reverse=True)
                made = pool.map(lambda source: compile_in_turn([source], **how), ordered)
                return [each for objects in made for each in objects]

            command.compiler.compile = compile_all
            build()

    command.build_extensions = build_extensions


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]), Path(sys.argv[2]))
