# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens from a terminal: what a program shows instead of a user's password."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import parsed
from quorate.cli.output import complain, print_json
from quorate.config import Config
from quorate.notation import parse_duration
from quorate.security.tokens import Claims, issue
from quorate.security.users import UsersError, read_users

_TTL_MS_MAX: Final = 366 * 86_400_000


def issue_token(given: Given) -> int:
    """Print a token for a user. UsageError."""
    for name in ("user", "users"):
        if name not in given:
            raise UsageError(f"token issue: no {name}: write --user=NAME --users=FILE --ttl=8h")
    ttl_ms = parsed(given, "ttl", _ttl_ms) or 0
    path = Path(given["users"])
    try:
        users = read_users(path)
        if given["user"] not in users.by_name:
            raise UsersError([f"{path}: there is no user {given['user']!r}"])
        if not users.token_key:
            raise UsersError([f"{path}: it has no token-key: quorate user passwd writes one"])
    except UsersError as error:
        return complain("\n".join(error.faults), code="users", is_json="json" in given)
    expires_ms = int(time.time() * 1000) + ttl_ms
    claims = Claims(given["user"], expires_ms, given.get("cluster", Config().cluster))
    token = issue(claims, key=users.token_key)
    if "json" in given:
        print_json({"token": token, "user": claims.user, "expires_ms": expires_ms})
    else:
        print(token)
    return 0


def _ttl_ms(text: str) -> int:
    ttl_ms = parse_duration(text)
    if not 0 < ttl_ms <= _TTL_MS_MAX:
        raise ValueError(f"{text} is not from 1ms to 366 days")
    return ttl_ms
