# SPDX-License-Identifier: GPL-3.0-or-later
"""Who somebody is: by where a connection comes from, its certificate, a password or a token.

Without a users file everybody is ANYBODY who comes from this machine, or from anywhere if the node
`is_open`; others are strangers (NOBODY) unless they show a certificate of the cluster's own
(CLUSTER). With one, everybody is a stranger who does not log in or show a certificate.

A password takes a fifth of a second to check (`logins`), so who logged in is remembered for a while
by a keyed hash of what was shown. The users may change while the node runs: what was remembered is
forgotten, who was removed, or has another password, is a stranger on every connection at once, and
what others may is changed under them (`Principal`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from base64 import b64decode
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from quorate.doors.access import ANYBODY, CLUSTER, NOBODY, Patterns, Principal, Role
from quorate.doors.audit import Audit
from quorate.doors.guests import Guests, source_of
from quorate.doors.limits import Timers
from quorate.doors.logins import Logins, Thread
from quorate.errors import Outcome, Overloaded, QuorateError, Unauthenticated
from quorate.notation import is_loopback
from quorate.security.passwords import PASSWORD_BYTES_MAX, nobodys, parse_hash
from quorate.security.tokens import claims_of
from quorate.security.users import User, Users

REMEMBERED_MAX: Final = 1024
REMEMBERED_S: Final = 300.0
"""How long who logged in is remembered after the last time."""
_SCHEME_BYTES: Final = 16
"""Of a scheme's name: those that we know have less, and no more fits a digest."""
NOT_ACCEPTED: Final = "the user's name, password or token is not accepted"
"""Whatever is wrong with it: a guess learns nothing from it."""

Answer = Principal | QuorateError


class Applicant(Protocol):
    """Who waits to be logged in."""

    @property
    def is_gone(self) -> bool:
        """Whether its client is."""

    def logged_in(self, answer: Answer) -> None:
        """Hear who it is, or why not."""


class _Remembered(NamedTuple):
    principal: Principal
    until: float
    """On the loop's clock."""
    expires_ms: int
    """On the wall's, of a token; 0: never."""


