# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate user: the file of who may log in."""

from __future__ import annotations

import getpass
import io
import json
import stat
import sys
from pathlib import Path

import pytest

from quorate.security.passwords import parse_hash
from quorate.security.users import User, read_users, write_users
from tests.principals import user, users_of
from tests.unit.cli.conftest import Ran, Run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.toml"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is the first line of standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hunter2\nmore\n")))


def user_of(path: Path, name: str) -> User:
    return read_users(path).by_name[name]


@pytest.mark.usefixtures("typed")
def test_add_makes_the_file_for_its_owner_alone_and_shows_no_password(run: Run, path: Path) -> None:
    ran = run("user", "add", str(path), "ann", "--roles=read,write", "--keys=app:*,b")
    assert ran == Ran(0, b"ann is a user now\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ann = user_of(path, "ann")
    assert (ann.roles, ann.keys, ann.networks) == (("read", "write"), ("app:*", "b"), None)
    assert parse_hash(ann.password).matches(b"hunter2")
    assert "hunter2" not in path.read_text()
    assert len(read_users(path).token_key) == 32


def test_a_terminal_is_asked_twice_without_showing_it(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    answers = ["one", "other"]
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda _: answers.pop(0))
    ran = run("user", "add", str(path), "ann", "--roles=read")
    assert (ran.code, ran.err) == (2, "quorate: the two are not the same\n")
    assert not path.exists()
    answers += ["same", "same"]
    assert run("user", "add", str(path), "ann", "--roles=read").code == 0
    assert parse_hash(user_of(path, "ann").password).matches(b"same")


@pytest.mark.usefixtures("typed")
def test_a_user_may_have_no_role_which_is_said(run: Run, path: Path) -> None:
    """It may ask what every user may, as for metrics."""
    assert run("user", "add", str(path), "watch", "--roles=none").code == 0
    assert user_of(path, "watch").roles == ()
    assert run("user", "list", str(path)).out.splitlines()[1].split(b"\t")[2] == b"none"


@pytest.mark.usefixtures("typed")
def test_passwd_changes_the_password_alone(run: Run, path: Path) -> None:
    before = users_of(user("ann", "read", keys=("a*",)), user("bob"))
    write_users(path, before)
    assert run("user", "passwd", str(path), "ann").code == 0
    after = read_users(path)
    ann = after.by_name["ann"]
    assert parse_hash(ann.password).matches(b"hunter2")
    assert (ann.roles, ann.keys) == (("read",), ("a*",))
    assert after.by_name["bob"] == before.by_name["bob"]
    assert after.token_key == before.token_key


def test_remove_takes_one_user_out(run: Run, path: Path) -> None:
    write_users(path, users_of(user("ann"), user("bob")))
    assert run("user", "remove", str(path), "ann").code == 0
    assert list(read_users(path).by_name) == ["bob"]


def test_a_user_may_have_no_password(run: Run, path: Path) -> None:
    flags = ["--roles=admin", "--no-password", "--certificate=ops.example", "--from=10.0.0.0/8,::1"]
    assert run("user", "add", str(path), "ops", *flags).code == 0
    ops = user_of(path, "ops")
    assert (ops.password, ops.certificate) == ("", "ops.example")
    assert list(map(str, ops.networks or ())) == ["10.0.0.0/8", "::1/128"]


def test_list_shows_all_but_the_hashes(run: Run, path: Path) -> None:
    write_users(path, users_of(user("ann", "read", keys=("a*",)), user("c", password="")))
    ran = run("user", "list", str(path))
    assert ran.out.decode().splitlines() == [
        "name\tpassword\troles\tkeys\tfrom\tcertificate",
        "ann\tyes\tread\ta*\t-\t-",
        "c\tno\tnone\t-\t-\t-",
    ]
    shown = json.loads(run("user", "list", str(path), "--json").out)["users"]
    assert shown[0] == {
        "name": "ann",
        "password": True,
        "roles": ["read"],
        "keys": ["a*"],
        "from": None,
        "certificate": None,
    }
    assert b"scrypt" not in ran.out


def test_check_finds_mistakes_and_readers(run: Run, path: Path) -> None:
    write_users(path, users_of(user("ann")))
    ran = run("user", "check", str(path))
    assert ran == Ran(0, f"{path}: 1 users, no mistakes\n".encode(), "")
    path.chmod(0o644)
    ran = run("user", "check", str(path))
    assert ran.code == 1
    assert ran.err == f"quorate: {path}: others can read the hashes: chmod go= {path}\n"
    path.write_text('x = 1\n[users.a]\nroles = ["raed"]\n')
    ran = run("user", "check", str(path))
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 2
    assert json.loads(run("user", "check", str(path), "--json").out)["error"]["code"] == "users"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ad", "FILE", "x"], "user: 'ad' is none of add, passwd, list, remove, check"),
        (["add", "FILE"], "user add: it needs a name: write quorate user add FILE [NAME]"),
        (["list", "FILE", "x"], "user list: it takes no name: write quorate user list FILE [NAME]"),
        (["add", "FILE", "a:b", "--roles=read"], "'a:b': a name is 1 to 64 letters, digits"),
        (
            ["add", "FILE", "x"],
            "user add: no roles: write --roles=read,write, for ex",
        ),
        (["add", "FILE", "x", "--roles=none,read"], "--roles: 'none' is none of read, write"),
        (["add", "FILE", "x", "--roles=raed"], "--roles: 'raed' is none of read, write"),
        (["add", "FILE", "x", "--roles=read", "--from=x"], "--from: 'x' is no address"),
        (["add", "FILE", "ann", "--roles=read"], "FILE: ann is there already: quorate user passwd"),
        (["passwd", "FILE", "bob"], "FILE: there is no user 'bob'"),
        (["remove", "FILE", "bob"], "FILE: there is no user 'bob'"),
        (["passwd", "NONE", "bob"], "NONE: No such file or directory"),
        (["list"], "user: no file: write quorate user ACT FILE"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    run: Run, path: Path, arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    write_users(Path("FILE"), users_of(user("ann")))
    before = Path("FILE").read_bytes()
    ran = run("user", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith(f"quorate: {text}")
    assert len(ran.err.splitlines()) == 1
    assert Path("FILE").read_bytes() == before


@pytest.mark.parametrize("given", [b"", b"\n", b"x" * 1025])
def test_no_password_and_one_that_is_too_long_are_refused(
    run: Run, path: Path, given: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    ran = run("user", "add", str(path), "ann", "--roles=read")
    assert (ran.code, ran.err) == (2, "quorate: a password has 1 to 1024 bytes\n")
    assert not path.exists()
