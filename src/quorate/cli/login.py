# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command shows who asks, and whom it trusts: by flags, or variables where no flag says it.

No secret is ever an argument: everybody on the machine can read those. `quorate get` imports this,
so what needs certificates is imported where there are some.
"""

from __future__ import annotations

import functools
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quorate.cli.arguments import Given, UsageError
from quorate.client.access import DEFAULT_USER, authorization_of, context_of

if TYPE_CHECKING:
    import ssl

_VARIABLES: Final = {
    "ca": "QUORATE_CA",
    "cert": "QUORATE_CERT",
    "cert-key": "QUORATE_CERT_KEY",
    "secret-file": "QUORATE_SECRET_FILE",
    "user": "QUORATE_USER",
}
"""Which variable says what a flag does."""
_PASSWORD: Final = "QUORATE_PASSWORD"
_TOKEN: Final = "QUORATE_TOKEN"
_SECRET: Final = "QUORATE_SECRET"
"""Variables that are the text itself."""
TLS_FLAGS: Final = ("ca", "cert", "cert-key", "secret-file")


def is_tls_meant(given: Given) -> bool:
    """Whether a node without a scheme is to be reached through TLS."""
    return any(_chosen(given, name) for name in TLS_FLAGS) or bool(os.environ.get(_SECRET))


def has_login(given: Given) -> bool:
    """Whether a password or a token is given."""
    return bool(_login(given))


def access_of(given: Given, *, is_tls: bool, shows_login: bool = True) -> dict[str, Any]:
    """The arguments of a `Client` that say who asks and, through TLS, who is trusted. UsageError
    names the flag or the variable of what cannot be used."""
    access: dict[str, Any] = _login(given) if shows_login else {}
    if not is_tls:
        return access
    secrets = _secrets(given)
    if secrets:
        from quorate.config import Config
        from quorate.security.certificates import PEER_NAME

        named = given.get("cluster") or os.environ.get("QUORATE_CLUSTER")
        cluster = named or Config().cluster
        return {**access, "tls": _holder(secrets, cluster), "server_name": PEER_NAME}
    ca, cert, key = (_chosen(given, name) for name in ("ca", "cert", "cert-key"))
    if key and not cert:
        raise UsageError("--cert-key: it is the key of --cert: give that too")
    return {**access, "tls": _trusting(ca, cert, key)}


def _chosen(given: Given, name: str) -> str | None:
    """What a flag says, or else its variable."""
    return given.get(name) or os.environ.get(_VARIABLES[name]) or None


# --- who is trusted ----------------------------------------------------------------------------


def _secrets(given: Given) -> tuple[bytes, ...]:
    """The cluster's secret, if it is given: that which signs first, where there are two."""
    file, text = _chosen(given, "secret-file"), os.environ.get(_SECRET)
    if "secret-file" in given and "ca" in given:
        raise UsageError("--ca: by --secret-file every node is known: leave --ca out")
    # A CA that is named for this command counts for more than what the surroundings say.
    if (not file and not text) or ("ca" in given and "secret-file" not in given):
        return ()
    from quorate.security.secret import SecretError, load_secrets, read_secrets

    try:
        return load_secrets(Path(file)) if file else read_secrets(text or "")
    except SecretError as fault:
        raise UsageError(f"{_shown(given, 'secret-file') if file else _SECRET}: {fault}") from None


def _shown(given: Given, name: str) -> str:
    return f"--{name}" if name in given else _VARIABLES[name]


# Cached: `status` makes a client for each member.
@functools.lru_cache(maxsize=1)
def _holder(secrets: tuple[bytes, ...], cluster: str) -> ssl.SSLContext:
    from quorate.security.contexts import holder_context

    return holder_context(*secrets, cluster=cluster)


@functools.lru_cache(maxsize=1)
def _trusting(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    try:
        return context_of(ca=ca, cert=(cert, key) if cert and key else cert)
    except ValueError as fault:
        name = "ca" if ca and str(fault).startswith(f"{ca}: ") else "cert"
        raise UsageError(f"--{name}: {fault}") from None


# --- who asks ----------------------------------------------------------------------------------


def _login(given: Given) -> dict[str, Any]:
    """A user and a password, or a token, or nothing. Flags count for more than variables."""
    is_user = "user" in given or "password-file" in given
    if "token-file" in given and is_user:
        raise UsageError("--token-file: a token stands for --user and its password: give one")
    login: dict[str, Any] = {}
    if "token-file" in given:
        login["token"] = _line_of(given, "token-file")
    elif not is_user and os.environ.get(_TOKEN):
        login["token"] = os.environ[_TOKEN].strip()
    else:
        user = _chosen(given, "user")
        password = _password(given, user)
        login = {} if password is None else {"user": user or DEFAULT_USER, "password": password}
    try:
        authorization_of(**{"user": None, "password": None, "token": None, **login})
    except ValueError as fault:
        raise UsageError(str(fault)) from None
    return login


def _password(given: Given, user: str | None) -> str | None:
    if "password-file" in given:
        return _line_of(given, "password-file")
    if _PASSWORD in os.environ:
        return os.environ[_PASSWORD]
    if user is None:
        return None
    if _PASSWORD not in given:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                f"{_shown(given, 'user')}: no password: give --password-file or {_PASSWORD}"
            )
        # Noted as if it had been given: a command asks once.
        given[_PASSWORD] = getpass.getpass(f"Password of {user}: ")
    return given[_PASSWORD]


def _line_of(given: Given, name: str) -> str:
    """The one line that is in a file, without its end."""
    try:
        with open(given[name], encoding="utf-8") as file:
            text = file.read().rstrip("\r\n")
    except OSError as fault:
        raise UsageError(f"--{name}: {given[name]}: {fault.strerror}") from None
    except ValueError:
        raise UsageError(f"--{name}: {given[name]}: it is no text in UTF-8") from None
    if not text:
        raise UsageError(f"--{name}: {given[name]}: it is empty")
    return text
