# SPDX-License-Identifier: GPL-3.0-or-later
"""The users file from a terminal: who may log in at nodes that are given it."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import parsed
from quorate.cli.output import complain, print_json, print_table
from quorate.security.passwords import PASSWORD_BYTES_MAX, hash_password
from quorate.security.users import (
    User,
    Users,
    UsersError,
    checked_certificate,
    checked_name,
    checked_networks,
    checked_patterns,
    checked_roles,
    is_readable_by_others,
    new_token_key,
    read_users,
    write_users,
)

_NO_ROLES: Final = ["none"]
"""What `--roles` says of a user who may ask what every user may, and no more."""


def _wished_roles(given: list[str]) -> tuple[str, ...]:
    return () if given == _NO_ROLES else checked_roles(given)


_FIELDS: Final = {
    "roles": ("roles", _wished_roles),
    "keys": ("keys", checked_patterns),
    "from": ("networks", checked_networks),
}
"""Flags that are lists, the field of each, and what reads it."""


def run_user(given: Given) -> int:
    """Do what is asked for with the users file. UsageError."""
    act = given["act"]
    if act not in _ACTS:
        raise UsageError(f"user: {act!r} is none of {', '.join(_ACTS)}")
    if ("name" in given) != (act in ("add", "passwd", "remove")):
        shown = "takes no name" if "name" in given else "needs a name"
        raise UsageError(f"user {act}: it {shown}: write quorate user {act} FILE [NAME]")
    try:
        return _ACTS[act](Path(given["file"]), given)
    except UsersError as error:
        return complain("\n".join(error.faults), code="users", is_json="json" in given)
    except OSError as error:
        text = f"{given['file']}: {error.strerror}"
        return complain(text, code="users", is_json="json" in given)


def _add(path: Path, given: Given) -> int:
    users = read_users(path) if path.exists() else Users({}, new_token_key())
    name = _name(given)
    if name in users.by_name:
        raise UsersError([f"{path}: {name} is there already: quorate user passwd, or remove"])
    if "roles" not in given:
        raise UsageError("user add: no roles: write --roles=read,write, for example, or none")
    fields = _fields(given)
    password = "" if "no-password" in given else hash_password(_asked_password())
    added = User(name=name, password=password, **fields)  # type: ignore[arg-type]
    _write(path, users, {**users.by_name, name: added})
    return _done(given, f"{name} is a user now")


def _passwd(path: Path, given: Given) -> int:
    users = read_users(path)
    user = _existing(path, users, given)
    changed = msgspec.structs.replace(user, password=hash_password(_asked_password()))
    _write(path, users, {**users.by_name, user.name: changed})
    return _done(given, f"{user.name} has another password now")


def _remove(path: Path, given: Given) -> int:
    users = read_users(path)
    user = _existing(path, users, given)
    left = {name: each for name, each in users.by_name.items() if name != user.name}
    _write(path, users, left)
    return _done(given, f"{user.name} is no user any more")


def _list(path: Path, given: Given) -> int:
    users = read_users(path)
    shown = [_shown(user) for user in users.by_name.values()]
    if "json" in given:
        print_json({"users": shown})
    else:
        columns = ("name", "password", "roles", "keys", "from", "certificate")
        print_table(columns, [[_cell(each[column]) for column in columns] for each in shown])
    return 0


def _check(path: Path, given: Given) -> int:
    users = read_users(path)
    if is_readable_by_others(path):
        fault = f"{path}: others can read the hashes: chmod go= {shlex.quote(str(path))}"
        return complain(fault, code="users", is_json="json" in given, exit_code=1)
    return _done(given, f"{path}: {len(users.by_name)} users, no mistakes")


_ACTS: Final[Mapping[str, Callable[[Path, Given], int]]] = {
    "add": _add,
    "passwd": _passwd,
    "list": _list,
    "remove": _remove,
    "check": _check,
}


def _shown(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "password": bool(user.password),
        "roles": list(user.roles),
        "keys": None if user.keys is None else list(user.keys),
        "from": None if user.networks is None else list(map(str, user.networks)),
        "certificate": user.certificate or None,
    }


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (",".join(value) or "none") if isinstance(value, list) else value


def _name(given: Given) -> str:
    try:
        return checked_name(given["name"])
    except ValueError as fault:
        raise UsageError(f"{given['name']!r}: {fault}") from None


def _existing(path: Path, users: Users, given: Given) -> User:
    user = users.by_name.get(given["name"])
    if user is None:
        raise UsersError([f"{path}: there is no user {given['name']!r}"])
    return user


def _fields(given: Given) -> dict[str, object]:
    fields: dict[str, object] = {}
    for flag, (field, parse) in _FIELDS.items():
        value = parsed(given, flag, lambda text, parse=parse: parse(_items(text)))  # type: ignore[misc]
        if value is not None:
            fields[field] = value
    certificate = parsed(given, "certificate", checked_certificate)
    return {**fields, "certificate": certificate} if certificate else fields


def _items(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _write(path: Path, users: Users, by_name: Mapping[str, User]) -> None:
    write_users(path, Users(by_name, users.token_key or new_token_key()))


def _asked_password() -> bytes:
    """A password from the terminal, typed twice, or the first line of standard input."""
    if sys.stdin.isatty():
        text = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != text:
            raise UsageError("the two are not the same")
        password = os.fsencode(text)
    else:
        password = sys.stdin.buffer.readline(PASSWORD_BYTES_MAX + 2).rstrip(b"\r\n")
    if not 0 < len(password) <= PASSWORD_BYTES_MAX:
        raise UsageError(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes")
    return password


def _done(given: Given, text: str) -> int:
    if "json" in given:
        print_json({"done": text})
    else:
        print(text)
    return 0
