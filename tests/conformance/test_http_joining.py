# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /join/token` and `/join/secret` at the door: what is no request is refused before anything
is decided. Good and bad tokens are shown to real nodes in `tests/cluster/test_joining.py`."""

from __future__ import annotations

import json

import pytest

from quorate.core.values.events import Change
from quorate.security.joining import read_token
from tests.http_served import SECRET, Client, Served, post


def test_a_token_is_good_for_as_long_and_as_many_as_was_asked(
    http: Served, http_client: Client
) -> None:
    made = json.loads(post(http_client, "/join/token", b'{"ttl": "90s", "uses": 3}').body)
    token = read_token(made["token"])
    assert token.is_genuine(SECRET, cluster_name=http.store.config.cluster)
    assert (token.uses, token.expires_s) == (3, http.store.now_ms // 1000 + 90)
    assert (made["uses"], made["expires_ms"]) == (3, token.expires_s * 1000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"ttl": 60}',
        b'{"ttl": "60"}',
        b'{"ttl": "0s"}',
        b'{"ttl": "10ms"}',
        b'{"ttl": "721h"}',
        b'{"ttl": "1h", "uses": 0}',
        b'{"ttl": "1h", "uses": -1}',
        b'{"ttl": "1h", "uses": 101}',
        b'{"ttl": "1h", "use": 1}',
        b'{"ttl": "1h"',
    ],
)
def test_no_token_is_made_of_what_is_no_request(body: bytes, http_client: Client) -> None:
    assert post(http_client, "/join/token", body).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"token": "qj1."}', 400),
        (b'{"token": 1, "claim": ""}', 400),
        (b'{"token": "qj1.", "claim": "", "more": 1}', 400),
        (b'{"token": "qj1.", "claim": ""}', 403),
        (b'{"token": "' + 5000 * b"q" + b'", "claim": ""}', 413),
    ],
)
def test_no_secret_is_given_outside_tls_whatever_is_said(
    body: bytes, status: int, http: Served, http_client: Client
) -> None:
    answer = post(http_client, "/join/secret", body)
    assert answer.status == status
    assert b"qs1." not in answer.body
    assert not any(isinstance(each, Change) for each in http.store.events)
