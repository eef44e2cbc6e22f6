# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table from errors to answers: HTTP status and title, RESP prefix.

Everything that depends only on the class of an error is here; what happened (detail, outcome,
facts) is in the error itself. RESP prefixes are those that Redis clients already know how to treat
(`LOADING` and `BUSY` are retried by several of them).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from quorate.errors import (
    NEVER_BEGUN,
    ClockUntrusted,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    DiskFull,
    Forbidden,
    FormatUnsupported,
    InvalidRequest,
    KeyMissing,
    KeyTooLarge,
    NotReady,
    Outcome,
    Overloaded,
    PeerProtocolError,
    PreconditionFailed,
    QuorateError,
    QuorumUnreachable,
    StorageBusy,
    StorageError,
    StorageLocked,
    Unauthenticated,
    Unavailable,
    ValueTooLarge,
)


class ErrorAnswer(NamedTuple):
    """How a class of errors is told to clients."""

    status: int
    """HTTP status."""
    prefix: str
    """First word of the RESP error."""
    title: str
    """The problem in a few words, the same for every occurrence (RFC 9457, 3.1.3)."""


# A full or stalled disk is 503 and not 507 or 500: another node may well take the same request.
ANSWERS: Final[dict[type[QuorateError], ErrorAnswer]] = {
    QuorateError: ErrorAnswer(500, "ERR", "Internal error"),
    InvalidRequest: ErrorAnswer(400, "ERR", "Invalid request"),
    KeyMissing: ErrorAnswer(400, "ERR", "Key missing"),
    KeyTooLarge: ErrorAnswer(414, "ERR", "Key too large"),
    ValueTooLarge: ErrorAnswer(413, "ERR", "Value too large"),
    Unauthenticated: ErrorAnswer(401, "NOAUTH", "Unauthenticated"),
    Forbidden: ErrorAnswer(403, "NOPERM", "Forbidden"),
    Unavailable: ErrorAnswer(503, "ERR", "Unavailable"),
    QuorumUnreachable: ErrorAnswer(503, "NOREPLICAS", "Quorum unreachable"),
    DeadlineExceeded: ErrorAnswer(503, "TIMEOUT", "Deadline exceeded"),
    Overloaded: ErrorAnswer(503, "BUSY", "Overloaded"),
    NotReady: ErrorAnswer(503, "LOADING", "Not ready"),
    ClockUntrusted: ErrorAnswer(503, "CLOCK", "Clock untrusted"),
    Conflict: ErrorAnswer(409, "ERR", "Conflict"),
    PreconditionFailed: ErrorAnswer(412, "ERR", "Precondition failed"),
    PeerProtocolError: ErrorAnswer(500, "ERR", "Peer protocol error"),
    StorageError: ErrorAnswer(500, "MISCONF", "Storage failed"),
    Corrupt: ErrorAnswer(500, "MISCONF", "Stored data is damaged"),
    DiskFull: ErrorAnswer(503, "MISCONF", "Disk full"),
    StorageBusy: ErrorAnswer(503, "BUSY", "Storage busy"),
    StorageLocked: ErrorAnswer(500, "MISCONF", "Storage locked"),
    FormatUnsupported: ErrorAnswer(500, "MISCONF", "Storage format unsupported"),
}


def answer_for(error: QuorateError) -> ErrorAnswer:
    """The answer for an error: that of its class, or of the nearest base class in the table."""
    for kind in type(error).__mro__:
        answer = ANSWERS.get(kind)
        if answer is not None:
            return answer
    raise AssertionError("every QuorateError has QuorateError among its bases")


def outcome_of(error: QuorateError) -> Outcome | None:
    """What became of the write, if it was one. What is refused before anything is done was not
    applied, whether its error says so or not."""
    return Outcome.NOT_APPLIED if isinstance(error, NEVER_BEGUN) else error.outcome
