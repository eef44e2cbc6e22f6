# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who: by address, certificate, password and token."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from quorate.doors.access import ANYBODY, CLUSTER, NOBODY, Principal, Role
from quorate.doors.guests import source_of
from quorate.doors.principals import (
    NOT_ACCEPTED,
    REMEMBERED_MAX,
    REMEMBERED_S,
    Answer,
    Principals,
)
from quorate.errors import Overloaded, Unauthenticated
from quorate.security.users import Users, checked_networks
from tests.principals import CLUSTER as NAME
from tests.principals import WALL_MS, AtOnce, user, users_of
from tests.unit.doors.redis.turns import ManualTimers

USERS = users_of(
    user("ann", "read", "write"),
    user("app", "read", "admin", keys=("app:*", "b?")),
    user("far", "read", networks=checked_networks(["10.0.0.0/8", "2001:db8::/32"])),
    user("cert", "read", password="", certificate="cert.example.org"),
)


class Door(asyncio.BaseTransport):
    """A transport that says where it comes from, and with which certificate."""

    def __init__(self, address: str = "127.0.0.1", certificate: Any = None) -> None:
        super().__init__({"peername": (address, 1), "peercert": certificate})


class Applicant:
    is_gone = False

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def logged_in(self, answer: Answer) -> None:
        self.answers.append(answer)

    @property
    def answer(self) -> Answer:
        (answer,) = self.answers
        return answer


class Bench:
    """An principals whose checks are made at once."""

    def __init__(self, users: Users | None = USERS, **given: Any) -> None:
        self.timers = ManualTimers()
        self.thread = AtOnce()
        self.wall_ms = WALL_MS
        self.principals = Principals(
            self.timers,
            cluster=NAME,
            wall_ms=lambda: self.wall_ms,
            users=users,
            thread=self.thread,
            **given,
        )

    def log_in(self, name: str, password: str, source: str = "127.0.0.1") -> Answer:
        applicant = Applicant()
        self.principals.log_in(name.encode(), password.encode(), source, applicant)
        self.timers.advance(10)
        return applicant.answer

    def apply(self, header: bytes, source: str = "127.0.0.1") -> Answer:
        known = self.principals.known(header, source)
        if known is not None:
            return known
        applicant = Applicant()
        self.principals.apply(header, source, applicant)
        self.timers.advance(10)
        return applicant.answer


def basic(name: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{name}:{password}".encode())


def is_refused(answer: Answer) -> bool:
    return isinstance(answer, Unauthenticated) and answer.detail == NOT_ACCEPTED


def name_of(answer: Answer) -> str:
    assert isinstance(answer, Principal), answer
    return answer.name


# --- without a word -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_open", "who"),
    [
        ("127.0.0.1", True, ANYBODY),
        ("10.0.0.1", True, ANYBODY),
        ("127.0.0.1", False, ANYBODY),
        ("127.8.9.1", False, ANYBODY),
        ("::1", False, ANYBODY),
        ("::ffff:127.0.0.1", False, ANYBODY),
        ("10.0.0.1", False, NOBODY),
        ("::ffff:10.0.0.1", False, NOBODY),
        ("", False, NOBODY),
    ],
)
def test_without_users_everybody_may_everything_from_this_machine_or_where_it_is_open(
    address: str, is_open: bool, who: Principal
) -> None:
    assert Bench(None, is_open=is_open).principals.at(Door(address)) is who


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1"])
def test_with_users_nobody_is_known_before_login(address: str, is_open: bool) -> None:
    assert Bench(is_open=is_open).principals.at(Door(address)) is NOBODY


CERTIFICATES = {
    "common name": {"subject": ((("commonName", "cert.example.org"),),)},
    "one of several parts": {
        "subject": ((("countryName", "SE"),), (("commonName", "cert.example.org"),))
    },
    "alternative name": {
        "subject": (),
        "subjectAltName": (("DNS", "x"), ("DNS", "cert.example.org")),
    },
    "e-mail": {"subjectAltName": (("email", "cert.example.org"),)},
}


