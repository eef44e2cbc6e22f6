# SPDX-License-Identifier: GPL-3.0-or-later
"""The rigs under which instructions are counted do what they are counted for."""

from __future__ import annotations

import asyncio

import pytest

from bench.micro import whole
from quorate.wire.resp import bulk


@pytest.mark.parametrize("kind", whole.KINDS)
def test_three_whole_nodes_answer_each_request_of_a_turn(kind: str) -> None:
    reply = {"set": b"+OK\r\n", "incr": b":1\r\n"}.get(kind, bulk(whole.VALUE))
    assert asyncio.run(whole.count(kind, 3, 2)) == [reply] * 3
