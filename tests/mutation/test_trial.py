# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change is put to."""

from __future__ import annotations

import subprocess

from tests.mutation.trial import SIM


def test_worlds_of_the_sound_tree_hold() -> None:
    """Else every change of what they run would count as noticed: by a flag that is none, say."""
    ran = subprocess.run([*SIM, "--seeds=1"], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
