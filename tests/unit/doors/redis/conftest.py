# SPDX-License-Identifier: GPL-3.0-or-later
"""A client for each test."""

from __future__ import annotations

import pytest

from tests.unit.doors.redis.turns import Client


@pytest.fixture
def client() -> Client:
    return Client()
