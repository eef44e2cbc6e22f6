# SPDX-License-Identifier: GPL-3.0-or-later
"""The error taxonomy: what went wrong, whether the write may survive, whether to try again.

Each error carries facts, not prose: the doors' one table (`doors/errors.py`) turns them into HTTP
and RESP answers, the client turns answers back into these classes. `code` is the stable name that
crosses the wire.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    import ssl

Fact = int | str


class Outcome(enum.Enum):
    """What became of a write that was not acknowledged."""

    NOT_APPLIED = "not_applied"
    """No replica took it, and none will: trying again is safe."""

    UNKNOWN = "unknown"
    """At least one replica was sent it: it may be there now, appear later, or never."""


class QuorateError(Exception):
    """Base of all errors that a caller may meet. `outcome` is None where nothing was written."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, outcome: Outcome | None = None, **facts: Fact) -> None:
        super().__init__(detail)
        self.detail = detail
        self.outcome = outcome
        self.facts = facts

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.detail} ({facts})" if facts else self.detail


class InvalidRequest(QuorateError):
    """The caller's mistake: the same request can never succeed."""

    code = "invalid_request"


class KeyMissing(InvalidRequest):
    """No key, or an empty one, was given."""

    code = "key_missing"


class KeyTooLarge(InvalidRequest):
    """The key is longer than the cluster's limit."""

    code = "key_too_large"


class ValueTooLarge(InvalidRequest):
    """The value is longer than the cluster's limit."""

    code = "value_too_large"


def too_large_value(value: bytes, bytes_max: int) -> ValueTooLarge:
    """What a longer value than `bytes_max` is refused with, wherever that is seen."""
    return ValueTooLarge(
        "the value is too large",
        outcome=Outcome.NOT_APPLIED,
        bytes=len(value),
        bytes_max=bytes_max,
    )


class Unauthenticated(QuorateError):
    """It is not shown who asks, or what was shown is wrong, expired or revoked."""

    code = "unauthenticated"


class Forbidden(QuorateError):
    """It is known who asks, and it may not."""

    code = "forbidden"


class Unavailable(QuorateError):
    """The cluster cannot do it now; the same request may succeed later."""

    code = "unavailable"
    retryable = True


class QuorumUnreachable(Unavailable):
    """Fewer replicas can be reached than the request needs."""

    code = "quorum_unreachable"


class DeadlineExceeded(Unavailable):
    """Too few replicas answered within the request's time."""

    code = "deadline_exceeded"


class Overloaded(Unavailable):
    """A stated maximum was reached; the request was shed before anything was done."""

    code = "overloaded"


class NotReady(Unavailable):
    """The node is starting, stopping, or has not learnt the cluster's layout yet."""

    code = "not_ready"


class ClockUntrusted(Unavailable):
    """This node's clock is further from its own last stamp, or its peers, than is allowed."""

    code = "clock_untrusted"


class Conflict(QuorateError):
    """What is asked for contradicts what is already there."""

    code = "conflict"


class PreconditionFailed(Conflict):
    """Another version is there than the one that the request is for. The fact `version` is that
    version, empty if there is no value."""

    code = "precondition_failed"

    @property
    def version(self) -> str:
        """The version that is there, in hexadecimal digits; empty if there is no value."""
        return str(self.facts.get("version", ""))


class PeerProtocolError(QuorateError):
    """A peer broke the protocol; its connection is dropped."""

    code = "peer_protocol"


class StorageError(QuorateError):
    """The disk failed this node."""

    code = "storage"


class Corrupt(StorageError):
    """Stored bytes fail their checksum; they are never served and never win a merge."""

    code = "corrupt"


class DiskFull(StorageError):
    """No space: this node refuses writes and goes on serving reads."""

    code = "disk_full"
    retryable = True


class StorageBusy(StorageError):
    """The engine cannot take the batch now (write stall); nothing of it was stored."""

    code = "storage_busy"
    retryable = True


class StorageLocked(StorageError):
    """Another process uses the data directory."""

    code = "storage_locked"


class FormatUnsupported(StorageError):
    """The data directory was written by another release."""

    code = "format_unsupported"


NEVER_BEGUN: Final = (InvalidRequest, Unauthenticated, Forbidden)
"""What is refused before anything is done, so that no write of it survives."""


def _tree(root: type[QuorateError]) -> dict[str, type[QuorateError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[QuorateError]] = _tree(QuorateError)
"""Every error class of the taxonomy by its `code`."""


def is_cut_off(error: ssl.SSLError) -> bool:
    """Whether a connection ended without TLS saying so. Python before 3.11.4 has no class of its
    own for what OpenSSL 3 calls that."""
    import ssl  # Late: who speaks no TLS need not wait for it.

    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