class Principals:
    """Who is who at the doors of one node."""

    def __init__(
        self,
        timers: Timers,
        *,
        cluster: str,
        wall_ms: Callable[[], int],
        users: Users | None = None,
        is_open: bool = True,
        is_of_cluster: Callable[[asyncio.BaseTransport], bool] = lambda _: False,
        thread: Thread | None = None,
    ) -> None:
        """`is_open`: everybody may do everything where there are no users. `is_of_cluster`: whether
        a connection showed a certificate that the cluster made."""
        self.audit = Audit(timers)
        self.guests = Guests()
        self.asks = users is not None
        """Whether anybody has to log in."""
        self._timers = timers
        self._wall_ms = wall_ms
        self._cluster = cluster
        self._is_open = is_open
        self._is_of_cluster = is_of_cluster
        self._thread = thread or Thread()
        self._logins = Logins(timers, self._thread)
        self._salt = secrets.token_bytes(32)
        self._remembered: dict[bytes, _Remembered] = {}
        """Oldest first."""
        self._principals: dict[tuple[str, bool], Principal] = {}
        """Of users who logged in, by name and whether it was by a token."""
        self._users: Mapping[str, User] = {}
        self._by_certificate: dict[str, str] = {}
        self._token_key = b""
        self._nobodys = nobodys(None)
        if users is not None:
            self.use(users)

    def close(self) -> None:
        """Check no more passwords."""
        self._thread.close()

    def use(self, users: Users) -> None:
        """Let these be the users from now on, on connections that are there too."""
        before, self._users = self._users, users.by_name
        self._remembered.clear()
        are_tokens_over = users.token_key != self._token_key
        for (name, is_by_token), principal in list(self._principals.items()):
            user = users.by_name.get(name)
            is_over = is_by_token and are_tokens_over
            if user is None or is_over or _is_proved_otherwise(before[name], user):
                self._principals.pop((name, is_by_token))
                principal.become(NOBODY)
            else:
                principal.become(_principal_of(user))
        self._by_certificate = {
            user.certificate: name for name, user in users.by_name.items() if user.certificate
        }
        self._token_key = users.token_key
        kept = [parse_hash(user.password) for user in users.by_name.values() if user.password]
        self._nobodys = nobodys(max(kept, key=lambda each: each.cost, default=None))

    # --- without a word ---------------------------------------------------------------------------

    def at(self, transport: asyncio.BaseTransport) -> Principal:
        """Who a connection is before it says anything."""
        if self.trusts_everybody:
            return ANYBODY
        certificate = transport.get_extra_info("peercert")
        if certificate:
            if self._is_of_cluster(transport):
                return CLUSTER
            for name in _names_in(certificate):
                user = self._users.get(self._by_certificate.get(name, ""))
                if user is not None and _admits(user, source_of(transport)):
                    return self._principal(user)
        if not self.asks and is_loopback(source_of(transport)):
            return ANYBODY
        return NOBODY

    @property
    def trusts_everybody(self) -> bool:
        """Whether everybody may do everything, wherever they come from."""
        return self._is_open and not self.asks

    def trusts_machine(self, transport: asyncio.BaseTransport) -> bool:
        """Whether a connection may what it may because it comes from this machine."""
        return not (self._is_open or self.asks) and self.at(transport) is ANYBODY

    # --- by what is shown -------------------------------------------------------------------------

    def known(self, header: bytes, source: str) -> Principal | None:
        """Who an Authorization header was found to be before; None: `apply` has to tell."""
        scheme, shown = _parts(header)
        return self._recall(self._digest(scheme, shown), source)

    def apply(self, header: bytes, source: str, applicant: Applicant) -> None:
        """Tell `applicant`, perhaps at once, who an Authorization header is."""
        scheme, shown = _parts(header)
        digest = self._digest(scheme, shown)
        if scheme == b"bearer":
            applicant.logged_in(self._of_token(shown, source, digest))
            return
        name, colon, password = _decoded(shown).partition(b":")
        if scheme != b"basic" or not colon:
            applicant.logged_in(self._refused("", source, "http"))
            return
        self._check(name, password, source, "http", _Applied(self, applicant, digest))

    def log_in(self, name: bytes, password: bytes, source: str, applicant: Applicant) -> None:
        """Tell `applicant`, perhaps at once, whether a user's password is right."""
        self._check(name, password, source, "redis", applicant)

    def _check(
        self, name: bytes, password: bytes, source: str, door: str, applicant: Applicant
    ) -> None:
        digest = self._digest(b"password", name + b"\0" + password)
        known = self._recall(digest, source)
        if known is not None:
            self.audit.logins_ok += 1
            applicant.logged_in(known)
            return
        user = self._users.get(name.decode("utf-8", "replace"))
        # From elsewhere no password is right: one that were would not slow the next guess.
        is_checked = user is not None and user.password and _admits(user, source)
        kept = parse_hash(user.password) if user and is_checked else self._nobodys

        def answer(is_right: bool | None) -> Answer:
            if is_right is None:
                return _too_many_logins()
            # The users may have changed meanwhile.
            now = self._users.get(user.name) if user is not None else None
            if not is_right or now is None or user is None or now.password != user.password:
                return self._refused(now.name if now else "", source, door)
            return self._accepted(now, source, door, digest)

        if len(password) > PASSWORD_BYTES_MAX or password.endswith(b"\0"):
            # No password is so long, and to HMAC, of which its hash is made, one is the same with
            # zeros behind it. It is checked all the same, as one that is wrong.
            kept, password = self._nobodys, b""
        claimant = _Claimant(applicant, answer)
        self._logins.check(password, kept, digest=digest, address=source, claimant=claimant)

    def _of_token(self, token: bytes, source: str, digest: bytes) -> Answer:
        claims = claims_of(
            token, key=self._token_key, cluster=self._cluster, wall_ms=self._wall_ms()
        )
        user = self._users.get(claims.user) if claims is not None else None
        if claims is None or user is None:
            return self._refused("", source, "http")
        return self._accepted(user, source, "http", digest, expires_ms=claims.expires_ms)

    def _accepted(
        self, user: User, source: str, door: str, digest: bytes, *, expires_ms: int = 0
    ) -> Answer:
        if not _admits(user, source):
            return self._refused(user.name, source, door)
        self.audit.logins_ok += 1
        principal = self._principal(user, is_by_token=expires_ms > 0)
        self.remember(digest, principal, expires_ms)
        return principal

    def _refused(self, who: str, source: str, door: str) -> QuorateError:
        self.audit.login_refused(who=who, source=source, door=door)
        return Unauthenticated(NOT_ACCEPTED)

    def _principal(self, user: User, *, is_by_token: bool = False) -> Principal:
        name = user.name, is_by_token
        principal = self._principals.get(name)
        if principal is None:
            principal = self._principals[name] = _principal_of(user)
        return principal

    # --- who is remembered ------------------------------------------------------------------------

    def remember(self, digest: bytes, principal: Principal, expires_ms: int) -> None:
        """Know the next time whose credentials these are."""
        until = self._timers.time() + REMEMBERED_S
        self._remembered.pop(digest, None)
        self._remembered[digest] = _Remembered(principal, until, expires_ms)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.pop(next(iter(self._remembered)))

    def _recall(self, digest: bytes, source: str) -> Principal | None:
        found = self._remembered.get(digest)
        if found is None:
            return None
        principal, until, expires_ms = found
        left = until - self._timers.time()
        if left <= 0 or (expires_ms and self._wall_ms() >= expires_ms):
            self._remembered.pop(digest)
            return None
        user = self._users.get(principal.name)
        if user is None or not _admits(user, source):
            return None
        if left < REMEMBERED_S / 2:
            self.remember(digest, principal, expires_ms)
        return principal

    def _digest(self, kind: bytes, shown: bytes) -> bytes:
        return blake2b(shown, digest_size=16, key=self._salt, person=kind).digest()

    # --- for ACL ----------------------------------------------------------------------------------

    def user_names(self) -> list[str]:
        """The users that there are."""
        return sorted(self._users) if self.asks else [ANYBODY.name]

    def user(self, name: str) -> User | None:
        """What the file says of a user."""
        return self._users.get(name)


