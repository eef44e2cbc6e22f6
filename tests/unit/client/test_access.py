# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client shows: logins and tokens as headers, files as contexts, and what cannot be used."""

from __future__ import annotations

import base64
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from quorate.client import Client
from quorate.client.access import Credentials, authorization_of, chosen_context, context_of
from quorate.errors import Forbidden, InvalidRequest, Outcome, QuorateError, Unauthenticated
from tests.authority import Authority
from tests.unit.client.conftest import Connect
from tests.unit.client.scripted import ScriptedNode, problem, reply, well


def authorization(
    user: str | None = None, password: str | None = None, token: str | None = None
) -> str:
    return authorization_of(user=user, password=password, token=token)


# --- who asks ----------------------------------------------------------------------------------


def test_a_login_is_basic_in_utf8_and_a_token_bearer() -> None:
    shown = authorization("müller", "geheim: ö")
    assert base64.b64decode(shown.removeprefix("Basic ")).decode() == "müller:geheim: ö"
    assert authorization(token="qt1.aGVsbG8-_~+/==") == "Bearer qt1.aGVsbG8-_~+/=="
    assert authorization() == ""


def test_a_password_alone_is_that_of_the_user_default() -> None:
    assert authorization(password="x") == authorization("default", "x")
    assert authorization(password="") == authorization("default", "")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"user": "u"}, "the password of the user 'u' is missing"),
        ({"user": "", "password": "p"}, "a user's name is not empty"),
        ({"user": "a:b", "password": "p"}, "has no colon"),
        ({"user": "a\r\nHost: x", "password": "p"}, "no control character"),
        ({"password": "p\n"}, "the password has a line break"),
        ({"user": "\udcff", "password": "p"}, "are UTF-8"),
        ({"password": "\udcff"}, "are UTF-8"),
        ({"token": "t", "user": "u"}, "give one or the other"),
        ({"token": "t", "password": "p"}, "give one or the other"),
        ({"token": ""}, "the token is none"),
        ({"token": "a b"}, "the token is none"),
        ({"token": "a\r\nHost: x"}, "the token is none"),
        ({"token": "ä"}, "the token is none"),
    ],
)
def test_what_is_no_login_is_refused_before_anything_is_sent(
    connect: Connect, given: dict[str, str], why: str
) -> None:
    with ScriptedNode() as node:
        with pytest.raises(InvalidRequest, match=why) as raised, connect(node.url, **given):
            pass
        assert raised.value.outcome is Outcome.NOT_APPLIED
        assert node.connections == 0
    secret = given.get("password") or given.get("token")
    assert not secret or len(secret) < 3 or secret not in str(raised.value)


def test_every_request_shows_who_asks_the_sign_of_life_too(connect: Connect) -> None:
    heads: list[bytes] = []

    def heard(request: Any) -> bytes:
        heads.append(request.head)
        return well(request)

    with (
        ScriptedNode(heard, pings=heard) as first,
        ScriptedNode() as second,
        connect([first.url, second.url], user="ann", password="pw") as call,
    ):
        call("put", "key", "value")
        call("get", "key")
    line = f"\r\nAuthorization: {authorization('ann', 'pw')}\r\n".encode()
    assert [head.split()[0] for head in heads] == [b"GET", b"PUT", b"GET"]
    assert all(head.count(line) == 1 for head in heads)


def test_a_client_that_was_told_nothing_shows_nothing(connect: Connect) -> None:
    with ScriptedNode() as node, connect(node.url) as call:
        call("get", "key")
        assert b"Authorization" not in node.requests[0].head


def test_what_is_secret_is_in_no_repr() -> None:
    client = Client(user="ann", password="hunter2")
    endpoint = client._nodes.endpoints[0]
    for each in (client, endpoint, endpoint.access, Credentials(authorization="Bearer hunter2")):
        assert "hunter2" not in repr(each)
        assert authorization("ann", "hunter2") not in repr(each)


