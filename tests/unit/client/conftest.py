# SPDX-License-Identifier: GPL-3.0-or-later
"""Both clients, and a real HTTP door with a make-believe store behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.authority import Authority
from tests.fake_store import FakeStore
from tests.http_served import Served
from tests.unit.client.scripted import Caller, asynchronous, blocking

Connect = Callable[..., AbstractContextManager[Caller]]


@pytest.fixture(params=[blocking, asynchronous], ids=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client of either kind: `with connect(urls) as call: call("get", "key")`."""
    made: Connect = request.param
    return made


@pytest.fixture(scope="session")
def _served() -> Iterator[Served]:
    with Served(FakeStore()) as served:
        yield served


@pytest.fixture
def served(_served: Served) -> Served:
    """The HTTP door over an empty store."""
    _served.reset()
    return _served


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that nodes' certificates are of."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another CA."""
    return Authority(tmp_path_factory.mktemp("stranger"))
