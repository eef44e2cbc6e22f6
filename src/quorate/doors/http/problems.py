# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as `application/problem+json` (RFC 9457), with our `code`, `outcome` and facts.

`type` is `urn:quorate:<code>`: a name, nothing to fetch. `outcome` says what became of a write;
whatever was refused as a mistake of the caller's was not applied. It is left out where an error
says nothing about a write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from quorate.doors.errors import answer_for, outcome_of
from quorate.doors.http.replies import Reply
from quorate.errors import (
    Fact,
    Outcome,
    Overloaded,
    PreconditionFailed,
    QuorateError,
    Unauthenticated,
)

PROBLEM_TYPE: Final = "application/problem+json"
_SCHEMES: Final = (
    b'WWW-Authenticate: Basic realm="quorate", charset="UTF-8", Bearer realm="quorate"\r\n'
)
"""What an answer of 401 has to say (RFC 9110, 15.5.2)."""


class Refused(Exception):
    """An answer that only HTTP knows: no such path, wrong method, a stranger's Host. Nothing was
    done."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.is_final = is_final
        """Whether the connection must be closed: what follows cannot be told from the request."""


class Problem(NamedTuple):
    """What a problem document says."""

    status: int
    code: str
    title: str
    detail: str
    outcome: Outcome | None = None
    facts: Mapping[str, Fact] = {}

    def members(self) -> dict[str, object]:
        """The document's members. A fact never hides one of the problem's own."""
        members: dict[str, object] = {
            **self.facts,
            "type": f"urn:quorate:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.outcome is not None:
            members["outcome"] = self.outcome.value
        return members

    def encode(self) -> bytes:
        """The document."""
        return msgspec.json.encode(self.members())


def problem_of(error: QuorateError | Refused) -> Problem:
    """The problem that an error is."""
    if isinstance(error, Refused):
        title = error.code.replace("_", " ").capitalize()
        return Problem(error.status, error.code, title, error.detail, Outcome.NOT_APPLIED)
    status, _, title = answer_for(error)
    return Problem(status, error.code, title, error.detail, outcome_of(error), error.facts)


def problem_reply(error: QuorateError | Refused) -> Reply:
    """The answer that says what went wrong."""
    reply = reply_of(problem_of(error))
    if isinstance(error, Unauthenticated):
        return reply.saying(_SCHEMES)
    if isinstance(error, PreconditionFailed):
        version = error.facts.get("version")
        lines = f'ETag: "{version}"\r\nQuorate-Version: {version}\r\n' if version else ""
        return reply.saying(lines.encode())
    if not isinstance(error, Refused):
        return reply
    lines = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
    return reply.saying(lines.encode())


def reply_of(problem: Problem) -> Reply:
    """The problem as an answer."""
    lines = f"Content-Type: {PROBLEM_TYPE}\r\n".encode()
    if problem.status == 503:
        lines += b"Retry-After: 1\r\n"
    return Reply(problem.status, lines, problem.encode())


def too_many_bodies() -> Overloaded:
    """What a request is refused with whose body finds no room in the shared budget."""
    return Overloaded("too many request bodies are arriving", outcome=Outcome.NOT_APPLIED)