# --- what a node answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(401, "unauthenticated", outcome="not_applied"), Unauthenticated),
        (problem(403, "forbidden", outcome="not_applied"), Forbidden),
        (problem(403, "foreign_origin", outcome="not_applied"), Forbidden),
    ],
)
def test_who_is_refused_is_not_tried_on_another_node(
    connect: Connect, answer: bytes, kind: type[QuorateError]
) -> None:
    """Wrong passwords are counted: each node would slow down for this client."""
    with (
        ScriptedNode(lambda _: answer) as first,
        ScriptedNode() as second,
        connect([first.url, second.url], user="ann", password="x") as call,
    ):
        for name, *given in (("put", "key", "value"), ("delete", "key"), ("get", "key")):
            with pytest.raises(kind, match="no") as raised:
                call(name, *given)
            assert not raised.value.retryable
            assert raised.value.outcome is (None if name == "get" else Outcome.NOT_APPLIED)
        assert second.requests == []


def test_a_proxys_own_refusal_says_what_to_do_and_may_have_let_a_write_pass(
    connect: Connect,
) -> None:
    with (
        ScriptedNode(lambda _: reply(401, b"<html>")) as node,
        connect(node.url) as call,
        pytest.raises(Unauthenticated, match="give user= and password=, or token=") as raised,
    ):
        call("put", "key", "value")
    assert raised.value.outcome is Outcome.UNKNOWN


# --- what is trusted ---------------------------------------------------------------------------


def test_only_the_ca_that_is_given_is_trusted(authority: Authority) -> None:
    assert [each["subject"] for each in context_of(ca=authority.ca).get_ca_certs()]
    assert len(context_of(ca=Path(authority.ca)).get_ca_certs()) == 1


def test_nothing_said_of_tls_is_no_context(authority: Authority) -> None:
    assert chosen_context(False, ca=None, cert=None) is None
    assert chosen_context(True, ca=None, cert=None) is not None
    context = ssl.create_default_context()
    assert chosen_context(context, ca=None, cert=None) is context
    with pytest.raises(ValueError, match="tls= is a context: load the CA"):
        chosen_context(context, ca=authority.ca, cert=None)


def test_a_file_that_cannot_be_used_is_named_with_what_it_is_not(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    chain, key = authority.certificate()
    _, other_key = stranger.certificate()
    text, absent = tmp_path / "text", tmp_path / "absent"
    text.write_bytes(b"no certificate \xff")
    empty = tmp_path / "empty"
    empty.touch()
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    locked = tmp_path / "locked"
    private = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    for given, why in (
        ({"ca": absent}, f"{absent}: No such file or directory"),
        ({"ca": tmp_path}, f"{tmp_path}: Is a directory"),
        ({"ca": text}, f"{text}: no certificate of a CA, in PEM"),
        ({"ca": empty}, f"{empty}: no certificate of a CA, in PEM"),
        ({"ca": broken}, f"{broken}: no certificate of a CA, in PEM"),
        ({"cert": absent}, f"{absent}: No such file or directory"),
        ({"cert": (chain, absent)}, f"{absent}: No such file or directory"),
        ({"cert": chain}, f"{chain}: no certificate in PEM with its key in PEM"),
        ({"cert": (text, key)}, f"{text}, {key}: no certificate in PEM with its key in PEM"),
        ({"cert": (chain, other_key)}, f"{other_key}: the key does not belong to the certificate"),
        ({"cert": (chain, locked)}, "the key has a passphrase"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
            context_of(**given)
        with pytest.raises(InvalidRequest, match=f"^{re.escape(why)}"):
            Client("https://a:1", **given)


@pytest.mark.parametrize("given", [{"tls": True}, {"tls": ssl.create_default_context()}])
def test_what_is_asked_for_with_tls_is_never_done_without(
    connect: Connect, given: dict[str, Any]
) -> None:
    why = "http://b:2 is without TLS: write https://"
    with pytest.raises(InvalidRequest, match=why), connect(["https://a:1", "http://b:2"], **given):
        pass
