# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords as they are kept: scrypt (RFC 7914) in the PHC string format.

`$scrypt$ln=14,r=8,p=5$salt$digest`, both in base64 without padding: the form of passlib and of
Python's other libraries. A check takes a fifth of a second of a core and 16 MiB, which is what
makes a stolen file hard to use, so whoever checks does it in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from typing import Final, NamedTuple

PASSWORD_BYTES_MAX: Final = 1024
_LN, _R, _P = 14, 8, 5
"""OWASP's Password Storage Cheat Sheet: one of its equals, with the least memory."""
_LN_MOST, _R_MOST, _P_MOST = 16, 16, 16
_BYTES_MOST: Final = 64 << 20
"""Of memory for one check."""
_FORM: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)


class PasswordHash(NamedTuple):
    """What is kept of a password. `ln`: the logarithm of scrypt's N."""

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @property
    def cost(self) -> int:
        """What a check takes, in units of its own."""
        return (self.r * self.p) << self.ln

    def matches(self, password: bytes) -> bool:
        """Whether it is of this password. Slow on purpose; the time does not depend on which."""
        return hmac.compare_digest(_scrypt(password, self), self.digest)


def hash_password(password: bytes) -> str:
    """What to keep of a password."""
    kept = PasswordHash(_LN, _R, _P, secrets.token_bytes(16), bytes(32))
    digest = _scrypt(password, kept)
    return f"$scrypt$ln={_LN},r={_R},p={_P}${_base64(kept.salt)}${_base64(digest)}"


def parse_hash(text: str) -> PasswordHash:
    """ValueError if it is no hash, or one that takes more than a node should spend on a check."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("it is no hash of a password: write it with quorate user passwd")
    ln, r, p = map(int, found.group(1, 2, 3))
    if not (1 <= ln <= _LN_MOST and 1 <= r <= _R_MOST and 1 <= p <= _P_MOST):
        raise ValueError(f"scrypt takes at most ln={_LN_MOST}, r={_R_MOST}, p={_P_MOST}")
    # RFC 7914, section 6: N is less than 2 to the power of 16 r.
    if (128 * r) << ln > _BYTES_MOST or ln >= 16 * r:
        raise ValueError(f"ln={ln} and r={r} do not go together: take ln={_LN} and r={_R}")
    return PasswordHash(ln, r, p, _bytes(found[4]), _bytes(found[5]))


def nobodys(like: PasswordHash | None) -> PasswordHash:
    """A hash of no password that costs as much as `like`: what is compared for an unknown user."""
    ln, r, p = (like.ln, like.r, like.p) if like else (_LN, _R, _P)
    return PasswordHash(ln, r, p, secrets.token_bytes(16), secrets.token_bytes(32))


def _scrypt(password: bytes, kept: PasswordHash) -> bytes:
    n, length = 1 << kept.ln, len(kept.digest)
    memory = 128 * kept.r * (n + kept.p + 2) + (1 << 20)
    return hashlib.scrypt(
        password, salt=kept.salt, n=n, r=kept.r, p=kept.p, maxmem=memory, dklen=length
    )


def _base64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))
