# SPDX-License-Identifier: GPL-3.0-or-later
"""The users file: who may log in, how that is proved, and what they may then do.

    token-key = "..."             # signs tokens; made by `quorate user`

    [users.ann]
    password = "$scrypt$..."      # made by `quorate user`
    roles = ["read", "write"]     # of read, write, admin, peer; none implies another
    keys = ["app:*"]              # reads and writes of these alone; without it, of every key
    from = ["10.0.0.0/8"]         # logs in from there alone; without it, from everywhere
    certificate = "ann.example"   # a name in a client's certificate that is this user

All of a file is checked before any of it is used, and all its faults are told together.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
import tempfile
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from quorate.files import IS_POSIX, read_file
from quorate.notation import nearest
from quorate.security.passwords import parse_hash
from quorate.security.tokens import KEY_BYTES

ROLES: Final = ("read", "write", "admin", "peer")
USERS_MAX: Final = 10_000
FILE_BYTES_MAX: Final = 16 << 20
PATTERNS_MAX: Final = 32
PATTERN_BYTES_MAX: Final = 128
NETWORKS_MAX: Final = 64
_RESERVED: Final = frozenset({"cluster"})
"""Who shows a certificate of the cluster's own."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_CERTIFICATE: Final = re.compile(r"[!-~]{1,255}")
_HEADER: Final = "# Written by `quorate user`, which keeps no comments.\n"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Value = TypeVar("Value")


class UsersError(Exception):
    """The file cannot be used. `faults`: one line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One user, as the file has it."""

    name: str
    password: str = ""
    """The hash; empty: there is none, and only a token or a certificate is this user."""
    roles: tuple[str, ...] = ()
    keys: tuple[str, ...] | None = None
    """Patterns; None: every key."""
    networks: tuple[Network, ...] | None = None
    certificate: str = ""


class Users(msgspec.Struct, frozen=True):
    """A whole file."""

    by_name: Mapping[str, User]
    token_key: bytes = b""
    """Empty: tokens are not signed by this file."""


# --- reading -------------------------------------------------------------------------------------


def read_users(path: Path) -> Users:
    """The users in a file that only its owner may change. UsersError with every fault there is."""
    try:
        data, status = read_file(path, bytes_max=FILE_BYTES_MAX)
    except OSError as fault:
        raise UsersError([f"{path}: {fault.strerror}"]) from None
    _check_mode(path, status)
    try:
        return parse_users(data.decode("utf-8"))
    except RecursionError:
        raise UsersError([f"{path}: it is nested too deeply"]) from None
    except ValueError as fault:
        raise UsersError([f"{path}: {fault}"]) from None
    except UsersError as error:
        raise UsersError([f"{path}: {fault}" for fault in error.faults]) from None


def is_readable_by_others(path: Path) -> bool:
    """Whether someone else could take the hashes away and try passwords on them."""
    return IS_POSIX and bool(path.stat().st_mode & 0o044)


def _check_mode(path: Path, status: os.stat_result) -> None:
    if not IS_POSIX:
        return
    if status.st_mode & 0o022:
        raise UsersError([f"{path}: others can write it: chmod go-w {path}"])
    # Who is root may have written it for a node that is not.
    if os.geteuid() not in (0, status.st_uid) and status.st_uid:
        raise UsersError([f"{path}: it belongs to another user of this machine: chown it"])


