# SPDX-License-Identifier: GPL-3.0-or-later
"""How a client shows who it is, and by what it knows a node: a login, a token, certificates.

Whatever cannot be used (a file that is not there, a password without a form) is a ValueError that
says what to give instead, before anything is sent.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

File = str | os.PathLike[str]
DEFAULT_USER: Final = "default"
"""Whose password it is where no user is named, as in Redis."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, 2.1."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Credentials:
    """What a client shows to nodes. Its `repr` tells no secret."""

    __slots__ = ("authorization", "context", "server_name")

    def __init__(
        self,
        *,
        authorization: str = "",
        context: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self.authorization = authorization
        """The value of the header `Authorization`; empty: none is sent."""
        self.context = context
        """None: without TLS."""
        self.server_name = server_name
        """The name that nodes' certificates have; None: the host's in each URL."""

    def with_context(self, context: ssl.SSLContext) -> Credentials:
        """The same, through TLS."""
        return Credentials(
            authorization=self.authorization, context=context, server_name=self.server_name
        )


PLAIN: Final = Credentials()
"""Nothing is shown, and nothing protected."""


def authorization_of(*, user: str | None, password: str | None, token: str | None) -> str:
    """The header `Authorization` of a login (RFC 7617) or a token (RFC 6750); empty for neither."""
    if token is not None:
        if user is not None or password is not None:
            raise ValueError("a token stands for a user and a password: give one or the other")
        if not _TOKEN.fullmatch(token):
            raise ValueError("the token is none: a token has letters, digits and -._~+/= alone")
        return f"Bearer {token}"
    if password is None:
        if user is not None:
            raise ValueError(f"the password of the user {user!r} is missing")
        return ""
    user = DEFAULT_USER if user is None else user
    if not user or ":" in user or _CONTROL.search(user):
        raise ValueError("a user's name is not empty, and has no colon and no control character")
    if _CONTROL.search(password):
        raise ValueError("the password has a line break, or another control character")
    import base64  # Late: most clients need none.

    try:
        both = f"{user}:{password}".encode()
    except UnicodeEncodeError:
        raise ValueError("the name and the password of a user are UTF-8") from None
    return f"Basic {base64.b64encode(both).decode()}"


def chosen_context(
    tls: ssl.SSLContext | bool, *, ca: File | None, cert: File | tuple[File, File] | None
) -> ssl.SSLContext | None:
    """How TLS is spoken, as the arguments of a client say; None where they say nothing of it."""
    is_more = ca is not None or cert is not None
    if isinstance(tls, bool):
        return context_of(ca=ca, cert=cert) if tls or is_more else None
    if is_more:
        raise ValueError("tls= is a context: load the CA and the certificate into it")
    return tls


def context_of(
    *, ca: File | None = None, cert: File | tuple[File, File] | None = None
) -> ssl.SSLContext:
    """How TLS is spoken: nodes are known by the CAs in the file `ca`, or those of the system, and
    by their name; `cert` is shown to them, a file of certificate and key, or one of each."""
    import ssl  # Late: it takes longer to import than a node to answer.

    context = ssl.create_default_context() if ca is None else _trusting(ca)
    # Python sets it before 3.11.4: an answer that was cut off would pass for a whole one.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if cert is None:
        return context
    chain, key = cert if isinstance(cert, tuple) else (cert, cert)
    # Looked at first: the library's own fault names no file.
    for file in (chain, key):
        _text(file)
    try:
        context.load_cert_chain(chain, key, password=_no_passphrase)
    except ssl.SSLError as fault:
        if fault.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key}: the key does not belong to the certificate") from None
        shown = str(chain) if chain == key else f"{chain}, {key}"
        raise ValueError(f"{shown}: no certificate in PEM with its key in PEM") from None
    return context


def _trusting(ca: File) -> ssl.SSLContext:
    import ssl

    text = _text(ca)
    try:
        if text.strip():  # Of an empty text the system's CAs would be made.
            return ssl.create_default_context(cadata=text)
    except ssl.SSLError:
        pass
    raise ValueError(f"{ca}: no certificate of a CA, in PEM")


def _text(file: File) -> str:
    """What is in the file. What is no ASCII may stand beside what is PEM, and is left out."""
    try:
        with open(file, encoding="ascii", errors="ignore") as opened:
            return opened.read()
    except OSError as fault:
        raise ValueError(f"{file}: {fault.strerror}") from None


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, which nobody is asked for: give it without one")
