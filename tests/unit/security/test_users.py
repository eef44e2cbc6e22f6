# SPDX-License-Identifier: GPL-3.0-or-later
"""The users file: what it may say, and what is said of its mistakes."""

from __future__ import annotations

import os
import stat
import string
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.security import users
from quorate.security.users import (
    PATTERN_BYTES_MAX,
    PATTERNS_MAX,
    ROLES,
    User,
    Users,
    UsersError,
    checked_networks,
    is_readable_by_others,
    parse_users,
    read_users,
    render_users,
    write_users,
)
from tests.principals import quick_hash, user, users_of

HASH = quick_hash("pw")
WHOLE = f"""
token-key = "{b64encode(bytes(range(32))).decode()}"

[users.ann]
password = "{HASH}"
roles = ["read", "write", "read"]
keys = ["app:*", "b\\u00fc"]
from = ["10.0.0.0/8", "::1", "192.168.1.7"]
certificate = "ann.example.org"

[users."b.b@c"]
roles = []
"""


def faults_of(text: str) -> list[str]:
    with pytest.raises(UsersError) as caught:
        parse_users(text)
    return caught.value.faults


def test_a_file_says_who_each_user_is() -> None:
    found = parse_users(WHOLE)
    assert found.token_key == bytes(range(32))
    assert found.by_name == {
        "ann": User(
            name="ann",
            password=HASH,
            roles=("read", "write"),
            keys=("app:*", "bü"),
            networks=checked_networks(["10.0.0.0/8", "::1", "192.168.1.7"]),
            certificate="ann.example.org",
        ),
        "b.b@c": User(name="b.b@c"),
    }


def test_an_empty_file_has_nobody() -> None:
    assert parse_users("") == Users({})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('user = "x"', "user: unknown; did you mean users?"),
        ("users = 1", "users: write a table for each user, [users.NAME]"),
        ("[users]\nann = 1", "users: write a table for each user, [users.NAME]"),
        ("[users.ann]", "users.ann: it has no roles: of read, write, admin, peer, or []"),
        ('[users.ann]\nroles = "read"', "users.ann.roles: write a list of strings"),
        ("[users.ann]\nroles = [1]", "users.ann.roles: write a list of strings"),
        (
            '[users.ann]\nroles = ["raed"]',
            "users.ann.roles: 'raed' is none of read, write, admin, peer; did you mean read?",
        ),
        ("[users.ann]\nroles = []\nkey = []", "users.ann.key: unknown; did you mean keys?"),
        ('[users.ann]\nroles = []\nkeys = [""]', "users.ann.keys: a pattern has 1 to 128 bytes"),
        (
            f'[users.ann]\nroles = []\nkeys = ["{"*" * (PATTERN_BYTES_MAX + 1)}"]',
            "users.ann.keys: a pattern has 1 to 128 bytes",
        ),
        (
            f"[users.ann]\nroles = []\nkeys = {[str(i) for i in range(PATTERNS_MAX + 1)]}",
            "users.ann.keys: at most 32 patterns",
        ),
        (
            '[users.ann]\nroles = []\nfrom = ["10.0.0.1/8"]',
            "users.ann.from: '10.0.0.1/8' is no address, as 10.0.0.1, and no network, as 10",
        ),
        (
            '[users.ann]\nroles = []\npassword = "secret"',
            "users.ann.password: it is no hash of a password: write it with quorate user passwd",
        ),
        ("[users.ann]\nroles = []\npassword = 1", "users.ann.password: write it with quorate user"),
        ('[users.ann]\nroles = []\ncertificate = ""', "users.ann.certificate: a name in a"),
        ("[users.cluster]\nroles = []", "users.cluster: this name is taken by the cluster itself"),
        ('[users."a:b"]\nroles = []', "users.a:b: a name is 1 to 64 letters, digits"),
        ('token-key = "x"', "token-key: write 32 bytes in base64, or leave it out"),
        ('token-key = "eA=="', "token-key: write 32 bytes in base64, or leave it out"),
        ("token-key = 1", "token-key: write 32 bytes in base64, or leave it out"),
        (
            '[users.a]\nroles = []\ncertificate = "x"\n[users.b]\nroles = []\ncertificate = "x"',
            "users.b.certificate: a has it already",
        ),
    ],
)
def test_a_mistake_is_told_by_where_it_is(text: str, fault: str) -> None:
    (told,) = faults_of(text)
    assert told.startswith(fault)
    assert "secret" not in told


