# SPDX-License-Identifier: GPL-3.0-or-later
"""STUN as another implementation speaks it (aioice), and as a liar does."""

from __future__ import annotations

import ipaddress

import pytest
from aioice import stun as oracle
from hypothesis import given
from hypothesis import strategies as st

from quorate.wire.stun import binding_request, mapped_address

MINE = bytes(range(12))


def answer(host: str, port: int, *, kind: str = "XOR-MAPPED-ADDRESS") -> bytes:
    """As a server makes it, with what else servers say."""
    message = oracle.Message(
        oracle.Method.BINDING,
        oracle.Class.RESPONSE,
        MINE,
        {"SOFTWARE": "server", kind: (host, port)},
    )
    message.add_fingerprint()
    return bytes(message)


def test_another_implementation_reads_the_request() -> None:
    read = oracle.parse_message(binding_request(MINE))
    assert (read.message_method, read.message_class) == (
        oracle.Method.BINDING,
        oracle.Class.REQUEST,
    )
    assert read.transaction_id == MINE


@given(st.ip_addresses(), st.integers(0, 65535))
def test_the_address_in_an_answer_is_found(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    assert mapped_address(answer(str(address), port), transaction=MINE) == (str(address), port)


def test_an_address_that_is_not_masked_is_found_too() -> None:
    data = answer("198.51.100.7", 7000, kind="MAPPED-ADDRESS")
    assert mapped_address(data, transaction=MINE) == ("198.51.100.7", 7000)


def test_an_answer_to_another_request_is_none() -> None:
    with pytest.raises(ValueError, match="no answer to this request"):
        mapped_address(answer("198.51.100.7", 1), transaction=bytes(12))
    with pytest.raises(ValueError, match="no answer to this request"):
        mapped_address(binding_request(MINE), transaction=MINE)


@pytest.mark.parametrize("length", range(len(answer("198.51.100.7", 1))))
def test_an_answer_that_is_cut_is_none(length: int) -> None:
    with pytest.raises(ValueError):
        mapped_address(answer("198.51.100.7", 1)[:length], transaction=MINE)


@given(st.binary(max_size=80), st.integers(0, 65535))
def test_whatever_comes_is_an_address_or_a_value_error(body: bytes, length: int) -> None:
    for said in (len(body), length):
        data = b"\x01\x01" + said.to_bytes(2, "big") + b"\x21\x12\xa4\x42" + MINE + body
        try:
            host, port = mapped_address(data, transaction=MINE)
        except ValueError:
            continue
        assert ipaddress.ip_address(host)
        assert 0 <= port <= 65535