@pytest.mark.parametrize("certificate", CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_of_a_users_name_is_that_user(certificate: Any) -> None:
    principals = Bench().principals
    found = principals.at(Door("10.0.0.1", certificate))
    assert (found.name, found.has(Role.READ), found.has(Role.WRITE)) == ("cert", True, False)


@pytest.mark.parametrize(
    "certificate",
    [
        {},
        None,
        {"subject": ((("commonName", "ann"),),)},
        {"subject": ((("organizationName", "cert.example.org"),),)},
        {"subject": ((("commonName", "CERT.example.org"),),)},
        {"subject": ((("commonName", ""),),)},
        {"subjectAltName": (("DNS", "*.example.org"),)},
    ],
)
def test_a_certificate_of_another_name_is_nobody(certificate: Any) -> None:
    assert Bench().principals.at(Door("10.0.0.1", certificate)) is NOBODY


def test_a_certificate_is_bound_to_the_addresses_of_its_user() -> None:
    bench = Bench(
        users_of(user("c", "read", certificate="c", networks=checked_networks(["10.0.0.0/8"])))
    )
    shown = {"subject": ((("commonName", "c"),),)}
    assert bench.principals.at(Door("10.1.1.1", shown)).name == "c"
    assert bench.principals.at(Door("11.1.1.1", shown)) is NOBODY


@pytest.mark.parametrize("users", [USERS, None])
def test_a_certificate_of_the_clusters_own_may_everything(users: Users | None) -> None:
    bench = Bench(users, is_open=False, is_of_cluster=lambda _: True)
    assert bench.principals.at(Door("10.0.0.1", {"subject": ()})) is CLUSTER
    assert bench.principals.at(Door("10.0.0.1")) is NOBODY


def test_who_was_known_by_a_certificate_is_nobody_once_its_user_is_removed() -> None:
    principals = Bench().principals
    found = principals.at(Door("10.0.0.1", CERTIFICATES["e-mail"]))
    principals.use(users_of())
    assert (found.name, found.roles) == ("", NOBODY.roles)
    assert principals.at(Door("10.0.0.1", CERTIFICATES["e-mail"])) is NOBODY


def test_a_connection_that_has_no_address_has_none() -> None:
    assert source_of(asyncio.BaseTransport({"peername": "/tmp/socket"})) == ""
    assert source_of(asyncio.BaseTransport({})) == ""
    assert source_of(Door("::ffff:10.0.0.1")) == "10.0.0.1"


# --- passwords ------------------------------------------------------------------------------------


def test_a_right_password_gives_the_users_roles() -> None:
    ann = Bench().log_in("ann", "ann-pw")
    assert isinstance(ann, Principal)
    assert ann.roles == {Role.STRANGER, Role.USER, Role.READ, Role.WRITE}
    assert ann.patterns is None


def test_roles_for_some_keys_are_looked_at_key_by_key() -> None:
    app = Bench().log_in("app", "app-pw")
    assert isinstance(app, Principal)
    assert app.roles == {Role.STRANGER, Role.USER, Role.ADMIN}
    assert app.has(Role.READ)
    assert not app.has(Role.WRITE)
    for keys in ([b"app:1"], [b"b1", b"app:"], []):
        assert app.forbidden(Role.READ, keys) is None
    assert app.forbidden(Role.READ, [b"b1", b"x", b"y"]) == b"x"
    assert app.forbidden(Role.READ, [b"xapp:1"]) == b"xapp:1"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "ann-pw\0"),
        ("ann", "x"),
        ("ann", ""),
        ("ann", "ann-pw "),
        ("ann", "ann-pw" * 1000),
        ("Ann", "ann-pw"),
        ("nobody", "x"),
        ("", ""),
        ("cert", ""),
        ("cert", "cert-pw"),
        ("a\0nn", "ann-pw"),
    ],
)
def test_whatever_is_wrong_costs_one_check_and_says_the_same(name: str, password: str) -> None:
    bench = Bench()
    assert is_refused(bench.log_in(name, password))
    assert bench.thread.checks == 1


