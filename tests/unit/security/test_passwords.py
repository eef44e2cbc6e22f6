# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of passwords."""

from __future__ import annotations

import hmac

import pytest

from quorate.security.passwords import hash_password, nobodys, parse_hash
from tests.principals import quick_hash

SALT_AND_DIGEST = "$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"


def test_a_hash_is_of_its_password_alone_and_has_a_salt_of_its_own() -> None:
    one, other = hash_password(b"secret"), hash_password(b"secret")
    assert one != other
    assert parse_hash(one).matches(b"secret")
    for wrong in (b"", b"Secret", b"secret ", "s\u00e9cret".encode()):
        assert not parse_hash(one).matches(wrong)


def test_what_is_written_costs_what_owasp_asks_for() -> None:
    kept = parse_hash(hash_password(b"x"))
    assert (kept.ln, kept.r, kept.p) == (14, 8, 5)
    assert len(kept.salt) == 16
    assert len(kept.digest) == 32


def test_the_hashes_of_passlib_can_be_used() -> None:
    """The example of its documentation."""
    text = f"$scrypt$ln=16,r=8,p=1{SALT_AND_DIGEST}"
    assert parse_hash(text).matches(b"password")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$scrypt$ln=14,r=8,p=5$short$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        "$scrypt$ln=14,r=8,p=5$aM15713r3Xsvxbi31lqr1Q$",
        "$scrypt$ln=14,r=8,p=5$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E\n",
        "$scrypt$ln=0,r=8,p=5$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        "$scrypt$ln=99,r=8,p=5$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        "$scrypt$ln=16,r=16,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        "$scrypt$ln=16,r=1,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        "$scrypt$ln=14,r=8,p=5$aM15713r3Xsvx$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
    ],
)
def test_no_hash_and_one_that_costs_too_much_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hash(text)


def test_nobodys_hash_costs_as_much_and_is_of_nothing() -> None:
    like = parse_hash(quick_hash("x"))
    kept = nobodys(like)
    assert kept.cost == like.cost
    assert not kept.matches(b"x")
    assert not kept.matches(b"")
    assert nobodys(None).cost == parse_hash(hash_password(b"")).cost


def test_two_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert parse_hash(quick_hash("x")).matches(b"x")
    assert len(compared) == 1