def parse_users(text: str) -> Users:
    """The users in a file's text. UsersError, and ValueError if it is no TOML."""
    table, faults = tomllib.loads(text), _Faults()
    for name in table:
        if name not in ("users", "token-key"):
            faults.tell(name, f"unknown{nearest(name, ('users', 'token-key'))}")
    found = table.get("users", {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise UsersError(["users: write a table for each user, [users.NAME]"])
    if len(found) > USERS_MAX:
        raise UsersError([f"users: at most {USERS_MAX}"])
    by_name = {name: _user(name, fields, faults) for name, fields in found.items()}
    key = faults.value("token-key", table.get("token-key", ""), _token_key) or b""
    _check_certificates(by_name, faults)
    if faults.told:
        raise UsersError(faults.told)
    return Users(by_name, key)


class _Faults:
    """Collects what is wrong."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, where: str, what: str) -> None:
        """Note a fault."""
        self.told.append(f"{where}: {what}")

    def value(self, where: str, given: object, parse: Callable[[object], Value]) -> Value | None:
        """What `parse` makes of a field; None, and a fault, where it raises ValueError."""
        try:
            return parse(given)
        except ValueError as fault:
            self.tell(where, str(fault))
            return None


def _user(name: str, fields: Mapping[str, object], faults: _Faults) -> User:
    faults.value(f"users.{name}", name, checked_name)
    values: dict[str, Any] = {}
    for field, given in fields.items():
        where = f"users.{name}.{field}"
        if field not in _FIELDS:
            faults.tell(where, f"unknown{nearest(field, _FIELDS)}")
            continue
        target, parse = _FIELDS[field]
        values[target] = faults.value(where, given, parse)
    if "roles" not in fields:
        faults.tell(f"users.{name}", f"it has no roles: of {', '.join(ROLES)}, or []")
    return User(name=name) if faults.told else User(name=name, **values)


def checked_name(given: object) -> str:
    """A user's name. ValueError."""
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise ValueError("a name is 1 to 64 letters, digits, '.', '_', '@', '-'")
    if given in _RESERVED:
        raise ValueError("this name is taken by the cluster itself")
    return given


def checked_roles(given: object) -> tuple[str, ...]:
    """Roles. ValueError."""
    roles = _texts(given, "roles", len(ROLES))
    for role in roles:
        if role not in ROLES:
            raise ValueError(f"{role!r} is none of {', '.join(ROLES)}{nearest(role, ROLES)}")
    return roles


def checked_patterns(given: object) -> tuple[str, ...]:
    """Patterns of keys. ValueError."""
    patterns = _texts(given, "patterns", PATTERNS_MAX)
    for pattern in patterns:
        if not pattern or len(pattern.encode()) > PATTERN_BYTES_MAX:
            raise ValueError(f"a pattern has 1 to {PATTERN_BYTES_MAX} bytes")
    return patterns


def checked_networks(given: object) -> tuple[Network, ...]:
    """Addresses and networks. ValueError."""
    found: list[Network] = []
    for text in _texts(given, "networks", NETWORKS_MAX):
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            raise ValueError(
                f"{text!r} is no address, as 10.0.0.1, and no network, as 10.0.0.0/8"
            ) from None
    return tuple(found)


def _password(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError("write it with quorate user passwd")
    parse_hash(given)
    return given


def checked_certificate(given: object) -> str:
    """A name as certificates have it. ValueError."""
    if not isinstance(given, str) or not _CERTIFICATE.fullmatch(given):
        raise ValueError("a name in a certificate is 1 to 255 visible characters")
    return given


def _token_key(given: object) -> bytes:
    fault = ValueError(f"write {KEY_BYTES} bytes in base64, or leave it out")
    if given == "":
        return b""
    if not isinstance(given, str):
        raise fault
    try:
        key = b64decode(given, validate=True)
    except ValueError:
        raise fault from None
    if len(key) != KEY_BYTES:
        raise fault
    return key


def _texts(given: object, what: str, count_max: int) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise ValueError("write a list of strings")
    if len(given) > count_max:
        raise ValueError(f"at most {count_max} {what}")
    return tuple(dict.fromkeys(given))


_FIELDS: Final[Mapping[str, tuple[str, Callable[[object], object]]]] = {
    "password": ("password", _password),
    "roles": ("roles", checked_roles),
    "keys": ("keys", checked_patterns),
    "from": ("networks", checked_networks),
    "certificate": ("certificate", checked_certificate),
}


def _check_certificates(by_name: Mapping[str, User], faults: _Faults) -> None:
    owners: dict[str, str] = {}
    for user in by_name.values():
        if user.certificate and owners.setdefault(user.certificate, user.name) != user.name:
            faults.tell(
                f"users.{user.name}.certificate", f"{owners[user.certificate]} has it already"
            )


# --- writing -------------------------------------------------------------------------------------


def new_token_key() -> bytes:
    """A key for `Users.token_key`."""
    return secrets.token_bytes(KEY_BYTES)


def write_users(path: Path, users: Users) -> None:
    """Put `users` in the place of what a file has, whole or not at all; for its owner alone."""
    text = render_users(users)
    parse_users(text)
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if IS_POSIX and path.exists() and os.geteuid() == 0:
                # A node that is not root goes on reading it.
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def render_users(users: Users) -> str:
    """The text of a file."""
    lines = [_HEADER]
    if users.token_key:
        lines.append(f"token-key = {_quoted(b64encode(users.token_key).decode())}\n")
    for user in users.by_name.values():
        lines.append(f"\n[users.{_quoted(user.name)}]\n")
        if user.password:
            lines.append(f"password = {_quoted(user.password)}\n")
        lines.append(f"roles = {_list(user.roles)}\n")
        if user.keys is not None:
            lines.append(f"keys = {_list(user.keys)}\n")
        if user.networks is not None:
            lines.append(f"from = {_list(map(str, user.networks))}\n")
        if user.certificate:
            lines.append(f"certificate = {_quoted(user.certificate)}\n")
    return "".join(lines)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    # A JSON string is a TOML string but for DEL, and for what is beyond 16 bits if it is escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
