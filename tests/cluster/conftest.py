# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes with the defaults (RF 3, W 2, R 2, synced), ready."""
    with Cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Cluster]:
    """The same, but for nodes that notice in a second who is gone, where others take six."""
    with Cluster(tmp_path, "-heartbeat=300ms") as cluster:
        yield cluster
