# SPDX-License-Identifier: GPL-3.0-or-later
"""What the runtime reports: the one event that carries an error."""

from __future__ import annotations

import pytest

from quorate.core.values.events import StorageState
from quorate.errors import DiskFull, StorageBusy, StorageError


@pytest.mark.parametrize("kind", [DiskFull, StorageBusy, StorageError])
def test_a_storage_state_gives_the_error_that_its_code_names(kind: type[StorageError]) -> None:
    error = StorageState(kind.code, "why").error()
    assert type(error) is kind
    assert error.detail == "why"


def test_each_refused_request_gets_an_error_of_its_own() -> None:
    """Its outcome is filled in later."""
    state = StorageState(DiskFull.code, "full")
    assert state.error() is not state.error()
