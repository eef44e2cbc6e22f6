# SPDX-License-Identifier: GPL-3.0-or-later
"""A client for each test."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from quorate.core.topology.layout import first_layout
from tests.unit.doors.redis.turns import Client


@pytest.fixture(scope="package", autouse=True)
def layouts_are_planned_once() -> Iterator[None]:
    """Planning takes 10 ms, and these tests make a thousand stores of the same nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.fake_store.first_layout", functools.cache(first_layout))
        yield


@pytest.fixture
def client() -> Client:
    return Client()