def test_from_elsewhere_the_right_password_is_refused_as_a_wrong_one() -> None:
    bench = Bench()
    assert is_refused(bench.log_in("far", "far-pw", "127.0.0.1"))
    assert name_of(bench.log_in("far", "far-pw", "10.1.2.3")) == "far"
    assert name_of(bench.log_in("far", "far-pw", "2001:db8::1")) == "far"
    # Though it is remembered by now.
    assert is_refused(bench.log_in("far", "far-pw", "127.0.0.1"))
    assert is_refused(bench.log_in("far", "far-pw", ""))


@pytest.mark.parametrize("password", [b"far-pw", b"wrong"])
def test_from_elsewhere_the_right_password_slows_the_next_login_as_a_wrong_one(
    password: bytes,
) -> None:
    bench, first, second = Bench(), Applicant(), Applicant()
    bench.principals.log_in(b"far", password, "127.0.0.1", first)
    bench.principals.log_in(b"ann", b"ann-pw", "127.0.0.1", second)
    assert is_refused(first.answer)
    assert second.answers == []


def test_all_connections_of_a_user_hold_one_principal() -> None:
    bench = Bench()
    assert bench.log_in("ann", "ann-pw") is bench.apply(basic("ann", "ann-pw"))


# --- who is remembered ----------------------------------------------------------------------------


def test_who_logged_in_is_remembered_until_some_minutes_after_the_last_time() -> None:
    bench = Bench()
    header = basic("ann", "ann-pw")
    bench.apply(header)
    for _ in range(5):
        bench.timers.advance(REMEMBERED_S - 11)
        assert name_of(bench.apply(header)) == "ann"
    assert bench.thread.checks == 1
    bench.timers.advance(REMEMBERED_S)
    bench.apply(header)
    assert bench.thread.checks == 2


def test_a_wrong_password_is_not_remembered() -> None:
    bench = Bench()
    for _ in range(3):
        assert is_refused(bench.apply(basic("ann", "x")))
    assert bench.thread.checks == 3


def test_one_login_is_remembered_for_both_doors() -> None:
    bench = Bench()
    bench.log_in("ann", "ann-pw")
    bench.apply(basic("ann", "ann-pw"))
    assert bench.thread.checks == 1


def test_passwords_are_not_kept_and_what_is_kept_is_bounded() -> None:
    bench = Bench()
    ann = bench.log_in("ann", "ann-pw")
    assert isinstance(ann, Principal)
    assert not [key for key in bench.principals._remembered if b"ann" in key]
    for number in range(2 * REMEMBERED_MAX):
        bench.principals.remember(b"%d" % number, ann, 0)
    assert len(bench.principals._remembered) == REMEMBERED_MAX


def test_other_users_make_everybody_log_in_anew() -> None:
    bench = Bench()
    bench.apply(basic("ann", "ann-pw"))
    bench.principals.use(USERS)
    bench.apply(basic("ann", "ann-pw"))
    assert bench.thread.checks == 2


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!!",
        b"Basic " + b64encode(b"ann"),
        b"Basic " + b64encode(b"ann:ann-pw")[:-2],
        b"Basic " + b64encode(b"ann:ann-pw") + b"\x80",
        b"Basic " + b64encode(b"\xff:x"),
        b"Bearer",
        b"Bearer x",
        b"Bearer qt1.x.y",
        b"Bearer " + b"x" * (1 << 20),
        b"Digest username=ann",
        b"Negotiate x",
        b64encode(b"ann:ann-pw"),
        b"\xff" * 100,
    ],
)
def test_a_header_that_shows_nothing_is_refused_with_the_same_words(header: bytes) -> None:
    assert is_refused(Bench().apply(header))


