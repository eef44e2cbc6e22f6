# SPDX-License-Identifier: GPL-3.0-or-later
"""Both clients through TLS: what is trusted, what is refused, and what is said of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.client import AsyncClient, TlsFailed, Unreachable, asynchronous, blocking
from quorate.client.access import context_of
from quorate.client.sockets import broken
from quorate.client.tls import TlsConnection
from quorate.errors import Outcome
from tests.authority import Authority
from tests.unit.client.conftest import Connect
from tests.unit.client.scripted import (
    CUT,
    HANG,
    VERSION,
    ScriptedNode,
    dead_port,
    echo,
    wait_until,
    well,
)

WRONG_CA = "no CA that is trusted here signed its certificate: give its CA by ca= or --ca"


@contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """The URL of a server that answers the first bytes of each connection with `raw`, and ends."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with accepted:
                accepted.recv(65536)
                accepted.sendall(raw)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


# --- what works --------------------------------------------------------------------------------


def test_values_of_every_size_pass_on_one_connection(
    connect: Connect, authority: Authority
) -> None:
    with ScriptedNode(tls=authority.server()) as node, connect(node.url, ca=authority.ca) as call:
        for size in (0, 1, 16384, 16385, 5 << 20):
            value = bytes(size)
            assert call("put", "key", value).acks == 2
            assert node.requests[-1].body == value
            assert call("get", "key").value == b"value"
        assert node.connections == 1


def test_large_answers_come_whole_and_calls_at_once_get_their_own(
    connect: Connect, authority: Authority
) -> None:
    keys = [f"{number}-{'x' * 50_000}" for number in range(8)]
    with (
        ScriptedNode(echo, tls=authority.server()) as node,
        connect(node.url, ca=authority.ca) as call,
    ):
        values = [found.value for found in call.together("get", keys)]
        assert values == [f"/kv?key={key}".encode() for key in keys]


def test_a_context_says_all_there_is_to_say(connect: Connect, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.ca)
    with ScriptedNode(tls=authority.server()) as node, connect(node.url, tls=context) as call:
        assert call("get", "key").value == b"value"


def test_a_node_without_a_scheme_is_reached_through_tls_if_anything_of_tls_is_given(
    connect: Connect, authority: Authority
) -> None:
    with (
        ScriptedNode(tls=authority.server()) as node,
        connect(node.url.removeprefix("https://"), ca=authority.ca) as call,
    ):
        assert call("get", "key").value == b"value"


