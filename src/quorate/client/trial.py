# SPDX-License-Identifier: GPL-3.0-or-later
"""Which node to ask, and what to make of a failure: the client's decisions, without I/O.

A read may be asked again anywhere. A write may be sent again only when it is sure that no node took
it: nothing of it was sent, or the node said so. Otherwise it might take effect twice, with other
writes in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from quorate.client.access import PLAIN, Credentials, context_of
from quorate.client.calls import Call, TlsFailed, Unreachable, error_of
from quorate.client.sockets import TlsFault, reason_of
from quorate.errors import Outcome, QuorateError
from quorate.notation import parse_target, split_url
from quorate.wire.http import Response, encode_request

DEFAULT_NODE: Final = "http://localhost:8000"
TIMEOUT_SECONDS: Final = 10.0
"""For a call whose caller does not say."""
CONNECT_SECONDS: Final = 1.0
"""For a connection, or a connection and a first sign of life: what a dead node costs a call."""
GRACE_SECONDS: Final = 0.5
"""A node answers at its deadline; that answer says more than our giving up at the same moment."""
PING: Final = Call("GET", "/internal/ping")


class Endpoint(NamedTuple):
    """A node's address."""

    url: str
    host: str
    port: int
    access: Credentials = PLAIN

    def request(self, call: Call) -> bytes:
        """The bytes of `call` to this node."""
        return encode_request(
            call.method,
            call.target,
            self.url.partition("://")[2],
            body=call.body,
            authorization=self.access.authorization,
            headers=call.headers,
        )


def endpoints_of(nodes: str | Sequence[str], access: Credentials = PLAIN) -> list[Endpoint]:
    """The nodes to talk to, in order, each once. ValueError for a malformed URL, for none, or for
    one without TLS where `access` has it."""
    scheme = "https" if access.context else "http"
    urls = nodes.split(",") if isinstance(nodes, str) else nodes
    normal = dict.fromkeys(parse_target(url, scheme=scheme) for url in urls if url.strip())
    if not normal:
        raise ValueError("name at least one node's URL")
    plain = [url for url in normal if not url.startswith("https:")]
    if access.context and plain:
        raise ValueError(f"{plain[0]} is without TLS: write https://")
    secured = access
    if not access.context and len(plain) < len(normal):
        secured = access.with_context(context_of())
    return [Endpoint(url, *split_url(url), access if url in plain else secured) for url in normal]


class NodeOrder:
    """The nodes of a client: the one that answered last is asked first."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.endpoints = endpoints
        self._first = 0
        self._proven: set[Endpoint] = set()

    def order(self) -> list[Endpoint]:
        """All nodes, the preferred one first."""
        first = self._first
        return self.endpoints[first:] + self.endpoints[:first]

    def needs_proof(self, endpoint: Endpoint) -> bool:
        """Whether to ping before anything else: a write sent to a node that hangs cannot be taken
        back and sent elsewhere. With one node there is no elsewhere."""
        return len(self.endpoints) > 1 and endpoint not in self._proven

    def answered(self, endpoint: Endpoint) -> None:
        """Prefer `endpoint` from now on."""
        self._first = self.endpoints.index(endpoint)
        self._proven.add(endpoint)

    def failed(self, endpoint: Endpoint) -> None:
        """Ping `endpoint` before it is asked again. If it was preferred, prefer the next one."""
        self._proven.discard(endpoint)
        if self.endpoints[self._first] == endpoint:
            self._first = (self._first + 1) % len(self.endpoints)


class Lost(Exception):
    """A connection gave no answer.

    `was_sent`: some of the request may have arrived. `was_kept`: the connection was not a new one,
    so the node may be well: it may have closed the connection as idle. `is_tls`: the two ends do
    not agree about TLS.
    """

    def __init__(
        self, reason: str, *, was_sent: bool, was_kept: bool = False, is_tls: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_sent = was_sent
        self.was_kept = was_kept
        self.is_tls = is_tls

    @classmethod
    def of(cls, fault: OSError) -> Lost:
        """What a failure comes to before anything was sent."""
        return cls(reason_of(fault), was_sent=False, is_tls=isinstance(fault, TlsFault))


class Trial:
    """The attempts of one call. Ask `next` for a node, then report `lost` or `answer`."""

    def __init__(self, call: Call, nodes: NodeOrder) -> None:
        self.call = call
        self._nodes = nodes
        self._order = nodes.order()
        self._reasons: list[str] = []
        self._is_tls = True
        """Whether TLS is all that was wrong."""
        self._refusal: QuorateError | None = None

    def next(self) -> Endpoint:
        """The node to try; raises what the call ends with when none is left."""
        if not self._order:
            raise self._refusal or self._unreachable(was_sent=False)
        return self._order.pop(0)

    def lost(self, endpoint: Endpoint, fault: Lost | OSError, *, is_late: bool) -> None:
        """Take note of a failed attempt; by an OSError nothing was sent. Raises where the call must
        not, or (`is_late`) cannot, be sent again."""
        lost = fault if isinstance(fault, Lost) else Lost.of(fault)
        may_have_happened = self.call.is_write and lost.was_sent
        if lost.was_kept and not may_have_happened:
            self._order.insert(0, endpoint)
            return
        self._nodes.failed(endpoint)
        self._reasons.append(f"{endpoint.url}: {lost.reason}")
        self._is_tls = self._is_tls and lost.is_tls
        if may_have_happened or is_late:
            raise self._unreachable(was_sent=lost.was_sent)

    def answer(self, endpoint: Endpoint, response: Response) -> Response | None:
        """The response to return; None where another node should be asked: this one cannot serve
        now (cut off from its peers, full, starting), and did nothing."""
        if response.status == 503:
            error = error_of(response, is_write=self.call.is_write)
            if error is not None and error.retryable and error.outcome is not Outcome.UNKNOWN:
                self._nodes.failed(endpoint)
                self._refusal = error
                self._reasons.append(f"{endpoint.url}: {error}")
                self._is_tls = False
                return None if self._order else response
        self._nodes.answered(endpoint)
        return response

    def _unreachable(self, *, was_sent: bool) -> Unreachable:
        outcome = None
        if self.call.is_write:
            outcome = Outcome.UNKNOWN if was_sent else Outcome.NOT_APPLIED
        kind = TlsFailed if self._is_tls else Unreachable
        return kind("no answer from " + "; ".join(self._reasons), outcome=outcome)
