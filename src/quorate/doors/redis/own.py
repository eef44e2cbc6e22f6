# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that Redis does not have: compare-and-set by version, and leases.

A version is shown as hexadecimal digits, the empty text where nothing is there. Versions of a key
only rise, and as text they compare as they do as bytes. So the version of a lease is its fencing
token: who takes or renews the lease later has a higher one, and what is guarded by the lease can
refuse whoever comes with a lower one than it has seen.

None of these is for transactions: which version a key will have is known when all of it is done.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.values.events import Edited
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, RECORD_LENGTHS
from quorate.doors.access import Role
from quorate.doors.redis.command import (
    Access,
    Command,
    KeyPositions,
    container,
    reads_key,
    writes_key,
)
from quorate.doors.redis.expiry import MILLISECONDS, expires_ms, expiry_option, options_of
from quorate.doors.redis.one_key import begin
from quorate.doors.redis.plans import KeyCommand, kept_expiry, value_of, version_of
from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp

_FIRST: Final = "7.2.0"


def _get(session: Session, args: list[bytes]) -> None:
    def reply(before: Record | None, _after: Record | None) -> bytes:
        if before is None:
            return session.null
        return resp.encode([value_of(before), before.version.hex()], session.protocol)

    begin(session, args[1], KeyCommand(reply, shows=True), size=0)


def _cas(session: Session, args: list[bytes]) -> None:
    version, value = _version_argument(args[2]), args[3]
    options = options_of(args[4:], flags=(b"KEEPTTL",), rest=(b"KEEPTTL",))
    expires = expiry_option(session, options, command="quorate.cas")

    def edit(record: Record | None) -> Edited | None:
        if version_of(record) != version:
            return None
        return Edited(value, kept_expiry(record) if b"KEEPTTL" in options else expires)

    def reply(before: Record | None, after: Record | None) -> bytes:
        newest = before if after is None else after
        shown = None if newest is None else newest.version.hex()
        return resp.encode([int(after is not None), shown], session.protocol)

    begin(session, args[1], KeyCommand(reply, edit), size=len(value))


def _version_argument(argument: bytes) -> bytes:
    try:
        version = bytes.fromhex(argument.decode("ascii"))
    except ValueError:
        version = b"?"
    if len(version) not in (len(ABSENT), *RECORD_LENGTHS) or 2 * len(version) != len(argument):
        raise CommandError(
            "ERR a version has"
            f" {' or '.join(str(2 * length) for length in RECORD_LENGTHS)} hexadecimal digits, or"
            " none for a key that is not there"
        )
    return version


# --- leases --------------------------------------------------------------------------------------


def _acquire(session: Session, args: list[bytes]) -> None:
    expires = expires_ms(session, args[4], MILLISECONDS, command="quorate.lease|acquire")

    def edit(record: Record | None) -> Edited | None:
        return Edited(args[3], expires) if record is None else None

    begin(session, args[2], KeyCommand(partial(_token, session), edit), size=len(args[3]))


def _renew(session: Session, args: list[bytes]) -> None:
    token = _token_argument(args[3])
    expires = expires_ms(session, args[4], MILLISECONDS, command="quorate.lease|renew")

    def edit(record: Record | None) -> Edited | None:
        is_held = record is not None and record.version == token
        return Edited(value_of(record), expires) if is_held else None

    begin(session, args[2], KeyCommand(partial(_token, session), edit), size=0)


def _token(session: Session, _before: Record | None, after: Record | None) -> bytes:
    return session.null if after is None else resp.bulk(after.version.hex().encode())


def _release(session: Session, args: list[bytes]) -> None:
    token = _token_argument(args[3])

    def edit(record: Record | None) -> Edited | None:
        return Edited(None) if record is not None and record.version == token else None

    begin(
        session,
        args[2],
        KeyCommand(lambda _before, after: resp.integer(int(after is not None)), edit),
        size=0,
    )


def _token_argument(argument: bytes) -> bytes:
    version = _version_argument(argument)
    if version == ABSENT:
        raise CommandError("ERR a token is needed: what QUORATE.LEASE ACQUIRE or RENEW answered")
    return version


_lease = partial(
    Command,
    since=_FIRST,
    group="generic",
    role=Role.WRITE,
    access=Access.WRITE_MANY,
    keys=KeyPositions(2, 2, 1),
)

COMMANDS: Final = (
    reads_key(
        *("quorate.get", 2, _get, "Get the value of a key and its version", _FIRST),
        group="string",
    ),
    writes_key(
        *("quorate.cas", -4, _cas),
        summary="Set a key if it has a version, and get the version that it has then",
        since=_FIRST,
        group="string",
    ),
    container(
        "quorate.lease",
        summary="Commands about leases",
        group="generic",
        subcommands=(
            _lease("quorate.lease|acquire", 5, _acquire, "Take a lease that nobody has"),
            _lease("quorate.lease|renew", 5, _renew, "Keep a lease for longer, by its token"),
            _lease("quorate.lease|release", 4, _release, "Give a lease back, by its token"),
        ),
    ),
)
