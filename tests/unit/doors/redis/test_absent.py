# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is none of."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.doors.redis.turns import Client


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("FUNCTION FLUSH", b"OK"),
        ("FUNCTION FLUSH SYNC", b"OK"),
        ("FUNCTION LIST", []),
        ("SCRIPT FLUSH", b"OK"),
        ("SCRIPT EXISTS a b", [0, 0]),
        ("SLOWLOG GET 10", []),
        ("SLOWLOG LEN", 0),
        ("SLOWLOG RESET", b"OK"),
        ("LATENCY LATEST", []),
        ("LATENCY RESET", 0),
        ("MODULE LIST", []),
        ("ACL WHOAMI", b"default"),
        ("FUNCTION LOAD x", "ERR unknown subcommand 'LOAD'. Try FUNCTION HELP."),
        ("SCRIPT LOAD x", "ERR unknown subcommand 'LOAD'. Try SCRIPT HELP."),
        ("EVAL x 0", "ERR unknown command 'EVAL', with args beginning with: 'x' '0' "),
    ],
)
def test_questions_have_the_answer_none_and_what_would_make_one_is_unknown(
    client: Client, command: str, answer: Any
) -> None:
    assert client.ask(*command.split()) == answer
