# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person who gets the project is promised: one build command, one check, a licence."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_one_command_builds_a_wheel_that_says_what_it_needs(tmp_path: Path) -> None:
    """As `scripts/build` does, not compiled: that is what `scripts/compiled` takes. From a source
    archive, which holds what git does: the blocking client is made while the wheel is built."""
    pack = [sys.executable, "-m", "hatchling", "build", "--target", "sdist"]
    subprocess.run(
        [*pack, "--directory", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=60
    )
    (sources,) = tmp_path.glob("quorate-*.tar.gz")
    with tarfile.open(sources) as packed:
        assert not any(name.endswith("client/blocking.py") for name in packed.getnames())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    build += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(sources)]
    subprocess.run(
        build,
        check=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "QUORATE_COMPILE": "0"},
    )
    (wheel,) = tmp_path.glob("quorate-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        told = archive.read(metadata).decode()
    assert {"quorate/app.py", "quorate/core/node.py", "quorate/py.typed"} <= names
    assert {"quorate/client/blocking.py", "quorate/client/leases.py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "Requires-Python: >=3.11" in told
    assert "License-Expression: GPL-3.0-or-later" in told


def test_ci_runs_what_a_developer_runs_and_that_is_every_check() -> None:
    assert "exec scripts/test" in (ROOT / ".ci" / "run").read_text()
    checks = (ROOT / "scripts" / "test").read_text()
    for check in ("ruff format --check", "ruff check", "mypy", "pytest", "scripts/compiled"):
        assert check in checks
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    for python in ("3.11", "3.12", "3.13"):
        assert f'"{python}"' in workflow
    assert "tests/cluster" in workflow


def test_the_development_tools_are_pinned_where_their_verdict_changes() -> None:
    """A new release of the formatter or linter must not turn an old commit red."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = project["project"]["optional-dependencies"]["dev"]
    assert any(tool.startswith("ruff==") for tool in tools)
