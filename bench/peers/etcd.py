# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd: three members; load goes to the leader, which spares it the way from a follower to it.

It is asked through gRPC, a call on a stream of an HTTP/2 connection (RFC 9113), or through its HTTP
gateway. A client library would cost several times what etcd does; a request is bytes from an
example here.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.generator import STREAM, Dialect, Measured, StoreLoad
from bench.processes import Process, ProcessFailed, make_directory, program, wait_for
from bench.systems import Running, Workbench
from quorate.cli.processes import free_ports

USER: Final = "etcd"
MEMBERS: Final = 3
KEYS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Etcd:
    """Three members, each as it comes: every write is synced before it is acknowledged."""

    @property
    def name(self) -> str:
        return "etcd"

    @contextmanager
    def start(self, place: Workbench) -> Iterator[Running]:
        """Started, with a leader that all follow."""
        clients, peers = free_ports(MEMBERS), free_ports(MEMBERS)
        cluster = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
        with Running(clients) as running:
            for number in range(MEMBERS):
                urls = (f"http://127.0.0.1:{clients[number]}", f"http://127.0.0.1:{peers[number]}")
                running.processes.append(_member(place, f"m{number}", urls, cluster))
            wait_for(lambda: all(map(_is_healthy, clients)), running.processes, what=self.name)
            wait_for(lambda: bool(_leaders(clients)), running.processes, what="a leader")
            running.ports = _leaders(clients)
            yield running


def _member(place: Workbench, name: str, urls: tuple[str, str], cluster: str) -> Process:
    directory = make_directory(place.directory / name, user=USER)
    client, peer = urls
    command = [program("etcd"), "--name", name, "--data-dir", str(directory / "data")]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
    command += ["--logger", "zap", "--log-level", "error"]
    return Process(command, log=directory / "log", user=USER)


def _is_healthy(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
        return bool(json.load(answer)["health"] == "true")


def _leaders(ports: list[int]) -> list[int]:
    """Those that are the leader: one, or none."""
    return [port for port in ports if _is_leader(port)]


def _is_leader(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/v3/maintenance/status"
    with urllib.request.urlopen(url, b"{}", timeout=2) as answer:
        status = json.load(answer)
    return bool(status["leader"] == status["header"]["member_id"])


# --- what is said --------------------------------------------------------------------------------

_KEY: Final = b"quorate-bench:" + b"0" * 15
_DATA, _HEADERS, _SETTINGS, _WINDOW_UPDATE = 0, 1, 4, 8
_END_STREAM, _END_HEADERS = 1, 4
_WINDOW_MOST: Final = (1 << 31) - 1
_WINDOW_FIRST: Final = 65_535


def _frame(kind: int, flags: int, stream: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + stream + payload


_HELLO: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, bytes(4), b"")
    # The connection's window, for all replies together, is opened once and as far as it goes.
    + _frame(_WINDOW_UPDATE, 0, bytes(4), struct.pack(">I", _WINDOW_MOST - _WINDOW_FIRST))
)


def _call(method: bytes, message: bytes) -> bytes:
    """Headers are literals without Huffman codes, and the static table (RFC 7541): POST, http."""
    path = b"/etcdserverpb.KV/" + method
    headers = b"\x83\x86\x04%c%b\x01\x04etcd\x0f\x10\x10application/grpc" % (len(path), path)
    headers += b"\x00\x02te\x08trailers"
    data = struct.pack(">BI", 0, len(message)) + message
    sent = _frame(_HEADERS, _END_HEADERS, STREAM, headers)
    return sent + _frame(_DATA, _END_STREAM, STREAM, data)


def etcd_grpc(port: int, value: bytes, wait: int) -> Dialect:
    """Protobuf: field 1 is the key, field 2 of a put its value; both have one byte of length."""
    del port, wait
    key = b"\x0a\x1d" + _KEY
    put = key + b"\x12%c%b" % (len(value), value)
    return Dialect(
        "http2", _call(b"Range", key), _call(b"Put", put), hello=_HELLO, mark=b"quorate-bench:"
    )


def etcd_txn(port: int, value: bytes, wait: int) -> Dialect:
    """A transaction that looks at the key, and puts it either way: fields 1 to 3 are what to
    compare, and what to do if that is so, or not."""
    plain = etcd_grpc(port, value, wait)
    key = _KEY
    is_there = b"\x08\x01\x10\x00\x1a\x1d%b\x20\x00" % key
    put = b"\x0a\x1d%b\x12%c%b" % (key, len(value), value)
    then = b"\x12%c%b" % (len(put), put)
    parts = ((b"\x0a", is_there), (b"\x12", then), (b"\x1a", then))
    message = b"".join(b"%b%c%b" % (name, len(part), part) for name, part in parts)
    return plain._replace(write=_call(b"Txn", message))


def etcd_gateway(port: int, value: bytes, wait: int) -> Dialect:
    """JSON with bytes in base64: the value's letters are some, and the key has one byte more, so
    that its digits begin where a group of base64 does."""
    del port, wait
    key = base64.b64encode(b"quorate-bench::" + b"0" * 15)

    def request(method: bytes, body: bytes) -> bytes:
        head = b"POST /v3/kv/%b HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n"
        return head % (method, len(body)) + body

    get, put = b'{"key":"%b"}' % key, b'{"key":"%b","value":"%b"}' % (key, value)
    return Dialect("http", request(b"range", get), request(b"put", put), mark=b'"kvs"')


@dataclass(frozen=True, kw_only=True)
class EtcdLoad(StoreLoad):
    """Puts, or linearizable gets, of the leader."""

    keys: int = KEYS

    def measure(self, running: Running, place: Workbench, *, seconds: float) -> Measured:
        found = super().measure(running, place, seconds=seconds)
        if _leaders(running.ports) != running.ports:
            raise ProcessFailed(
                "another member became the leader: load went the long way, by a follower"
            )
        return found
