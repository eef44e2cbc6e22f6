# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where the project is published: by its schema, for what an attacker could use, and for
which Pythons and platforms it builds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")


def run(*command: str) -> str:
    """What a program of this environment prints; AssertionError with it if it fails."""
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_workflows_are_what_their_schema_says() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))


def test_workflows_give_an_attacker_nothing_to_use() -> None:
    run("zizmor", "--offline", "--no-progress", ".github")


def test_the_checks_run_on_each_python_that_is_promised() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert tuple(jobs["check"]["strategy"]["matrix"]["python"]) == PYTHONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = [each.rpartition(" ")[2] for each in project["classifiers"] if ":: 3." in each]
    assert tuple(told) == PYTHONS


def test_what_needs_root_is_not_skipped_where_all_is_run() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    lines = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    (line,) = [each for each in lines if each.endswith(".ci/run")]
    assert line.startswith('sudo --preserve-env env "PATH=$PATH" ')


@pytest.mark.parametrize(
    ("platform", "archs", "tags"),
    [
        ("linux", "x86_64", ("manylinux_x86_64", "musllinux_x86_64")),
        ("linux", "aarch64", ("manylinux_aarch64", "musllinux_aarch64")),
        ("macos", "arm64", ("macosx_arm64",)),
        ("macos", "x86_64", ("macosx_x86_64",)),
        ("windows", "AMD64", ("win_amd64",)),
    ],
)
def test_a_release_has_a_wheel_for_each_python_and_platform(
    platform: str, archs: str, tags: tuple[str, ...]
) -> None:
    built = run(
        "cibuildwheel", "--print-build-identifiers", "--platform", platform, "--archs", archs
    ).split()
    wanted = [f"cp{each.replace('.', '')}-{tag}" for tag in tags for each in PYTHONS]
    assert sorted(built) == sorted(wanted)


def test_only_what_a_tag_publishes_may_prove_where_it_comes_from() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    jobs = release["jobs"]
    able = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert (release["permissions"], able) == ({}, ["publish"])
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/')"
    used = [re.sub("@.*", "", step["uses"]) for step in jobs["publish"]["steps"]]
    assert used == [
        "actions/download-artifact",
        "actions/attest-build-provenance",
        "pypa/gh-action-pypi-publish",
    ]
