# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's secret: 32 random bytes that make some nodes one cluster.

As text it is `qs1.` and 58 characters of base32 (RFC 4648, section 6, without padding): the bytes,
and behind them their CRC-32. That finds every wrong character and every two that changed places,
for it finds all changes within 32 bits. Written in small letters, read in any.

A file or variable holds one line, or two while the secret is being changed: the first signs, both
are accepted. Keys are derived from it with HKDF-SHA256 (RFC 5869): the salt is the cluster's name,
so that two clusters with one secret still refuse each other, and each purpose has an `info` of its
own, so that no key says anything about another.
"""

from __future__ import annotations

import os
import secrets
import stat
import zlib
from pathlib import Path
from typing import Final

from quorate.files import is_open, read_file
from quorate.security.base32 import from_line, to_line

PREFIX: Final = "qs1."
SECRET_BYTES: Final = 32
_CHARACTERS: Final = 58
_CHECK_BYTES: Final = 4
_FILE_BYTES_MAX: Final = 4096
SECRETS_MAX: Final = 2
AUTHORITY: Final = b"quorate 1: Ed25519 key of the certificate authority"
JOIN_TOKENS: Final = b"quorate 1: key of join tokens"
"""The purposes that keys are derived for."""
_NEW: Final = "`quorate secret new` makes one"


class SecretError(ValueError):
    """The secret cannot be used: one line that says what is and what to do, and never its text."""


def new_secret() -> bytes:
    """32 random bytes of the operating system."""
    return secrets.token_bytes(SECRET_BYTES)


def show_secret(secret: bytes) -> str:
    """The text of a secret."""
    whole = secret + zlib.crc32(secret).to_bytes(_CHECK_BYTES, "big")
    return to_line(PREFIX, whole)


def read_secret(text: str) -> bytes:
    """The secret that `text` is. SecretError, which does not repeat it."""
    text = text.strip().lower()
    try:
        whole = from_line(text, prefix=PREFIX, characters=_CHARACTERS, kind="a secret")
    except ValueError as fault:
        hint = "" if text.startswith(PREFIX) else f": {_NEW}"
        raise SecretError(f"{fault}{hint}") from None
    secret = whole[:SECRET_BYTES]
    # Written again, for the last character has bits that mean nothing and must be as written.
    if show_secret(secret) != text:
        raise SecretError(
            "the secret's check characters do not fit: it has a typing error: copy it again, from"
            " another node or from who made it"
        )
    return secret


def read_secrets(text: str) -> tuple[bytes, ...]:
    """One secret or two, each on a line. SecretError."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise SecretError(f"there is no secret: it is empty; {_NEW}")
    if len(lines) > SECRETS_MAX:
        raise SecretError(
            f"{len(lines)} lines: it holds one secret, or two while it is changed, the first signs"
        )
    return tuple(dict.fromkeys(read_secret(line) for line in lines))


def load_secrets(path: Path) -> tuple[bytes, ...]:
    """What the file holds. SecretError, also if others can read the file: then they know it."""
    return read_secrets(read_private(path))


def read_private(path: Path) -> str:
    """The text of a small file that only its owner can read, as far as POSIX says who can.
    SecretError, which names no path."""
    try:
        text, status = read_file(path, bytes_max=_FILE_BYTES_MAX)
    except OSError as error:
        raise SecretError(f"it cannot be read: {error.strerror}") from None
    if is_open(status):
        mode = stat.S_IMODE(status.st_mode)
        raise SecretError(f"others can read it (mode {mode:04o}): chmod 600 it")
    try:
        return text.decode("ascii")
    except UnicodeDecodeError:
        raise SecretError("it is no text: it holds a line or two of ASCII") from None


def write_secret(path: Path, secret: bytes) -> None:
    """Write a new file that only its owner can read. OSError; FileExistsError if it is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(show_secret(secret) + "\n")
        file.flush()
        os.fsync(file.fileno())


def derive_key(secret: bytes, *, cluster: str, purpose: bytes) -> bytes:
    """32 bytes for one purpose, the same wherever secret and cluster name are the same."""
    from cryptography.hazmat.primitives.hashes import SHA256  # Late: nodes without TLS need none.
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length=32, salt=cluster.encode(), info=purpose).derive(secret)
