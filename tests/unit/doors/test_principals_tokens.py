# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who by a token."""

from __future__ import annotations

import pytest

from quorate.doors.principals import REMEMBERED_S
from quorate.security.tokens import Claims, issue
from tests.principals import CLUSTER as NAME
from tests.principals import TOKEN_KEY, WALL_MS, user, users_of
from tests.unit.doors.test_principals import USERS, Bench, is_refused, name_of


def token(name: str = "ann", *, key: bytes = TOKEN_KEY, cluster: str = NAME, ms: int = 1) -> bytes:
    return b"Bearer " + issue(Claims(name, WALL_MS + ms, cluster), key=key).encode()


def test_a_token_is_its_user_until_it_expires_though_it_is_remembered() -> None:
    bench = Bench()
    assert name_of(bench.apply(token(ms=1000))) == "ann"
    assert bench.thread.checks == 0
    bench.wall_ms += 999
    assert name_of(bench.apply(token(ms=1000))) == "ann"
    bench.wall_ms += 1
    assert is_refused(bench.apply(token(ms=1000)))


def test_a_token_that_is_shown_again_and_again_expires_all_the_same() -> None:
    bench = Bench()
    shown = token(ms=1000)
    for _ in range(3):
        assert name_of(bench.apply(shown)) == "ann"
        bench.timers.advance(REMEMBERED_S - 11)
    assert name_of(bench.apply(shown)) == "ann"
    bench.wall_ms += 1000
    assert is_refused(bench.apply(shown))


@pytest.mark.parametrize(
    "shown",
    [
        token(ms=0),
        token(ms=-1000),
        token("nobody"),
        token(key=b"x" * 32),
        token(cluster="green"),
        token()[:-1],
        token() + b"x",
        token().replace(b"Bearer", b"Basic"),
    ],
)
def test_a_token_that_is_not_good_is_refused_with_the_same_words(shown: bytes) -> None:
    assert is_refused(Bench().apply(shown))


def test_a_token_is_bound_to_the_addresses_of_its_user() -> None:
    bench = Bench()
    assert name_of(bench.apply(token("far"), "10.0.0.1")) == "far"
    assert is_refused(bench.apply(token("far"), "127.0.0.1"))


def test_another_key_ends_all_tokens_and_a_removed_user_its_own() -> None:
    bench = Bench()
    for users in (users_of(*USERS.by_name.values(), token_key=b"n" * 32), users_of(user("app"))):
        bench.principals.use(USERS)
        by_password, by_token = bench.log_in("ann", "ann-pw"), bench.apply(token())
        assert name_of(by_token) == "ann"
        bench.principals.use(users)
        assert name_of(by_token) == "", "at once"
        assert name_of(by_password) == ("ann" if "ann" in users.by_name else "")
        assert is_refused(bench.apply(token()))


def test_a_file_without_a_key_has_no_tokens() -> None:
    bench = Bench(users_of(user("ann"), token_key=b""))
    assert is_refused(bench.apply(token(key=b"")))
    assert is_refused(bench.apply(token()))