def test_one_client_reaches_some_nodes_through_tls_and_others_without(
    connect: Connect, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
    with ScriptedNode() as plain, ScriptedNode(tls=authority.server()) as secured:
        with connect([plain.url, secured.url]) as call:
            call("get", "key")
            plain.__exit__()
            assert call("get", "key").value == b"value"
        assert len(secured.requests) == 1


def test_nodes_may_have_certificates_for_a_name_that_no_url_has(
    connect: Connect, authority: Authority
) -> None:
    with (
        ScriptedNode(tls=authority.server("kv.invalid")) as node,
        connect(node.url, ca=authority.ca, server_name="kv.invalid") as call,
    ):
        assert call("get", "key").value == b"value"


def test_a_certificate_is_shown_to_nodes_that_ask(
    connect: Connect, authority: Authority, stranger: Authority
) -> None:
    chain, key = stranger.certificate()
    with (
        ScriptedNode(tls=authority.server(clients=stranger)) as node,
        connect(node.url, ca=authority.ca, cert=(chain, key)) as call,
    ):
        assert call("put", "key", "value").acks == 2


def test_certificate_and_key_may_be_in_one_file(
    connect: Connect, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    both = tmp_path_factory.mktemp("both") / "both.pem"
    both.write_text("".join(Path(each).read_text() for each in authority.certificate()))
    with (
        ScriptedNode(tls=authority.server(clients=authority)) as node,
        connect(node.url, ca=authority.ca, cert=both) as call,
    ):
        assert call("put", "key", "value").acks == 2


def test_a_connection_that_the_node_closed_while_idle_is_opened_again(
    connect: Connect, authority: Authority
) -> None:
    with ScriptedNode(tls=authority.server()) as node, connect(node.url, ca=authority.ca) as call:
        for _ in range(3):
            assert call("put", "key", "value").acks == 2
            node.drop()
        assert [request.connection for request in node.requests] == [0, 1, 2]


def test_a_node_may_be_called_by_an_address_of_ipv6(
    connect: Connect, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedNode(tls=authority.server("::1")) as node:
        port = int(node.url.rpartition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

        async def look_up(*_: object, **__: object) -> object:
            return found

        monkeypatch.setattr(blocking, "look_up", lambda *_, **__: found)
        monkeypatch.setattr(asynchronous, "look_up", look_up)
        with connect(f"https://[::1]:{port}", ca=authority.ca) as call:
            assert call("get", "key").value == b"value"


def test_tls_1_2_is_spoken_too(connect: Connect, authority: Authority) -> None:
    context = authority.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with ScriptedNode(tls=context) as node, connect(node.url, ca=authority.ca) as call:
        assert call("get", "key").value == b"value"


# --- what is refused ---------------------------------------------------------------------------


def refused(connect: Connect, url: str, why: str, **access: object) -> None:
    """Assert that a write is refused for a reason of TLS, and surely not applied."""
    with connect(url, **access) as call, pytest.raises(TlsFailed, match=why) as raised:
        call("put", "key", "value")
    assert raised.value.outcome is Outcome.NOT_APPLIED
    assert (raised.value.code, raised.value.retryable) == ("tls", False)
    assert url.rpartition("/")[2] in str(raised.value)


def test_a_certificate_of_another_ca_is_refused_and_the_node_hears_why(
    connect: Connect, authority: Authority, stranger: Authority
) -> None:
    with ScriptedNode(tls=authority.server()) as node:
        refused(connect, node.url, WRONG_CA, ca=stranger.ca)
        refused(connect, node.url, WRONG_CA, tls=True)
        assert node.requests == []
        wait_until(lambda: len(node.faults) == 2, what="both are told")
        assert all("UNKNOWN_CA" in fault for fault in node.faults)


def test_a_certificate_for_another_name_is_refused(connect: Connect, authority: Authority) -> None:
    for names in (["kv.invalid"], ["127.0.0.2"]):
        with ScriptedNode(tls=authority.server(*names)) as node:
            why = "its certificate is not for '127.0.0.1': name the node as its certificate does"
            refused(connect, node.url, why, ca=authority.ca)
            localhost = node.url.replace("127.0.0.1", "localhost")
            refused(connect, localhost, "not for 'localhost'", ca=authority.ca)
            assert node.requests == []


def test_an_expired_certificate_is_refused(connect: Connect, authority: Authority) -> None:
    with ScriptedNode(tls=authority.expired()) as node:
        refused(connect, node.url, "its certificate has expired: whoever", ca=authority.ca)


def test_a_certificate_that_is_not_valid_yet_is_refused(
    connect: Connect, authority: Authority
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with ScriptedNode(tls=authority.server(begins=tomorrow)) as node:
        why = "its certificate is not valid yet: one of the two clocks is wrong"
        refused(connect, node.url, why, ca=authority.ca)


@pytest.mark.parametrize("raw", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR what?\r\n"])
def test_a_server_without_tls_behind_https_says_so(
    connect: Connect, authority: Authority, raw: bytes
) -> None:
    with answering(raw) as host:
        refused(connect, f"https://{host}", "it does not speak TLS: write http://", ca=authority.ca)


def test_a_server_that_hangs_up_in_the_handshake_may_be_one_without_tls(
    connect: Connect, authority: Authority
) -> None:
    """Or one that was just stopped: trying again may help."""
    with (
        answering(b"") as host,
        connect(f"https://{host}", ca=authority.ca) as call,
        pytest.raises(Unreachable, match="if the node has no TLS, write http://") as raised,
    ):
        call("put", "key", "value")
    assert raised.value.outcome is Outcome.NOT_APPLIED
    assert raised.value.retryable


def test_a_server_with_tls_behind_http_says_so(connect: Connect) -> None:
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    with answering(alert) as host:
        refused(connect, f"http://{host}", "it speaks TLS: write https://")


@pytest.mark.parametrize("is_of_another_ca", [False, True])
def test_a_node_that_wants_a_certificate_says_so(
    connect: Connect, authority: Authority, stranger: Authority, is_of_another_ca: bool
) -> None:
    """In TLS 1.3 it says so after we have sent the write, which it never read."""
    cert = stranger.certificate() if is_of_another_ca else None
    with ScriptedNode(tls=authority.server(clients=authority)) as node:
        refused(
            connect, node.url, "it wants a certificate that it knows", ca=authority.ca, cert=cert
        )
        assert node.requests == []


def test_no_version_of_tls_in_common_says_so(connect: Connect, authority: Authority) -> None:
    ours = ssl.create_default_context(cafile=authority.ca)
    ours.maximum_version = ssl.TLSVersion.TLSv1_2
    theirs = authority.server()
    theirs.minimum_version = ssl.TLSVersion.TLSv1_3
    with ScriptedNode(tls=theirs) as node:
        refused(connect, node.url, "it speaks no version of TLS that is spoken here", tls=ours)


def test_a_node_that_is_refused_is_passed_over_and_the_next_one_asked(
    connect: Connect, authority: Authority
) -> None:
    with (
        ScriptedNode(tls=authority.expired()) as bad,
        ScriptedNode(tls=authority.server()) as good,
        connect([bad.url, good.url], ca=authority.ca) as call,
    ):
        assert call("put", "key", "value").acks == 2
        assert bad.requests == []


def test_where_a_node_is_only_down_trying_again_may_help(
    connect: Connect, authority: Authority
) -> None:
    with ScriptedNode(tls=authority.expired()) as bad, dead_port() as dead:
        urls = [bad.url, dead.replace("http", "https")]
        with connect(urls, ca=authority.ca) as call, pytest.raises(Unreachable) as raised:
            call("put", "key", "value")
    assert not isinstance(raised.value, TlsFailed)
    assert "has expired" in str(raised.value)
    assert "Connection refused" in str(raised.value)


# --- what breaks -------------------------------------------------------------------------------


def test_a_node_that_never_answers_the_handshake_costs_a_second(
    connect: Connect, authority: Authority
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with (
            ScriptedNode(tls=authority.server()) as node,
            connect([url, node.url], ca=authority.ca) as call,
        ):
            assert call("put", "key", "value", timeout=5).acks == 2
        with (
            connect(url, ca=authority.ca) as call,
            pytest.raises(Unreachable, match="no answer in time"),
        ):
            call("get", "key")


def test_an_answer_that_ends_without_tls_saying_so_is_none(
    connect: Connect, authority: Authority
) -> None:
    """Whoever is between the two may cut a connection, and with it an answer that lasts to its
    end."""
    endless = f"HTTP/1.1 200 OK\r\nQuorate-Version: {VERSION}\r\n\r\nhalf".encode()

    def answer(request: object) -> bytes:
        del request
        return endless if len(node.requests) == 1 else CUT

    with (
        ScriptedNode(answer, tls=authority.server()) as node,
        connect(node.url, ca=authority.ca, timeout=1) as call,
    ):
        threading.Timer(0.1, lambda: node._sockets[0].shutdown(socket.SHUT_RDWR)).start()
        with pytest.raises(Unreachable, match="connection closed before the answer"):
            call("get", "key")


def test_who_hangs_up_after_the_handshake_may_want_another_certificate(
    connect: Connect, authority: Authority
) -> None:
    context = authority.server()
    context.num_tickets = 0
    with (
        ScriptedNode(lambda _: CUT, tls=context) as node,
        connect(node.url, ca=authority.ca) as call,
        pytest.raises(Unreachable, match="perhaps it wants a certificate") as raised,
    ):
        call("put", "key", "value")
    assert raised.value.outcome is Outcome.UNKNOWN


def test_a_call_cancelled_in_the_handshake_closes_its_connection(authority: Authority) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(10)
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            async with AsyncClient(url, ca=authority.ca) as client:
                task = asyncio.create_task(client.get("key"))
                accepted, _ = await asyncio.to_thread(silent.accept)
                with accepted:
                    accepted.settimeout(10)
                    assert await asyncio.to_thread(accepted.recv, 65536)
                    task.cancel()
                    await asyncio.wait([task])
                    assert await asyncio.to_thread(accepted.recv, 1) == b""

    asyncio.run(main())


def test_a_write_whose_answer_does_not_come_is_unknown(
    connect: Connect, authority: Authority
) -> None:
    with (
        ScriptedNode(
            lambda r: HANG if "slow" in r.target else well(r), tls=authority.server()
        ) as node,
        connect(node.url, ca=authority.ca, timeout=0.3) as call,
    ):
        with pytest.raises(Unreachable, match="no answer in time") as raised:
            call("put", "slow", "value")
        assert raised.value.outcome is Outcome.UNKNOWN
        assert call("get", "key").value == b"value"


# --- bytes in, bytes out -----------------------------------------------------------------------


def shaken(authority: Authority) -> tuple[TlsConnection, ssl.SSLObject, ssl.MemoryBIO]:
    """A connection after its handshake; the other end, and where that reads from. What the other
    end writes comes out of `connection.socket`, a make-believe one."""
    mine, theirs = socket.socketpair()
    theirs.close()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = authority.server().wrap_bio(incoming, outgoing, server_side=True)
    connection = TlsConnection(mine, context_of(ca=authority.ca), "localhost")
    mine.close()
    reply, is_done = connection.shake(None)
    while not is_done:
        incoming.write(reply)
        with suppress(ssl.SSLWantReadError):
            other.do_handshake()
        reply, is_done = connection.shake(outgoing.read())
    incoming.write(reply)
    other.do_handshake()
    return connection, other, outgoing


def test_a_reset_that_takes_away_what_was_said_is_told_as_an_end(authority: Authority) -> None:
    """Who refuses our certificate may reset the connection: its alert is lost then."""
    connection, _, _ = shaken(authority)
    fault = broken(connection, ConnectionResetError("Connection reset by peer"))
    assert "perhaps it wants a certificate" in str(fault)


@given(st.lists(st.binary(max_size=200), max_size=5), st.lists(st.integers(1, 50), max_size=100))
def test_bytes_come_out_as_they_went_in_however_they_are_cut(
    authority: Authority, said: list[bytes], cuts: list[int]
) -> None:
    connection, other, outgoing = shaken(authority)
    for part in said:
        other.write(part)
    raw, heard = outgoing.read(), b""
    for cut in cuts:
        if raw:
            heard += connection.opened(raw[:cut]) or b""
            raw = raw[cut:]
    if raw:
        heard += connection.opened(raw) or b""
    assert heard == b"".join(said)


@given(st.integers(0, 5000), st.integers(0, 7))
def test_a_bit_that_was_turned_on_the_way_ends_the_connection(
    authority: Authority, place: int, bit: int
) -> None:
    connection, other, outgoing = shaken(authority)
    other.write(bytes(5000))
    raw = bytearray(outgoing.read())
    raw[-5000 + place] ^= 1 << bit
    with pytest.raises(ConnectionResetError):
        connection.opened(bytes(raw))