def test_all_mistakes_are_told_at_once() -> None:
    assert len(faults_of('x = 1\n[users.a]\n[users.b]\nroles = ["x"]\nkeys = 1')) == 4


def test_more_users_than_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "USERS_MAX", 1)
    assert faults_of("[users.a]\nroles=[]\n[users.b]\nroles=[]") == ["users: at most 1"]


# --- on a disk ------------------------------------------------------------------------------------


def written(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def fault_of(path: Path) -> str:
    with pytest.raises(UsersError) as caught:
        read_users(path)
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "u.toml", "", mode)
    assert fault_of(path) == f"{path}: others can write it: chmod go-w {path}"


def test_whether_others_can_read_it_is_told(tmp_path: Path) -> None:
    assert not is_readable_by_others(written(tmp_path / "a", ""))
    assert is_readable_by_others(written(tmp_path / "b", "", 0o640))
    assert read_users(tmp_path / "b") == Users({})


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\xff", "'utf-8' codec can't decode"),
        (b"x = ", "Invalid value (at end of document)"),
        (b"x = " + b"[" * 10_000, "it is nested too deeply"),
        (b"x = 1", "x: unknown"),
        (b"#" * (users.FILE_BYTES_MAX + 1), "it has more than"),
    ],
)
def test_what_is_no_users_file_is_told_by_its_name(tmp_path: Path, data: bytes, fault: str) -> None:
    path = written(tmp_path / "u.toml", data)
    assert fault_of(path).startswith(f"{path}: {fault}")


def test_what_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "none") == f"{tmp_path / 'none'}: No such file or directory"
    assert fault_of(tmp_path) == f"{tmp_path}: it is no file"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert fault_of(pipe) == f"{pipe}: it is no file"


def test_a_file_is_written_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "u.toml", "", 0o644)
    given_users = users_of(user("ann", "read", keys=("a*",)))
    write_users(path, given_users)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_users(path) == given_users
    assert [each.name for each in tmp_path.iterdir()] == ["u.toml"]


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "u.toml", "# as it was")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_users(path, users_of(user("ann")))
    assert path.read_text() == "# as it was"
    assert [each.name for each in tmp_path.iterdir()] == ["u.toml"]


def test_a_link_to_the_file_stays_one(tmp_path: Path) -> None:
    path = written(tmp_path / "u.toml", "")
    link = tmp_path / "link"
    link.symlink_to(path)
    write_users(link, users_of(user("ann")))
    assert link.is_symlink()
    assert list(read_users(path).by_name) == ["ann"]


_NAMES = st.text(string.ascii_letters + string.digits + "._@-", min_size=1, max_size=64).filter(
    lambda name: name[0] not in "._@-" and name != "cluster"
)
_KEYS = st.none() | st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    unique=True,
    max_size=32,
).map(tuple)


@given(
    st.dictionaries(_NAMES, st.tuples(st.sets(st.sampled_from(ROLES)), _KEYS), max_size=5),
    st.just(b"") | st.binary(min_size=32, max_size=32),
)
def test_what_is_written_is_read_back(
    drawn: dict[str, tuple[set[str], tuple[str, ...] | None]], key: bytes
) -> None:
    made = Users(
        {
            name: User(name=name, roles=tuple(roles), keys=keys)
            for name, (roles, keys) in drawn.items()
        },
        key,
    )
    assert parse_users(render_users(made)) == made


def test_what_root_writes_stays_with_whom_it_belonged_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is not root goes on reading it."""
    given_to: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given_to.append((uid, gid)))
    path = tmp_path / "users.toml"
    write_users(path, users_of(user("ann")))
    assert given_to == []
    before = path.stat()
    write_users(path, users_of(user("bob")))
    assert given_to == [(before.st_uid, before.st_gid)]
