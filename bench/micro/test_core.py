# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operation costs in the core of all three nodes together."""

from __future__ import annotations

import pytest

from bench.micro.cluster import Answers, Cluster
from bench.micro.conftest import Measure
from bench.micro.samples import BATCH, KEYS, VALUE
from quorate.core.values.events import Get, Put


@pytest.fixture
def cluster() -> Cluster:
    """With every key written."""
    cluster, answers = Cluster(), Answers()
    cluster.ask([Put(answers, key, VALUE) for key in KEYS])
    assert answers.count == BATCH
    return cluster


def test_core_put_w2_on_three_nodes(cluster: Cluster, measure: Measure) -> None:
    answers = Answers()
    measure(lambda: cluster.ask([Put(answers, key, VALUE) for key in KEYS]))
    assert answers.count >= BATCH


def test_core_get_r2_on_three_nodes(cluster: Cluster, measure: Measure) -> None:
    answers = Answers()
    measure(lambda: cluster.ask([Get(answers, key) for key in KEYS]))
    assert answers.count >= BATCH


def test_core_get_r1_on_three_nodes(cluster: Cluster, measure: Measure) -> None:
    answers = Answers()
    measure(lambda: cluster.ask([Get(answers, key, r=1) for key in KEYS]))
    assert answers.count >= BATCH
