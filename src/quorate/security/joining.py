# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens: what lets a new node have the cluster's secret, so many times and until some moment.

As text a token is `qj1.` and base32 (RFC 4648, section 6, without padding, in small letters) of the
cluster's id (16 bytes), when it expires (8 bytes, seconds since 1970), a nonce (16 bytes), how many
it lets in (2 bytes), the public key of the cluster's certificate authority (32 bytes, Ed25519), and
HMAC-SHA256 of all that (32 bytes), by a key that is derived from the secret (`secret.JOIN_TOKENS`).

The newcomer knows by the authority's key whom it talks to before it shows anything; the cluster
knows by the HMAC that the token is its own. How often it was used, the layout says
(`core.topology.admission`). What the newcomer shows beside it, its *claim*, is 32 random bytes that
stay with it: with them, and with nothing that anybody else could see, it may ask again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from quorate.security.base32 import from_line, to_line
from quorate.security.certificates import authority_of, node_id_in
from quorate.security.secret import JOIN_TOKENS, derive_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PREFIX: Final = "qj1."
NONCE_BYTES: Final = 16
CLAIM_BYTES: Final = 32
TTL_S_MAX: Final = 30 * 86_400
_FORM: Final = struct.Struct(">16sQ16sH32s")
_PROOF_BYTES: Final = 32
_CHARACTERS: Final = 170


class JoinTokenError(ValueError):
    """The token cannot be used: one line that says what is and what to do, and never its text."""


class JoinToken(NamedTuple):
    """What a token says, whether or not it is genuine."""

    cluster: bytes
    expires_s: int
    nonce: bytes
    uses: int
    authority: bytes
    """The public key."""
    proof: bytes

    @property
    def name(self) -> str:
        """For the log: of the nonce, which opens nothing."""
        return self.nonce[:4].hex()

    def text(self) -> str:
        """As it is passed on."""
        return to_line(PREFIX, _FORM.pack(*self[:5]) + self.proof)

    def is_genuine(self, secret: bytes, *, cluster_name: str) -> bool:
        """Whether who has the secret made it."""
        return hmac.compare_digest(self.proof, _proof(self, secret, cluster_name))

    def has_issued(self, certificate: bytes) -> bool:
        """Whether its authority made this certificate (DER), for a node."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.x509 import InvalidVersion, load_der_x509_certificate

        try:
            shown = load_der_x509_certificate(certificate)
            key = Ed25519PublicKey.from_public_bytes(self.authority)
            key.verify(shown.signature, shown.tbs_certificate_bytes)
        except (InvalidSignature, InvalidVersion, ValueError):
            return False
        return node_id_in(shown) > 0


def new_token(
    secret: bytes, *, cluster_name: str, cluster: bytes, expires_s: int, uses: int
) -> JoinToken:
    """A token of the cluster with this id."""
    key: Ed25519PublicKey = authority_of(secret, cluster=cluster_name).key.public_key()
    nonce = secrets.token_bytes(NONCE_BYTES)
    token = JoinToken(cluster, expires_s, nonce, uses, key.public_bytes_raw(), b"")
    return token._replace(proof=_proof(token, secret, cluster_name))


def read_token(text: str) -> JoinToken:
    """What a token says. JoinTokenError."""
    text = text.strip().lower()
    try:
        whole = from_line(text, prefix=PREFIX, characters=_CHARACTERS, kind="a join token")
    except ValueError as fault:
        raise JoinTokenError(str(fault)) from None
    cluster, expires_s, nonce, uses, authority = _FORM.unpack(whole[:-_PROOF_BYTES])
    token = JoinToken(cluster, expires_s, nonce, uses, authority, whole[-_PROOF_BYTES:])
    if token.text() != text:
        # The last character has bits that mean nothing.
        raise JoinTokenError("the join token is not as it was made: copy it anew")
    return token


def new_claim() -> bytes:
    """What a newcomer proves by that it is the one that was let in."""
    return secrets.token_bytes(CLAIM_BYTES)


def claim_hash(claim: bytes) -> bytes:
    """16 bytes, by which the cluster knows a claim, and from which nobody can make it."""
    return hashlib.blake2b(claim, digest_size=16, person=b"quorate claim").digest()


def _proof(token: JoinToken, secret: bytes, cluster_name: str) -> bytes:
    key = derive_key(secret, cluster=cluster_name, purpose=JOIN_TOKENS)
    return hmac.digest(key, PREFIX.encode() + _FORM.pack(*token[:5]), "sha256")
