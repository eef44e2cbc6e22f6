# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /join/secret`, of whoever shows a token that is good, as it were inside TLS."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web

from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN
from quorate.doors.http import joining
from quorate.doors.http.context import Context
from quorate.doors.http.query import Query
from quorate.errors import Conflict, Outcome
from quorate.security.joining import new_claim, new_token
from quorate.security.secret import show_secret
from tests.fake_store import FakeStore

OLD, NEW = b"o" * 32, b"n" * 32
CLUSTER = b"c" * 16


@pytest.mark.parametrize("signer", [OLD, NEW])
def test_who_comes_while_the_secret_is_changed_gets_both_the_one_that_signs_first(
    monkeypatch: pytest.MonkeyPatch, signer: bytes
) -> None:
    store = FakeStore()
    token = new_token(
        signer,
        cluster_name=store.config.cluster,
        cluster=CLUSTER,
        expires_s=store.wall_ms() // 1000 + 60,
        uses=1,
    )
    body = msgspec.json.encode({"token": token.text(), "claim": new_claim().hex()})

    async def read(_context: Context, _request: web.Request) -> bytes:
        return body

    async def answered() -> web.Response:
        return await joining.give_secret(_context(store), _request(), Query({}))

    monkeypatch.setattr(joining, "_body", read)
    monkeypatch.setattr(joining, "_cluster", lambda _: CLUSTER)
    answer = msgspec.json.decode(cast(bytes, asyncio.run(answered()).body))
    assert answer["secret"] == [show_secret(NEW), show_secret(OLD)]


UNFIT = {
    "another name": ({"cluster": "foo"}, "the cluster is called quorate: give that as -cluster"),
    "an older protocol": ({"protocol_min": 1, "protocol_max": 2}, "no protocol in common"),
    "a later protocol": ({"protocol_min": 98, "protocol_max": 99}, "no protocol in common"),
    "an older release": ({"level": 1}, "start a newer release"),
}


@pytest.mark.parametrize(("told", "reason"), UNFIT.values(), ids=UNFIT)
def test_who_cannot_be_of_the_cluster_is_told_why_before_its_token_is_used(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, object], reason: str
) -> None:
    store = FakeStore()
    store.level = 2
    token = new_token(
        NEW, cluster_name="quorate", cluster=CLUSTER, expires_s=store.wall_ms() // 1000 + 60, uses=1
    )
    numbers = {"protocol_min": PROTOCOL_MIN, "protocol_max": PROTOCOL_MAX, "level": 2}
    fit: dict[str, object] = {"cluster": "quorate", **numbers}
    shown: dict[str, object] = {"token": token.text(), "claim": new_claim().hex()}

    async def answered(more: dict[str, object]) -> web.Response:
        async def read(_context: Context, _request: web.Request) -> bytes:
            return msgspec.json.encode({**shown, **more})

        monkeypatch.setattr(joining, "_body", read)
        return await joining.give_secret(_context(store), _request(), Query({}))

    monkeypatch.setattr(joining, "_cluster", lambda _: CLUSTER)
    with pytest.raises(Conflict, match=reason) as caught:
        asyncio.run(answered({"node": {**fit, **told}}))
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert store.events == []
    told_or_not: list[dict[str, object]] = [{}, {"node": fit}]
    for more in told_or_not:
        assert asyncio.run(answered(more)).status == 200


def _context(store: FakeStore) -> Context:
    audit = SimpleNamespace(token_used=lambda **_: None, token_refused=lambda **_: None)
    fields: dict[str, Any] = {"store": store, "secrets": lambda: (NEW, OLD)}
    fields["principals"] = SimpleNamespace(audit=audit)
    return cast(Context, SimpleNamespace(**fields))


def _request() -> web.Request:
    transport = SimpleNamespace(get_extra_info=lambda _: object())
    return cast(web.Request, SimpleNamespace(remote="127.0.0.1", transport=transport))


def test_a_token_that_cannot_be_made_without_a_secret_is_told_as_nothing_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = _context(FakeStore())
    context.secrets = tuple  # type: ignore[misc]

    async def read(_context: Context, _request: web.Request) -> bytes:
        return b'{"ttl": "1h"}'

    async def made() -> web.Response:
        return await joining.make_token(context, _request(), Query({}))

    monkeypatch.setattr(joining, "_body", read)
    with pytest.raises(Conflict, match="without a secret") as caught:
        asyncio.run(made())
    assert caught.value.outcome is Outcome.NOT_APPLIED
