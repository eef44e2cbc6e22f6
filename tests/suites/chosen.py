# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest for the suites: which cases are run, and no service is started for them."""

from __future__ import annotations

import re
from typing import Final

import pytest

COMMANDS: Final = re.compile(
    r"::test_(set_|setnx|setex|psetex|getset|get_and_set|getdel|getex|append|setrange|get_set_bit"
    r"|getrange|substr|strlen|bitcount|msetnx|mset$|mget|incr(by|byfloat)?$|decr|expire|pexpire"
    r"|persist|ttl|pttl|rename|copy|lcs|object|exists|delete|unlink|touch|getitem|type|randomkey"
    r"|keys|scan|echo|ping|time|wait)"
)
"""Of redis-py's tests of commands those on strings, numbers, expiry and keys."""


class Services:
    """What a suite would have started for its tests."""

    def start(self, name: str) -> None:
        """The nodes run already."""
        if name != "redis-basic":
            pytest.skip(f"there is no {name}")


@pytest.fixture(scope="session")
def docker_services() -> Services:
    """In place of the fixture that starts containers."""
    return Services()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out commands on what is no string."""
    items[:] = [
        item
        for item in items
        if "test_commands.py" not in item.nodeid or COMMANDS.search(item.nodeid)
    ]
