# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens as text: what is not as it was made is found out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.security.certificates import authority_of
from quorate.security.joining import (
    CLAIM_BYTES,
    JoinToken,
    JoinTokenError,
    claim_hash,
    new_claim,
    new_token,
    read_token,
)
from quorate.security.secret import show_secret

SECRET, OTHER = b"s" * 32, b"o" * 32
CLUSTER = bytes(range(16))


def _token(**fields: int) -> JoinToken:
    given_fields = {"expires_s": 1_700_000_000, "uses": 1, **fields}
    return new_token(SECRET, cluster_name="house", cluster=CLUSTER, **given_fields)


TOKEN = _token()
CHARACTERS = "abcdefghijklmnopqrstuvwxyz234567"


@given(expires_s=st.integers(0, 2**64 - 1), uses=st.integers(0, 2**16 - 1))
def test_a_token_is_read_as_it_was_made(expires_s: int, uses: int) -> None:
    token = _token(expires_s=expires_s, uses=uses)
    assert read_token(f" {token.text().upper()}\n") == token
    assert token.is_genuine(SECRET, cluster_name="house")
    assert show_secret(SECRET)[4:] not in token.text()


def test_two_tokens_are_two() -> None:
    assert _token().nonce != _token().nonce
    assert _token().text() != _token().text()


def test_only_who_has_the_secret_of_that_cluster_can_make_it() -> None:
    assert not TOKEN.is_genuine(OTHER, cluster_name="house")
    assert not TOKEN.is_genuine(SECRET, cluster_name="hut")


@given(place=st.integers(0, 169), character=st.sampled_from(CHARACTERS))
def test_a_token_that_was_altered_anywhere_is_not_genuine(place: int, character: str) -> None:
    text = TOKEN.text()
    altered = text[: 4 + place] + character + text[5 + place :]
    try:
        token = read_token(altered)
    except JoinTokenError:
        return
    assert token.is_genuine(SECRET, cluster_name="house") == (altered == text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line_that_does_not_repeat_it(text: str) -> None:
    for given_text in (text, f"qj1.{text}"):
        with pytest.raises(JoinTokenError) as caught:
            read_token(given_text)
        assert "\n" not in str(caught.value)
        assert len(text.strip()) < 8 or text.strip() not in str(caught.value)


def der(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificate

    return load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_a_token_knows_the_nodes_of_its_cluster_and_nobody_else() -> None:
    own, foreign = authority_of(SECRET, cluster="house"), authority_of(OTHER, cluster="house")
    assert TOKEN.has_issued(der(own.mint_node(7).certificate))
    assert not TOKEN.has_issued(der(own.mint_client().certificate)), "who has it is no node"
    assert not TOKEN.has_issued(der(foreign.mint_node(7).certificate))
    assert not TOKEN.has_issued(der(authority_of(SECRET, cluster="hut").mint_node(7).certificate))
    assert not TOKEN._replace(authority=bytes(32)).has_issued(der(own.mint_node(7).certificate))


def test_a_certificate_that_cannot_be_read_is_of_no_authority() -> None:
    shown = der(authority_of(SECRET, cluster="house").mint_node(7).certificate)
    version = b"\xa0\x03\x02\x01"
    assert shown.count(version + b"\x02") == 1
    for broken in (b"", shown[:-1], shown.replace(version + b"\x02", version + b"\x07")):
        assert not TOKEN.has_issued(broken)


def test_a_claim_is_known_by_its_hash_alone() -> None:
    claim = new_claim()
    assert (len(claim), len(claim_hash(claim))) == (CLAIM_BYTES, 16)
    assert claim_hash(claim) == claim_hash(bytes(claim)) != claim_hash(new_claim())
