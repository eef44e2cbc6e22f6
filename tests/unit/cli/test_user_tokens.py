# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate token issue."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from quorate.security.tokens import Claims, claims_of
from quorate.security.users import write_users
from tests.principals import TOKEN_KEY, user, users_of
from tests.unit.cli.conftest import Run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "users.toml"
    write_users(path, users_of(user("ann")))
    return path


def read(token: bytes, cluster: str = "quorate", *, in_ms: int = 0) -> Claims | None:
    now = int(time.time() * 1000) + in_ms
    return claims_of(token, key=TOKEN_KEY, cluster=cluster, wall_ms=now)


def test_a_token_is_printed_that_is_good_for_so_long(run: Run, path: Path) -> None:
    ran = run("token", "issue", "--user=ann", "--ttl=1h", f"--users={path}")
    assert (ran.code, ran.err) == (0, "")
    token = ran.out.strip()
    claims = read(token)
    assert claims is not None
    assert claims.user == "ann"
    assert read(token, in_ms=3_590_000) is not None
    assert read(token, in_ms=3_610_000) is None
    assert read(token, "green") is None


def test_it_is_for_the_cluster_that_is_named_and_comes_as_json(run: Run, path: Path) -> None:
    flags = ["--user=ann", "--ttl=30m", f"--users={path}", "--cluster=green", "--json"]
    shown = json.loads(run("token", "issue", *flags).out)
    claims = read(shown["token"].encode(), "green")
    assert claims is not None
    assert (claims.user, claims.expires_ms) == (shown["user"], shown["expires_ms"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["isue", "--ttl=1h"], "token: 'isue' is neither new nor issue"),
        (["issue"], "token: no ttl: write --ttl=8h"),
        (["issue", "--ttl=1h"], "token issue: no user: write --user=NAME --users=FILE --ttl=8h"),
        (["issue", "--ttl=0s", "--user=ann", "--users=FILE"], "--ttl: 0s is not from 1ms to 366"),
        (["issue", "--ttl=1000d", "--user=ann", "--users=FILE"], "--ttl: "),
        (["issue", "--ttl=1h", "--user=bob", "--users=FILE"], "FILE: there is no user 'bob'"),
        (["issue", "--ttl=1h", "--user=bob", "--users=NONE"], "NONE: No such file"),
        (["issue", "--ttl=1h", "--user=ann", "--users=KEYLESS"], "KEYLESS: it has no token-key"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, path: Path, arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    path.rename("FILE")
    write_users(Path("KEYLESS"), users_of(user("ann"), token_key=b""))
    ran = run("token", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith(f"quorate: {text}")
    assert len(ran.err.splitlines()) == 1
