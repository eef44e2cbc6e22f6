# SPDX-License-Identifier: GPL-3.0-or-later
"""The users file of a running node: read again when it changes, and kept when it has a mistake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from quorate.doors import users_file
from quorate.doors.principals import Principals
from quorate.doors.users_file import UsersFile
from quorate.security.users import Users, UsersError, read_users, write_users
from tests.principals import CLUSTER, WALL_MS, user, users_of

WAIT_S = 10.0


class Followed:
    """A file that is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = UsersFile(path)
        self.principals = Principals(
            asyncio.get_running_loop(),
            cluster=CLUSTER,
            wall_ms=lambda: WALL_MS,
            users=self.file.users,
        )

    def has(self, *names: str) -> bool:
        return self.principals.user_names() == sorted(names)


def follow(
    path: Path, test: Callable[[Followed], Awaitable[None]], *, look_s: float = 0.01
) -> list[Any]:
    """Run a test beside a file that is followed; what was logged."""

    async def main() -> None:
        followed = Followed(path)
        followed.file.follow(followed.principals)
        try:
            await test(followed)
        finally:
            await followed.file.close()
            followed.principals.close()

    with pytest.MonkeyPatch.context() as patch, capture_logs() as lines:
        patch.setattr(users_file, "LOOK_S", look_s)
        asyncio.run(main())
    return lines


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "users.toml"
    write_users(path, users_of(user("ann", "read")))
    return path


def test_another_file_is_in_force_soon(path: Path) -> None:
    async def test(followed: Followed) -> None:
        assert followed.has("ann")
        write_users(path, users_of(user("ann", "read"), user("bob")))
        await until(lambda: followed.has("ann", "bob"))
        write_users(path, users_of())
        await until(lambda: followed.has())

    lines = follow(path, test)
    assert [(line["event"], line["users"]) for line in lines] == [
        ("users_read", 2),
        ("users_read", 0),
    ]


def test_a_file_that_stays_as_it_is_is_not_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    marks: list[Path] = []
    mark = users_file._mark

    def look(path: Path) -> Any:
        marks.append(path)
        return mark(path)

    def read(path: Path) -> Users:
        reads.append(path)
        return read_users(path)

    monkeypatch.setattr(users_file, "read_users", read)
    monkeypatch.setattr(users_file, "_mark", look)

    async def test(_: Followed) -> None:
        await until(lambda: len(marks) > 5)

    follow(path, test)
    assert len(reads) == 1


def test_on_request_it_is_read_at_once(path: Path) -> None:
    async def test(followed: Followed) -> None:
        await asyncio.sleep(0)
        stamp = path.stat().st_mtime_ns
        text = path.read_text()
        path.write_text(text.replace('[users."ann"]', '[users."bob"]'))
        # As if nothing had changed, as far as can be seen.
        os.utime(path, ns=(stamp, stamp))
        followed.file.look()
        await until(lambda: followed.has("bob"))

    follow(path, test, look_s=1000)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("[users.x"),
        lambda path: path.write_text("[users.x]"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("x = " + "[" * 100_000),
        lambda path: path.chmod(0o666),
        lambda path: path.unlink(),
    ],
)
def test_a_mistake_is_told_once_and_those_of_before_stay(
    path: Path, spoil: Callable[[Path], object]
) -> None:
    looks = 0
    mark = users_file._mark

    def count(path: Path) -> Any:
        nonlocal looks
        looks += 1
        return mark(path)

    async def test(followed: Followed) -> None:
        spoil(path)
        now = looks
        await until(lambda: looks > now + 5)
        assert followed.has("ann")
        path.unlink(missing_ok=True)
        write_users(path, users_of(user("bob")))
        await until(lambda: followed.has("bob"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users_file, "_mark", count)
        lines = follow(path, test)
    refused = [line for line in lines if line["event"] == "users_refused"]
    assert [(line["log_level"], line["in_force"]) for line in refused] == [("error", 1)]
    assert str(path) in refused[0]["reason"]


def test_what_nobody_foresaw_is_told_once_and_the_file_is_read_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def read(path: Path) -> Users:
        nonlocal reads
        reads += 1
        if reads < 3:
            raise MemoryError
        return read_users(path)

    monkeypatch.setattr("quorate.recurring.FIRST_S", 0.001)

    async def test(followed: Followed) -> None:
        monkeypatch.setattr(users_file, "read_users", read)
        write_users(path, users_of(user("bob")))
        await until(lambda: followed.has("bob"))

    lines = follow(path, test)
    assert [line["event"] for line in lines] == ["background_failed", "users_read"]
    assert lines[0]["work"] == "users file"


def test_a_file_that_others_can_read_is_told_at_the_start(path: Path) -> None:
    path.chmod(0o640)
    with capture_logs() as lines:
        UsersFile(path)
    assert lines == [
        {
            "event": "users_open_to_others",
            "log_level": "warning",
            "file": str(path),
            "cure": f"chmod go= {path}",
        }
    ]


def test_a_mistake_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="No such file"):
        UsersFile(tmp_path / "none")