@pytest.mark.parametrize("header", [b"basic %b", b"BASIC %b", b"Basic   %b "])
def test_the_name_of_a_scheme_is_read_in_any_case(header: bytes) -> None:
    assert name_of(Bench().apply(header % b64encode(b"ann:ann-pw"))) == "ann"


@given(st.binary(max_size=200))
def test_no_bytes_are_a_login(header: bytes) -> None:
    bench = Bench()
    for each in (header, b"Basic " + header, b"Bearer " + header, b"Basic " + b64encode(header)):
        assert is_refused(bench.apply(each))


# --- the users change -----------------------------------------------------------------------------


def changed(**given: Any) -> Users:
    return users_of(user("ann", **given))


@pytest.mark.parametrize(
    "users",
    [
        users_of(),
        users_of(user("ann", "read", "write", password=user("x").password)),
        users_of(user("ann", "read", "write", networks=checked_networks(["127.0.0.1"]))),
        users_of(user("ann", "read", "write", certificate="ann")),
    ],
)
def test_who_might_not_log_in_any_more_is_a_stranger_at_once(users: Users) -> None:
    bench = Bench()
    ann = bench.log_in("ann", "ann-pw")
    assert isinstance(ann, Principal)
    bench.principals.use(users)
    assert ann.name == ""
    assert ann.roles == {Role.STRANGER}
    assert not ann.key_roles
    bench.principals.use(USERS)
    # The one who is back is not taken for the one who was there.
    assert ann.name == ""
    assert name_of(bench.log_in("ann", "ann-pw")) == "ann"


def test_other_roles_and_keys_are_in_force_at_once() -> None:
    bench = Bench()
    ann = bench.log_in("ann", "ann-pw")
    assert isinstance(ann, Principal)
    bench.principals.use(users_of(user("ann", "read", keys=("a*",))))
    assert ann.has(Role.READ)
    assert Role.READ not in ann.roles
    assert not ann.has(Role.WRITE)
    assert ann.forbidden(Role.READ, [b"b"]) == b"b"
    bench.principals.use(users_of(user("ann", "admin")))
    assert ann.roles == {Role.STRANGER, Role.USER, Role.ADMIN}
    assert not ann.has(Role.READ)


class Meanwhile(AtOnce):
    """Has the users change while a password is checked."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change = change

    def run(self, check: Callable[[], bool], done: Callable[[bool], None]) -> None:
        self._change()
        super().run(check, done)


@pytest.mark.parametrize("users", [users_of(), users_of(user("ann", password=user("x").password))])
def test_a_password_that_was_changed_while_it_was_checked_is_refused(users: Users) -> None:
    bench = Bench()
    bench.principals._logins._thread = Meanwhile(lambda: bench.principals.use(users))
    assert is_refused(bench.log_in("ann", "ann-pw"))


def test_too_many_logins_are_overload_and_no_refusal() -> None:
    bench = Bench()
    bench.thread.run = lambda *_: None  # type: ignore[method-assign]
    applicant = Applicant()
    for number in range(20):
        bench.principals.log_in(b"ann", b"%d" % number, "127.0.0.1", applicant)
    assert len(applicant.answers) == 4
    assert all(isinstance(each, Overloaded) for each in applicant.answers)
    assert bench.principals.audit.logins_refused == 0


# --- what the log tells ---------------------------------------------------------------------------


def test_a_refused_login_is_told_without_what_was_typed() -> None:
    bench = Bench()
    with capture_logs() as lines:
        bench.log_in("ann", "hunter2", "10.0.0.9")
        bench.log_in("hunter2", "ann")
    shared = {"event": "login_refused", "log_level": "warning", "audit": True, "held_back": 0}
    assert lines == [
        {**shared, "who": "ann", "from": "10.0.0.9", "what": "redis", "outcome": "refused"},
        {**shared, "who": "unknown", "from": "127.0.0.1", "what": "redis", "outcome": "refused"},
    ]
    assert "hunter2" not in str(lines)
