# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands about the connection."""

from __future__ import annotations

import pytest

from quorate.doors.redis.login import NO_PASSWORD
from tests.unit.doors.redis.turns import Client

BAD_NAME = "ERR Client names cannot contain spaces, newlines or special characters."

WRONG_USER = "WRONGPASS invalid username-password pair or user is disabled."


def test_ping_and_echo(client: Client) -> None:
    assert client.ask_raw("PING") == b"+PONG\r\n"
    assert client.ask_raw("PING", "a\r\n") == b"$3\r\na\r\n\r\n"
    assert client.ask("ECHO", "x") == b"x"
    assert client.ask("PING", "a", "b") == "ERR wrong number of arguments for 'ping' command"


def test_hello_switches_nulls_and_maps_to_resp3_and_back(client: Client) -> None:
    assert client.ask("HELLO") == [
        b"server", b"redis", b"version", b"7.2.0", b"proto", 2, b"id", 1,
        b"mode", b"standalone", b"role", b"master", b"modules", [],
    ]  # fmt: skip
    assert client.ask("HELLO", "3")[b"proto"] == 3
    assert client.ask_raw("GET", "none") == b"_\r\n"
    assert client.ask_raw("MGET", "none") == b"*1\r\n_\r\n"
    assert client.ask("CONFIG", "GET", "save") == {b"save": b""}
    client.ask("HELLO", "2")
    assert client.ask_raw("GET", "none") == b"$-1\r\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("9",), "NOPROTO unsupported protocol version"),
        (("1",), "NOPROTO unsupported protocol version"),
        (("abc",), "ERR Protocol version is not an integer or out of range"),
        (("3", "AUTH", "nobody", "x"), WRONG_USER),
        (("3", "SETNAME", "a b"), BAD_NAME),
        (("3", "FOO"), "ERR Syntax error in HELLO option 'FOO'"),
        (("3", "SETNAME"), "ERR Syntax error in HELLO option 'SETNAME'"),
        (("3", "AUTH", "x"), "ERR Syntax error in HELLO option 'AUTH'"),
    ],
)  # fmt: skip
def test_a_hello_that_is_refused_changes_nothing(
    client: Client, arguments: tuple[str, ...], text: str
) -> None:
    assert client.ask("HELLO", *arguments) == text
    assert client.ask_raw("GET", "none") == b"$-1\r\n"
    assert client.ask("CLIENT", "GETNAME") is None


def test_auth_without_a_password_configured_is_an_error(client: Client) -> None:
    assert client.ask("AUTH", "secret") == NO_PASSWORD
    assert client.ask("AUTH", "nobody", "secret") == WRONG_USER
    assert client.ask("AUTH", "a", "b", "c") == "ERR syntax error"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ("16", "ERR DB index is out of range"),
        ("1", "ERR DB index is out of range"),
        ("-1", "ERR DB index is out of range"),
        ("abc", "ERR value is not an integer or out of range"),
    ],
)
def test_there_is_only_database_0(client: Client, index: str, text: str) -> None:
    assert client.ask("SELECT", index) == text
    assert client.ask("SELECT", "0") == b"OK"


def test_names_are_kept_shown_and_reset(client: Client) -> None:
    assert client.ask("CLIENT", "SETNAME", "me") == b"OK"
    assert client.ask("CLIENT", "GETNAME") == b"me"
    assert client.ask("CLIENT", "SETINFO", "LIB-NAME", "redis-py") == b"OK"
    assert client.ask("CLIENT", "SETINFO", "lib-ver", "8.0") == b"OK"
    info = client.ask("CLIENT", "INFO").decode()
    for fact in (
        "id=1 ",
        "addr=127.0.0.1:50000 ",
        "laddr=[::1]:8000 ",
        "name=me ",
        "lib-name=redis-py ",
    ):
        assert fact in info
    client.ask("HELLO", "3", "SETNAME", "other")
    assert client.ask("CLIENT", "GETNAME") == b"other"
    assert client.ask("RESET") == b"RESET"
    assert client.ask_raw("CLIENT", "GETNAME") == b"$-1\r\n"


@pytest.mark.parametrize("name", ["a b", "a\n", "é", "x" * 257])
def test_a_name_that_would_break_the_client_list_is_refused(client: Client, name: str) -> None:
    assert client.ask("CLIENT", "SETNAME", name) == (
        "ERR Client names cannot contain spaces, newlines or special characters."
    )
    assert client.ask("CLIENT", "SETINFO", "LIB-NAME", name) == (
        "ERR lib-name cannot contain spaces, newlines or special characters."
    )
    assert client.ask("CLIENT", "SETINFO", "FOO", name) == "ERR Unrecognized option 'FOO'"


def test_client_list_shows_every_connection_until_it_is_gone(client: Client) -> None:
    other = Client(client.store, client.door)
    assert (client.ask("CLIENT", "ID"), other.ask("CLIENT", "ID")) == (1, 2)
    assert client.ask("CLIENT", "LIST").count(b"\n") == 2
    assert client.ask("CLIENT", "LIST", "ID", "2", "7").startswith(b"id=2 ")
    assert client.ask("CLIENT", "LIST", "TYPE", "replica") == b""
    assert client.ask("CLIENT", "LIST", "FOO") == "ERR syntax error"
    other.connection.connection_lost(None)
    assert client.ask("CLIENT", "LIST", "TYPE", "normal").count(b"\n") == 1


def test_what_has_no_meaning_here_is_accepted(client: Client) -> None:
    for command in (
        ("READONLY",),
        ("READWRITE",),
        ("CLIENT", "NO-EVICT", "ON"),
        ("CLIENT", "NO-TOUCH", "off"),
    ):
        assert client.ask(*command) == b"OK"
    assert client.ask("CLIENT", "NO-EVICT", "x") == "ERR syntax error"


def test_an_unknown_subcommand_points_to_help(client: Client) -> None:
    assert client.ask("CLIENT", "MAINT_NOTIFICATIONS") == (
        "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."
    )
    assert b"SETNAME" in client.ask("CLIENT", "HELP")
    assert client.ask("CLIENT", "SETNAME") == (
        "ERR wrong number of arguments for 'client|setname' command"
    )


def test_the_user_default_has_no_password_so_any_is_right(client: Client) -> None:
    assert client.ask("AUTH", "default", "secret") == b"OK"
    client.ask("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me")
    assert client.ask("CLIENT", "GETNAME") == b"me"
