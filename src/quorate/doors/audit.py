# SPDX-License-Identifier: GPL-3.0-or-later
"""Who was refused, and who changed the node: lines of the log with `audit=true`.

Each says who, from where, what and the outcome, and never a key, a value or a secret. What anybody
can cause as often as they like is told once a second at most, each kind by itself. Of what comes
meanwhile each source (`one_source`) has its last told in turn, and `held_back` says how many more
there were of it.
"""

from __future__ import annotations

from typing import Final

import structlog

from quorate.doors.limits import Timers
from quorate.doors.rarely import LoggedFacts, Rarely
from quorate.notation import one_source

BEGUN: Final = "begun"
"""The outcome of an act that was taken, and of which it is not known yet what comes of it."""

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class Audit:
    """The audit events of a node, and how many there were."""

    def __init__(self, timers: Timers) -> None:
        self._logins = Rarely(timers, lambda facts: _log.warning("login_refused", **facts))
        self._permissions = Rarely(
            timers, lambda facts: _log.warning("permission_refused", **facts)
        )
        self._handshakes = Rarely(timers, lambda facts: _log.info("tls_refused", **facts))
        self._tokens = Rarely(timers, lambda facts: _log.warning("token_refused", **facts))
        self.logins_ok = 0
        self.logins_refused = 0
        self.permissions_refused = 0

    def counts(self) -> dict[str, int]:
        """For the metrics."""
        return {
            "logins_ok": self.logins_ok,
            "logins_refused": self.logins_refused,
            "permissions_refused": self.permissions_refused,
        }

    def login_refused(self, *, who: str, source: str, door: str) -> None:
        """Somebody did not prove to be whom they said. `who`: a user that there is, or empty: what
        was typed in its place may be a password."""
        self.logins_refused += 1
        _tell(self._logins, _facts(who, source, door, "refused"))

    def handshake_refused(self, *, source: str, reason: str) -> None:
        """A client did not come inside TLS."""
        _tell(self._handshakes, {**_facts("", source, "tls", "refused"), "reason": reason})

    def tls_refused(self, source: str) -> None:
        """Somebody began TLS at a port without it."""
        self.handshake_refused(
            source=source,
            reason="this node is without TLS: start it with the cluster's secret or -tls-cert, or"
            " ask it by http:// or redis://",
        )

    def permission_refused(self, *, who: str, source: str, what: str) -> None:
        """Somebody may not do what they asked for."""
        self.permissions_refused += 1
        _tell(self._permissions, _facts(who, source, what, "refused"))

    def token_used(self, *, token: str, source: str) -> None:
        """Somebody had the cluster's secret for a join token. `token`: how the log calls it."""
        _log.info("token_used", **_facts(f"token {token}", source, "the secret", "ok"))

    def token_refused(self, *, token: str, source: str, reason: str) -> None:
        """Somebody showed a join token that is not good, or something else (`token` is empty)."""
        facts = _facts(f"token {token}" if token else "", source, "the secret", "refused")
        _tell(self._tokens, {**facts, "reason": reason})

    def admin_act(self, *, who: str, source: str, what: str, outcome: str) -> None:
        """Somebody changed the node, or all data at once, or tried to."""
        _log.info("admin_act", **_facts(who, source, what, outcome))


def _tell(kind: Rarely, facts: LoggedFacts) -> None:
    kind.tell(facts, source=one_source(str(facts["from"])))


def _facts(who: str, source: str, what: str, outcome: str) -> LoggedFacts:
    return {
        "audit": True,
        "who": who or "unknown",
        "from": source,
        "what": what,
        "outcome": outcome,
    }
