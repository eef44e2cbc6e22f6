# SPDX-License-Identifier: GPL-3.0-or-later
"""AUTH, HELLO, RESET and ACL where users are configured; what strangers may send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from quorate.core.values.events import Get, Put
from quorate.doors.access import ANYBODY, NOBODY
from quorate.doors.flow import CLOSED, WAITING
from quorate.doors.logins import DELAY_S_MAX
from quorate.doors.principals import Principals
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.login import HELLO_FIRST, NO_PASSWORD, WRONGPASS
from quorate.doors.redis.session import NOAUTH
from quorate.doors.redis.table import COMMANDS
from quorate.wire.resp import STRANGER_BULK_BYTES_MAX
from tests.principals import CLUSTER, WALL_MS, AtOnce, user, users_of
from tests.unit.doors.redis.turns import Client, FakeTransport, ManualTimers, encode
from tests.unit.doors.test_logins import ByHand

USERS = users_of(
    user("ann", "read", "write"),
    user("app", "read", "write", keys=("app:*", "b?")),
    user("ops", "admin"),
    user("default", "read"),
)


def client_of(thread: Any = None, **given: Any) -> Client:
    """A stranger, whose passwords are checked at once or as `thread` has it."""
    principals = Principals(
        ManualTimers(),
        cluster=CLUSTER,
        wall_ms=lambda: WALL_MS,
        thread=thread or AtOnce(),
        **{"users": USERS, **given},
    )
    return Client(principals=principals)


@pytest.fixture
def stranger() -> Client:
    return client_of()


# --- logging in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "who"),
    [
        (["AUTH", "ann", "ann-pw"], b"ann"),
        (["auth", "app", "app-pw"], b"app"),
        (["AUTH", "default-pw"], b"default"),
        (["HELLO", "2", "AUTH", "ann", "ann-pw"], b"ann"),
        (["HELLO", "3", "SETNAME", "x", "AUTH", "ann", "ann-pw"], b"ann"),
        (["HELLO", "3", "AUTH", "ops", "x", "AUTH", "ann", "ann-pw"], b"ann"),
    ],
)
def test_a_right_password_logs_in(stranger: Client, command: list[str], who: bytes) -> None:
    assert not isinstance(stranger.ask(*command), str)
    assert stranger.ask("ACL", "WHOAMI") == who


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["AUTH", "x"], WRONGPASS),
        (["AUTH", "ann", "x"], WRONGPASS),
        (["AUTH", "nobody", "x"], WRONGPASS),
        (["AUTH", "", ""], WRONGPASS),
        (["AUTH", "ann", "ann-pw", "x"], "ERR syntax error"),
        (["AUTH"], "ERR wrong number of arguments for 'auth' command"),
        (["HELLO"], HELLO_FIRST),
        (["HELLO", "3"], HELLO_FIRST),
        (["HELLO", "3", "SETNAME", "x"], HELLO_FIRST),
        (["HELLO", "4", "AUTH", "ann", "ann-pw"], "NOPROTO unsupported protocol version"),
        (["HELLO", "3", "AUTH", "ann", "x"], WRONGPASS),
        (["HELLO", "3", "AUTH", "ann", "ann-pw", "FOO"], "ERR Syntax error in HELLO option 'FOO'"),
        (["HELLO", "3", "AUTH", "ann"], "ERR Syntax error in HELLO option 'AUTH'"),
        (["PING"], NOAUTH),
        (["GET", "k"], NOAUTH),
        (["SET", "k"], "ERR wrong number of arguments for 'set' command"),
        (["NOPE"], "ERR unknown command 'NOPE', with args beginning with: "),
    ],
)
def test_what_does_not_log_in_changes_nothing(
    stranger: Client, command: list[str], text: str
) -> None:
    assert stranger.ask(*command) == text
    assert stranger.connection.principal is NOBODY
    assert stranger.connection.protocol == 2
    assert stranger.connection.name == b""
    assert stranger.store.events == []


def test_only_these_are_served_before_login(stranger: Client) -> None:
    for name, command in COMMANDS.items():
        if name == b"QUIT":
            continue
        words = [command.name] + ["1"] * (abs(command.arity) - 1)
        reply = stranger.ask(*words)
        if name == b"RESET":
            assert reply == b"RESET"
        elif name == b"AUTH":
            assert reply == WRONGPASS
        else:
            assert reply == (HELLO_FIRST if name == b"HELLO" else NOAUTH), name
    assert stranger.ask("QUIT") == b"OK"


def test_a_stranger_is_told_of_that_asks_for_what_an_admin_may(stranger: Client) -> None:
    with capture_logs() as lines:
        for words in (["GET", "k"], ["PING"], ["FLUSHALL"]):
            assert stranger.ask(*words) == NOAUTH
    assert [(each["event"], each["who"], each["what"]) for each in lines] == [
        ("permission_refused", "unknown", "flushall")
    ]


def test_reset_logs_out(stranger: Client) -> None:
    stranger.ask("AUTH", "ann", "ann-pw")
    stranger.ask("RESET")
    assert stranger.ask("GET", "k") == NOAUTH
    stranger.feed(b"*11\r\n")
    assert str(stranger.replies()[0]) == "ERR Protocol error: unauthenticated multibulk length"


def test_a_secret_without_users_leaves_strangers_outside() -> None:
    stranger = client_of(users=None, is_open=False)
    stranger.connection.principal = NOBODY
    with capture_logs() as lines:
        assert stranger.ask("AUTH", "hunter2") == WRONGPASS
        assert stranger.ask("AUTH", "default", "x") == WRONGPASS
        assert stranger.ask("HELLO", "3", "AUTH", "default", "x") == WRONGPASS
    assert [(each["event"], each["who"]) for each in lines] == [("login_refused", "unknown")]
    assert stranger.connection.door.principals.audit.logins_refused == 3
    assert stranger.ask("GET", "k") == NOAUTH


def test_without_users_any_password_of_default_will_do() -> None:
    client = client_of(users=None)
    assert client.connection.principal is ANYBODY
    assert client.ask("AUTH", "x") == NO_PASSWORD
    assert client.ask("AUTH", "default", "x") == b"OK"


def test_what_is_behind_a_login_waits_for_it_and_is_then_judged() -> None:
    thread = ByHand()
    client = client_of(thread)
    client.send(["AUTH", "ann", "ann-pw"], ["SET", "k", "v"], ["GET", "k"])
    client.settle()
    assert client.answered() == []
    assert client.connection.flow.state is WAITING
    thread.make()
    assert client.replies() == [b"OK", b"OK", b"v"]


def test_a_client_that_is_gone_before_its_password_was_checked_is_none() -> None:
    thread = ByHand()
    client = client_of(thread)
    client.send(["AUTH", "ann", "ann-pw"])
    client.connection.connection_lost(None)
    thread.make()
    assert client.connection.flow.state is CLOSED
    assert client.transport.writes == []


def test_however_many_ask_for_the_same_check_and_go_few_are_kept() -> None:
    first = client_of(ByHand())
    for _ in range(1000):
        client = Client(first.store, first.door)
        client.send(["AUTH", "ann", "ann-pw"])
        client.connection.connection_lost(None)
    (check,) = first.door.principals._logins._checks.values()
    assert len(check.waiting) < 100


def test_too_many_logins_are_answered_as_overload() -> None:
    client = client_of(ByHand())
    transports = []
    for number in range(17):
        connection = RespConnection(client.store, client.door)
        transports.append(FakeTransport())
        connection.connection_made(transports[-1])
        connection.data_received(encode(["AUTH", "ann", f"x{number}"]))
    client.settle()
    assert b"".join(transports[16].writes) == (
        b"-BUSY too many logins wait to be checked (outcome=not_applied)\r\n"
    )
    assert all(each.writes == [] for each in transports[:16])


# --- a stranger's commands ------------------------------------------------------------------------


def test_a_stranger_may_send_ten_arguments_of_16_kib(stranger: Client) -> None:
    words = [b"x" * STRANGER_BULK_BYTES_MAX] * 9
    assert stranger.ask("NOPE", *words).startswith("ERR unknown command 'NOPE'")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (encode(["x"] * 11), "unauthenticated multibulk length"),
        (encode(["x", b"x" * (STRANGER_BULK_BYTES_MAX + 1)]), "unauthenticated bulk length"),
        (b"x" * (STRANGER_BULK_BYTES_MAX + 1), "too big inline request"),
        (b"x" * (STRANGER_BULK_BYTES_MAX + 1) + b"\r\n", "too big inline request"),
    ],
)
def test_what_is_longer_ends_the_connection(stranger: Client, data: bytes, text: str) -> None:
    stranger.feed(data)
    assert [str(each) for each in stranger.replies()] == [f"ERR Protocol error: {text}"]


def test_the_limits_are_lifted_by_the_login_that_is_sent_in_front(stranger: Client) -> None:
    pairs = [f"k{number}" for number in range(100)]
    stranger.send(["AUTH", "ann", "ann-pw"], ["MSET", *pairs], ["SET", "k", b"v" * 100_000])
    assert stranger.replies() == [b"OK", b"OK", b"OK"]


def test_a_stranger_that_sends_without_end_is_not_read(stranger: Client) -> None:
    stranger.feed(encode(["PING"]) * 1000)
    assert not stranger.transport.is_reading()
    assert len(stranger.replies()) == 1000
    assert stranger.transport.is_reading()


def test_half_a_command_of_a_stranger_is_taken_when_it_is_whole(stranger: Client) -> None:
    data = encode(["AUTH", "ann", "ann-pw"]) + encode(["GET", "k"])
    for at in range(len(data)):
        stranger.feed(data[at : at + 1])
        stranger.settle()
    assert stranger.replies() == [b"OK", None]


_WORDS = st.sampled_from(
    [
        *(b"AUTH", b"HELLO", b"RESET", b"QUIT", b"GET", b"SET", b"ACL", b"CONFIG", b"MULTI"),
        *(b"EXEC", b"FLUSHALL", b"2", b"3", b"k", b"ann", b"SETNAME", b"default", b"x", b""),
    ]
)
_COMMANDS = st.lists(
    st.lists(_WORDS | st.binary(max_size=12), min_size=1, max_size=8), min_size=1, max_size=6
)


@settings(max_examples=300)
@given(_COMMANDS, st.data())
def test_a_stranger_without_a_password_reaches_nothing_however_it_is_cut(
    commands: list[list[bytes]], data: st.DataObject
) -> None:
    client = client_of()
    sent = b"".join(map(encode, commands))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        if end > start and not client.transport.is_closing():
            client.feed(sent[start:end])
            client.settle()
    assert client.store.events == []
    assert client.connection.principal is NOBODY
    assert client.connection.protocol == 2
    for reply in client.replies():
        assert reply in (b"OK", b"RESET") or isinstance(reply, Exception), reply


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5))
def test_no_bytes_of_a_stranger_break_the_door(pieces: list[bytes]) -> None:
    client = client_of()
    for piece in pieces:
        if not client.transport.is_closing():
            client.feed(piece)
            client.settle()
    assert client.store.events == []
    assert client.connection.principal is NOBODY


_STEPS = st.lists(
    st.sampled_from(
        [
            *(("AUTH", "ann", "ann-pw"), ("AUTH", "app", "app-pw"), ("AUTH", "ann", "x")),
            *(("HELLO", "3", "AUTH", "ops", "ops-pw"), ("HELLO", "2"), ("RESET",)),
            *(("HELLO", "3", "AUTH", "ops", "x"), ("AUTH", "default-pw"), ("AUTH", "x")),
        ]
    ),
    max_size=8,
)


@given(_STEPS)
def test_who_a_client_is_follows_from_its_last_good_login(steps: list[tuple[str, ...]]) -> None:
    """A model of six lines beside the door."""
    client, who = client_of(), ""
    timers = client.door.principals._timers
    assert isinstance(timers, ManualTimers)
    for step in steps:
        client.send(step)
        timers.advance(DELAY_S_MAX)
        assert len(client.replies()) == 1
        if step[-1].endswith("-pw"):
            who = step[-2] if step[-2] != "AUTH" else "default"
        elif step == ("RESET",):
            who = ""
        reply = client.ask("ACL", "WHOAMI")
        assert reply == (who.encode() if who else NOAUTH)


# --- keys -----------------------------------------------------------------------------------------

_SAMPLES = {
    "set": ["k", "v"], "setex": ["k", "1", "v"], "psetex": ["k", "1", "v"],
    "getrange": ["k", "0", "1"], "substr": ["k", "0", "1"], "mset": ["app:1", "v", "k", "v"],
    "expire": ["k", "1"],
    "pexpire": ["k", "1"], "expireat": ["k", "1"], "pexpireat": ["k", "1"], "setnx": ["k", "v"],
    "getset": ["k", "v"], "incrby": ["k", "1"], "incrbyfloat": ["k", "1"], "decrby": ["k", "1"],
    "append": ["k", "v"], "setrange": ["k", "0", "v"], "msetnx": ["app:1", "v", "k", "v"],
    "getbit": ["k", "0"], "setbit": ["k", "0", "1"], "lcs": ["app:1", "k"],
    "rename": ["app:1", "k"], "renamenx": ["k", "app:1"], "copy": ["app:1", "k"],
    "quorate.cas": ["k", "", "v"], "quorate.lease|acquire": ["k", "me", "5"],
    "quorate.lease|renew": ["k", "00", "5"], "quorate.lease|release": ["k", "00"],
}  # fmt: skip
"""The arguments of commands that are not keys alone."""
_WITH_KEYS = [
    each
    for command in COMMANDS.values()
    for each in (command, *command.subcommands.values())
    if each.keys.first
]


@pytest.mark.parametrize("command", _WITH_KEYS, ids=lambda command: command.name)
def test_each_command_that_names_keys_is_bound_to_those_of_its_user(command: Any) -> None:
    client = client_of()
    client.ask("AUTH", "app", "app-pw")
    name, _, second = command.name.partition("|")
    words = [name, *([second] if second else []), *_SAMPLES.get(command.name, ["k"])]
    assert client.ask(*words) == "NOPERM User app has no permissions to access the 'k' key"
    assert client.store.events == []
    mine = ["app:1" if word == "k" else word for word in words]
    assert "NOPERM" not in str(client.ask(*mine))


def test_commands_that_name_no_key_are_not_bound(stranger: Client) -> None:
    stranger.store.fill(b"app:1", b"v")
    stranger.store.fill(b"other", b"v")
    stranger.ask("AUTH", "app", "app-pw")
    assert sorted(stranger.ask("KEYS", "*")) == [b"app:1", b"other"]
    assert len(stranger.ask("SCAN", "0", "COUNT", "100")[1]) == 2
    assert stranger.ask("RANDOMKEY") in (b"app:1", b"other")
    assert isinstance(stranger.ask("DBSIZE"), int)


def test_many_keys_and_slow_patterns_are_refused_before_they_take_long() -> None:
    slow = user("slow", "read", keys=tuple("*" + chr(97 + i) * 120 for i in range(26)))
    client = client_of(users=users_of(slow))
    client.ask("AUTH", "slow", "slow-pw")
    keys = [b"a" * 900 + b"%d" % number for number in range(100)]
    assert client.ask("MGET", *keys) == (
        "BUSY too many keys at once to compare with this user's patterns"
    )
    assert client.store.events == []


def test_a_key_is_shown_without_what_a_terminal_would_obey(stranger: Client) -> None:
    stranger.ask("AUTH", "app", "app-pw")
    reply = stranger.ask("GET", b"\r\n-x\x1b[2J" + b"k" * 500)
    assert reply.startswith("NOPERM User app has no permissions to access the '  -x [2Jkkk")
    assert len(reply) < 200


# --- admin, audit, ACL ----------------------------------------------------------------------------


def test_acts_of_an_admin_are_told_with_what_became_of_them(stranger: Client) -> None:
    stranger.ask("AUTH", "ops", "ops-pw")
    with capture_logs() as lines:
        stranger.ask("CONFIG", "RESETSTAT")
        stranger.ask("CONFIG", "SET", "maxmemory", "1")
        stranger.ask("FLUSHALL")
        stranger.ask("CONFIG", "GET", "*")
    told = [(line["event"], line["who"], line["what"], line["outcome"]) for line in lines]
    assert told == [
        ("admin_act", "ops", "config|resetstat", "begun"),
        ("admin_act", "ops", "config|set", "refused"),
        ("admin_act", "ops", "flushall", "refused"),
    ]
    assert all(line["audit"] and line["from"] == "127.0.0.1" for line in lines)


def test_refused_permissions_are_told_without_keys_and_counted(stranger: Client) -> None:
    stranger.ask("AUTH", "app", "app-pw")
    with capture_logs() as lines:
        for _ in range(5):
            stranger.ask("GET", "secret-key")
        stranger.ask("FLUSHALL")
    assert [line["what"] for line in lines] == ["get on a key"]
    assert "secret-key" not in str(lines)
    assert stranger.door.principals.audit.permissions_refused == 6


def test_acl_tells_of_users_and_never_of_passwords(stranger: Client) -> None:
    stranger.ask("AUTH", "ops", "ops-pw")
    assert stranger.ask("ACL", "USERS") == [b"ann", b"app", b"default", b"ops"]
    assert stranger.ask("ACL", "LIST") == [
        b"user ann on ~* -@all +@user +@read +@write",
        b"user app on ~app:* ~b? -@all +@user +@read +@write",
        b"user default on ~* -@all +@user +@read",
        b"user ops on ~* -@all +@user +@admin",
    ]
    assert stranger.ask("ACL", "GETUSER", "app") == [
        *(b"flags", [b"on"], b"passwords", [], b"commands", b"-@all +@user +@read +@write"),
        *(b"keys", b"~app:* ~b?", b"channels", b"", b"selectors", []),
    ]
    assert stranger.ask("ACL", "GETUSER", "nobody") is None


def test_acl_without_users_tells_of_default(client: Client) -> None:
    assert client.ask("ACL", "WHOAMI") == b"default"
    assert client.ask("ACL", "USERS") == [b"default"]
    assert client.ask("ACL", "LIST") == [b"user default on nopass ~* &* +@all"]
    assert client.ask("ACL", "GETUSER", "default")[1] == [b"on", b"nopass"]
    assert client.ask("ACL", "GETUSER", "ann") is None


def test_the_categories_of_acl_are_the_roles_of_the_table(client: Client) -> None:
    assert client.ask("ACL", "CAT") == [b"admin", b"read", b"stranger", b"user", b"write"]
    assert client.ask("ACL", "CAT", "stranger") == [b"auth", b"hello", b"quit", b"reset"]
    assert b"flushall" in client.ask("ACL", "CAT", "ADMIN")
    assert b"config|set" in client.ask("ACL", "CAT", "admin")
    assert client.ask("ACL", "CAT", "nope") == "ERR Unknown category 'nope'"
    assert "wrong number" in client.ask("ACL", "CAT", "read", "x")


def test_client_list_and_info_say_who_it_is(stranger: Client) -> None:
    stranger.ask("AUTH", "ops", "ops-pw")
    assert b" user=ops " in stranger.ask("CLIENT", "INFO")
    assert b" user=ops " in stranger.ask("CLIENT", "LIST")


def test_a_get_of_a_user_with_the_role_is_one_event(stranger: Client) -> None:
    stranger.ask("AUTH", "ann", "ann-pw")
    stranger.ask("GET", "k")
    stranger.ask("SET", "k", "v")
    assert [type(event) for event in stranger.store.events] == [Get, Put]