class _Claimant:
    """Waits for the check of a password for somebody."""

    __slots__ = ("_answer", "_applicant")

    def __init__(self, applicant: Applicant, answer: Callable[[bool | None], Answer]) -> None:
        self._applicant = applicant
        self._answer = answer

    @property
    def is_gone(self) -> bool:
        """Part of `logins.Claimant`."""
        return self._applicant.is_gone

    def checked(self, is_right: bool | None) -> None:
        """Part of `logins.Claimant`."""
        self._applicant.logged_in(self._answer(is_right))


class _Applied:
    """Remembers the header that was shown, once it is known whose it is."""

    __slots__ = ("_applicant", "_digest", "_principals")

    def __init__(self, principals: Principals, applicant: Applicant, digest: bytes) -> None:
        self._principals = principals
        self._applicant = applicant
        self._digest = digest

    @property
    def is_gone(self) -> bool:
        """Part of `Applicant`."""
        return self._applicant.is_gone

    def logged_in(self, answer: Answer) -> None:
        """Part of `Applicant`."""
        if isinstance(answer, Principal):
            self._principals.remember(self._digest, answer, 0)
        self._applicant.logged_in(answer)


def _principal_of(user: User) -> Principal:
    roles = frozenset({Role.STRANGER, Role.USER, *map(Role, user.roles)})
    if user.keys is None:
        return Principal(user.name, roles)
    key_roles = roles & {Role.READ, Role.WRITE}
    patterns = Patterns([each.encode() for each in user.keys])
    return Principal(user.name, roles - key_roles, key_roles, patterns)


def _is_proved_otherwise(before: User, after: User) -> bool:
    """Whether who logged in as this user might not be able to now."""
    return (before.password, before.networks, before.certificate) != (
        after.password,
        after.networks,
        after.certificate,
    )


def _admits(user: User, source: str) -> bool:
    if user.networks is None:
        return True
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return False
    return any(address in network for network in user.networks)


def _names_in(certificate: Mapping[str, Any]) -> list[str]:
    """The common name and the alternative names, as `SSLSocket.getpeercert` has them."""
    names = [
        value
        for part in certificate.get("subject", ())
        for kind, value in part
        if kind == "commonName"
    ]
    return names + [value for _, value in certificate.get("subjectAltName", ())]


def _parts(header: bytes) -> tuple[bytes, bytes]:
    """The scheme and what is shown of an Authorization header, in one spelling of the many."""
    scheme, _, shown = header.strip().partition(b" ")
    return scheme.lower()[:_SCHEME_BYTES], shown.strip()


def _decoded(text: bytes) -> bytes:
    """What is in base64; empty if it is none."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def _too_many_logins() -> Overloaded:
    return Overloaded("too many logins wait to be checked", outcome=Outcome.NOT_APPLIED)
