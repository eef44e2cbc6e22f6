# SPDX-License-Identifier: GPL-3.0-or-later
"""How a new node comes by the cluster's secret: `POST /join/token` makes a join token, and
`POST /join/secret` takes one, from whoever shows it, inside TLS alone.

A token is judged here, by the secret and this node's clock, and so is whether who shows it can be
of the cluster at all; then the cluster decides how many it has let in (`core.topology.admission`).
Who is refused hears why, and that is all that it hears.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from quorate.core.values.events import Change, ChangeResult
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN
from quorate.core.values.wish import TOKEN_USES_MAX, Admission, Wish
from quorate.doors.http.context import Context, ask, respond_json
from quorate.doors.http.query import Query
from quorate.doors.http.request import decode_json, read_body
from quorate.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotReady,
    Outcome,
    QuorateError,
    Unauthenticated,
)
from quorate.notation import parse_duration
from quorate.security.joining import (
    CLAIM_BYTES,
    TTL_S_MAX,
    JoinToken,
    JoinTokenError,
    claim_hash,
    new_token,
    read_token,
)
from quorate.security.secret import show_secret

_BODY_BYTES_MAX: Final = 4096


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    """What token is wanted."""

    ttl: str
    """How long it is good, such as `1h`."""
    uses: int | msgspec.UnsetType = msgspec.UNSET
    """How many it lets in; 1 if not given."""


class TokenAnswer(msgspec.Struct, frozen=True):
    """A join token."""

    token: str
    uses: int
    expires_ms: int


class Newcomer(msgspec.Struct, forbid_unknown_fields=True):
    """What has to fit the cluster."""

    cluster: str
    """What it was told that the cluster is called."""
    protocol_min: int
    protocol_max: int
    """What it speaks to other nodes."""
    level: int
    """The highest feature level that it knows."""


class EntryBody(msgspec.Struct, forbid_unknown_fields=True):
    """Who asks to be let in."""

    token: str
    claim: str
    """32 bytes that only it knows, in hexadecimal digits: with them it may ask again."""
    node: Newcomer | msgspec.UnsetType = msgspec.UNSET
    """What it is, looked at before the token is used."""


class EntryAnswer(msgspec.Struct, frozen=True):
    """What a newcomer needs to be a node of the cluster."""

    cluster: str
    """Its name."""
    secret: list[str]
    """One, or two while it is changed: the first signs."""


async def make_token(context: Context, request: web.Request, _query: Query) -> web.Response:
    """POST /join/token: a token that lets in so many new nodes."""
    asked = decode_json(await _body(context, request), _wanted)
    uses = 1 if asked.uses is msgspec.UNSET else asked.uses
    try:
        ttl_s = parse_duration(asked.ttl) // 1000
    except ValueError as fault:
        raise InvalidRequest(f"ttl: {fault}") from None
    if not 0 < ttl_s <= TTL_S_MAX:
        raise InvalidRequest(f"ttl: from 1s to {TTL_S_MAX // 3600}h")
    if not 0 < uses <= TOKEN_USES_MAX:
        raise InvalidRequest(f"uses: from 1 to {TOKEN_USES_MAX}")
    expires_s = context.store.wall_ms() // 1000 + ttl_s
    token = new_token(
        _secrets(context)[0],
        cluster_name=context.store.config.cluster,
        cluster=_cluster(context),
        expires_s=expires_s,
        uses=uses,
    )
    return respond_json(TokenAnswer(token.text(), uses, expires_s * 1000))


async def give_secret(context: Context, request: web.Request, _query: Query) -> web.Response:
    """POST /join/secret: the secret, for who has a token that is good."""
    source = request.remote or ""
    name = ""
    try:
        body = decode_json(await _body(context, request), _entering)
        if request.transport is None or request.transport.get_extra_info("ssl_object") is None:
            raise Forbidden("a join token is taken inside TLS alone")
        token, claim = _read(body)
        name = token.name
        secrets = _secrets(context)
        _check(context, token, secrets)
        if body.node is not msgspec.UNSET:
            _check_newcomer(context, body.node)
        wish = Wish(
            admits=Admission(
                nonce=token.nonce,
                expires_s=token.expires_s,
                uses=token.uses,
                claim=claim_hash(claim),
            )
        )
        await ask(context.store, lambda waiter: Change(waiter, wish), ChangeResult)
    except QuorateError as error:
        context.principals.audit.token_refused(token=name, source=source, reason=error.detail)
        raise
    context.principals.audit.token_used(token=name, source=source)
    return respond_json(
        EntryAnswer(context.store.config.cluster, [show_secret(each) for each in secrets])
    )


def _check(context: Context, token: JoinToken, secrets: tuple[bytes, ...]) -> None:
    """Unauthenticated unless the cluster made the token and it has not expired."""
    if token.cluster != _cluster(context):
        raise Unauthenticated("the join token is of another cluster")
    name = context.store.config.cluster
    if not any([token.is_genuine(each, cluster_name=name) for each in secrets]):
        raise Unauthenticated("the join token was not made by this cluster, or was altered")
    if token.expires_s * 1000 <= context.store.wall_ms():
        raise Unauthenticated("the join token has expired: have a new one made")


def _check_newcomer(context: Context, node: Newcomer) -> None:
    """Conflict if it could not be a node of the cluster, so that no token is used up for that. It
    has shown one that is genuine and not expired, be it used up, and may know what the cluster is.
    """
    name, level = context.store.config.cluster, context.store.status().level
    reason = ""
    if node.cluster != name:
        reason = f"the cluster is called {name}: give that as -cluster"
    elif node.protocol_min > PROTOCOL_MAX or node.protocol_max < PROTOCOL_MIN:
        reason = (
            f"no protocol in common: ours {PROTOCOL_MIN} to {PROTOCOL_MAX}, theirs"
            f" {node.protocol_min} to {node.protocol_max}: start the release that the cluster has"
        )
    elif node.level < level:
        reason = (
            f"the new node knows feature level {node.level}, and that of the cluster is {level}:"
            " start a newer release there"
        )
    if reason:
        raise Conflict(reason, outcome=Outcome.NOT_APPLIED)


def _read(body: EntryBody) -> tuple[JoinToken, bytes]:
    try:
        token = read_token(body.token)
    except JoinTokenError as fault:
        raise Unauthenticated(str(fault)) from None
    try:
        claim = bytes.fromhex(body.claim)
    except ValueError:
        claim = b""
    if len(claim) != CLAIM_BYTES:
        raise InvalidRequest(f"claim: {2 * CLAIM_BYTES} hexadecimal digits")
    return token, claim


def _secrets(context: Context) -> tuple[bytes, ...]:
    secrets = context.secrets()
    if not secrets:
        raise Conflict(
            "this node was started without a secret, which join tokens are made of",
            outcome=Outcome.NOT_APPLIED,
        )
    return secrets


def _cluster(context: Context) -> bytes:
    topology = context.store.topology()
    if topology is None:
        raise NotReady("the cluster's layout is not known yet")
    return topology.layout.cluster


async def _body(context: Context, request: web.Request) -> bytes:
    return await read_body(context, request, bytes_max=_BODY_BYTES_MAX)


_wanted: Final = msgspec.json.Decoder(TokenBody)
_entering: Final = msgspec.json.Decoder(EntryBody)
