# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of users with patterns that wait for those before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from quorate.doors.access import Patterns
from tests.principals import user, users_of
from tests.unit.doors.redis.test_login import client_of

pytestmark = pytest.mark.plain


class Waiting:
    """A user of patterns that are no prefix sends reads, which are answered one after the other,
    and a command that waits for them all; counts how often its keys are compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
        self.compared = 0
        self.client = client_of(users=self.users("?pp:*"))
        self.client.ask("AUTH", "slow", "slow-pw")
        reads = [f"app:{number}" for number in range(8)]
        self.client.store.hold_keys = {read.encode() for read in reads}
        other = Patterns.other

        def counted(patterns: Patterns, keys: Sequence[bytes]) -> bytes | None:
            self.compared += keys[-1] == b"app:last"
            return other(patterns, keys)

        monkeypatch.setattr(Patterns, "other", counted)
        self.client.send(*(["GET", read] for read in reads), list(command))
        self.client.settle()

    def users(self, *keys: str) -> Any:
        """This user, for these keys; for all if there are none."""
        return users_of(user("slow", "read", "write", keys=keys or None))

    def answer_reads(self) -> list[Any]:
        replies = []
        for number in range(8):
            self.client.store.hold_keys.discard(b"app:%d" % number)
            replies += self.client.replies()
        return replies


@pytest.mark.parametrize(
    "command", [["MGET", *["app:0"] * 100, "app:last"], ["MSET", "app:0", "v", "app:last", "v"]]
)
def test_keys_of_a_command_that_waits_are_compared_once(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    waiting = Waiting(monkeypatch, *command)
    replies = waiting.answer_reads()
    assert (len(replies), waiting.compared) == (9, 1)
    assert "NOPERM" not in str(replies)
    assert waiting.client.connection._waiting is None


def test_a_command_that_waits_is_judged_by_what_its_user_may_when_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Waiting(monkeypatch, "MSET", "app:0", "v", "app:last", "v")
    waiting.client.door.principals.use(waiting.users("a?p:[0-9]"))
    *_, reply = waiting.answer_reads()
    assert str(reply) == "NOPERM User slow has no permissions to access the 'app:last' key"


def test_nothing_is_kept_of_a_command_whose_user_comes_to_have_all_keys_as_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be megabytes, for which nobody is charged."""
    waiting = Waiting(monkeypatch, "MSET", "app:0", "v", "app:last", "v")
    assert waiting.client.connection._waiting is not None
    waiting.client.door.principals.use(waiting.users())
    *_, reply = waiting.answer_reads()
    assert reply == b"OK"
    assert waiting.client.connection._waiting is None


def test_what_one_command_waited_for_lets_no_other_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch, "AUTH", "slow", "slow-pw")
    waiting.client.send(["MGET", "other", "app:last"])
    *_, reply = waiting.answer_reads()
    assert str(reply) == "NOPERM User slow has no permissions to access the 'other' key"
