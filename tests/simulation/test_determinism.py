# SPDX-License-Identifier: GPL-3.0-or-later
"""Same seed, same run (P8, I29), also in another process whose hashes are salted otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.simulation.register_world import RegisterWorld

SEEDS = range(5)
_PROGRAM = """
from tests.simulation.register_world import RegisterWorld
for seed in range(5):
    print(RegisterWorld(seed).run().cluster.recorder.digest())
"""


def _digests() -> list[str]:
    return [RegisterWorld(seed).run().cluster.recorder.digest() for seed in SEEDS]


def test_a_seed_gives_the_same_run_twice_and_another_seed_another() -> None:
    """I29."""
    digests = _digests()
    assert digests == _digests()
    assert len(set(digests)) == len(SEEDS)


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    """I29: nothing depends on how this process happens to hash."""
    here = _digests()
    for salt in ("0", "1", "4711"):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == here, f"another run under PYTHONHASHSEED={salt}"
