# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets that are more than one parser: what shows who somebody is, the whole service of HTTP, the
server's end of TLS, and what other machines say by mDNS. Nobody here has logged in."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import ssl
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, cast

from structlog.testing import capture_logs
from zeroconf import RecordUpdate, Zeroconf
from zeroconf._dns import DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncServiceInfo

from quorate.config import Config
from quorate.doors.access import Principal
from quorate.doors.http.door import HttpDoor
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.limits import Budgets, ByteBudget, Timers
from quorate.doors.principals import Answer, Principals
from quorate.errors import Unauthenticated
from quorate.notation import is_url
from quorate.runtime.mdns import SERVICE, Nearby
from quorate.security.certificates import JOIN_NAME, PEER_NAME, authority_of
from quorate.security.contexts import Shown, make_trust
from quorate.security.tokens import Claims, claims_of, issue
from tests.fake_store import NODES, FakeStore
from tests.principals import CLUSTER, TOKEN_KEY, WALL_MS, AtOnce, user, users_of

_ANN: Final = user("ann", "read", "write")
_sources: Final = itertools.count()


def _source() -> str:
    """An address that has not failed to log in yet, whose checks would wait."""
    return str(next(_sources) % (1 << 24))


def _principals(timers: Timers) -> Principals:
    return Principals(
        timers,
        cluster=CLUSTER,
        wall_ms=lambda: WALL_MS,
        users=users_of(_ANN),
        is_open=False,
        thread=AtOnce(),
    )


# --- the Authorization header ---------------------------------------------------------------------


class Still:
    """Time that does not go on, so that nothing is ever due."""

    def time(self) -> float:
        return 1.0

    def call_later(self, _: float, __: Callable[[], object]) -> Any:
        return None


class _Applicant:
    is_gone = False

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def logged_in(self, answer: Answer) -> None:
        self.answers.append(answer)


_known: Final = cache(lambda: _principals(Still()))


def run_authorization(data: bytes) -> bool:
    """A header is a user's whose password or token is in it, or nobody's, and is told once."""
    is_somebody = False
    for header in (data, b"Basic " + b64encode(data), b"Bearer " + data):
        applicant, source = _Applicant(), _source()
        with capture_logs():
            _known().apply(header, source, applicant)
        (answer,) = applicant.answers
        if isinstance(answer, Principal):
            assert answer.name == "ann"
            assert _proves(header.strip().partition(b" ")[2].strip())
            assert _known().known(header, source) is answer
            is_somebody = True
        else:
            assert isinstance(answer, Unauthenticated)
            # Who was found before is found under other spellings of the scheme, too.
            shown = header.strip().partition(b" ")[2].strip()
            assert _known().known(header, source) is None or _proves(shown)
    return is_somebody


def _proves(shown: bytes) -> bool:
    """Whether this is ann's password, or a token of hers."""
    if claims_of(shown, key=TOKEN_KEY, cluster=CLUSTER, wall_ms=WALL_MS) is not None:
        return True
    return b64decode(shown, validate=True) == b"ann:ann-pw"


# --- HTTP, whole ----------------------------------------------------------------------------------

_TURNS: Final = 12
"""Of the loop, after which whatever a request does is done."""
_STATUS: Final = re.compile(rb"^HTTP/[0-9]\.[0-9] ([0-9]{3}) ", re.MULTILINE)


class _Line(asyncio.Transport):
    """A connection that takes all that is written."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._source = _source()
        self._protocol: asyncio.BaseProtocol = protocol
        self.written = b""
        self.is_closed = self.has_ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._source, 1) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.is_closed, "uvloop raises"
        assert not self.has_ended, "so here"
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.is_closed, "uvloop raises"
        self.has_ended = True

    def pause_reading(self) -> None:
        """Nothing more is said either way."""

    resume_reading = pause_reading


class _Faults(logging.Handler):
    """What aiohttp says of exceptions that nobody caught."""

    def __init__(self, faults: list[object]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self._faults.append(self.format(record))


class _Service:
    """The door of HTTP, at which nobody logs in, on a loop that is turned by hand."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.faults: list[object] = []
        self.loop.set_exception_handler(lambda _, fault: self.faults.append(fault))
        logging.getLogger().addHandler(_Faults(self.faults))
        self.store = FakeStore(Config(nodes=NODES, advertise=NODES[0]))
        self.principals = _principals(self.loop)
        self.door = HttpDoor(
            self.store,
            budgets=Budgets(ByteBudget(64 << 20), ByteBudget(64 << 20)),
            hosts=HostPolicy(self.principals, is_on_loopback=True, own_url=NODES[0]),
            principals=self.principals,
        )
        self.loop.run_until_complete(self.door.start())

    async def say(self, data: bytes) -> bytes:
        """All that is answered to these bytes, in two pieces; behind an odd number of them the
        client ends its side."""
        standing = asyncio.all_tasks()
        protocol = self.door.connection()
        line = _Line(cast(asyncio.BaseProtocol, protocol))
        protocol.connection_made(line)
        middle = len(data) // 2
        for piece in (data[:middle], data[middle:]):
            if piece and not line.is_closed:
                cast(asyncio.Protocol, line.get_protocol()).data_received(piece)
            await self._turn()
        if len(data) % 2 and not line.is_closed:
            cast(asyncio.Protocol, line.get_protocol()).eof_received()
            await self._turn()
        line.is_closed = True
        line.get_protocol().connection_lost(None)
        await self._turn()
        # Who waits yet, waits for a body, for some seconds.
        left = asyncio.all_tasks() - standing
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        # As the port does, now and then.
        self.principals.guests.forget(lambda each: each.is_closing())
        return line.written

    async def _turn(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)


_service: Final = cache(_Service)


def run_service(data: bytes) -> bool:
    """Whoever is nobody has whole answers, none of them of a fault, and reaches no key."""
    service = _service()
    with capture_logs() as told:
        answers = service.loop.run_until_complete(service.say(data))
    assert service.faults == []
    assert service.store.events == []
    assert all(each["log_level"] != "error" for each in told), told
    statuses = set(_STATUS.findall(answers))
    assert bool(answers) == bool(statuses)
    assert b"500" not in statuses
    return not statuses.isdisjoint((b"200", b"401"))


# --- TLS ------------------------------------------------------------------------------------------

_FLIGHT_BYTES_MAX: Final = 16 << 10
_HELLO: Final = bytes.fromhex(
    "1603010200010001fc0303911ef2eea57b1a9061a07c1e1b351db849f45aab78676e26f70ab379158c617520"
    "4769115e12f5c3bcfb306b439e33540c91f3c5011d9f012b0acb6b1b4222e0ec000a130213031301c02b00ff"
    "010001a9000000190017000014706565722e71756f726174652e696e76616c6964000b000403000102000a00"
    "0400020017002300000016000000170000000d002a0028040305030603080708080809080a080b0804080508"
    "06040105010601030303010302040205020602002b00050403040303002d0002010100330047004500170041"
    "04ba8353a989709bb0f3063db14d4916039fe59f1f4b4b0c5a126010b790118aaeb2a589e018b390d784dadc"
    "c7645ebe2ef509d74b9e82e9c85398b994436dde8a001500e4"
) + bytes(228)
"""Of a client that asks for a node by PEER_NAME, and speaks TLS 1.3 and 1.2."""


@cache
def _trust() -> Any:
    shown = authority_of(b"another's".ljust(32), cluster=CLUSTER).mint_node(6)
    return make_trust(
        (bytes(32),),
        shown=Shown(shown, datetime.now(UTC) + timedelta(days=1), ()),
        cluster=CLUSTER,
        node_id=5,
        is_for_clients=True,
    )


@contextmanager
def _nothing_unraised() -> Iterator[None]:
    """AssertionError if something was raised where nobody catches it, as in a callback of C's, but
    for what `ssl` makes of a server's name that is not ASCII."""
    raised: list[str] = []

    def keep(each: sys.UnraisableHookArgs) -> None:
        if not isinstance(each.exc_value, UnicodeDecodeError):
            raised.append(repr(each.exc_value))

    before, sys.unraisablehook = sys.unraisablehook, keep
    try:
        yield
    finally:
        sys.unraisablehook = before
    assert raised == []


def run_hello(data: bytes) -> bool:
    """Whatever a client begins with, it is not inside TLS yet, and is answered one flight."""
    said, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
    with _nothing_unraised():
        end = _trust().context_for(data).wrap_bio(said, answered, server_side=True)
        said.write(data)
        said.write_eof()
        with suppress(ssl.SSLError):
            end.do_handshake()
            raise AssertionError("shook hands")
    assert answered.pending <= _FLIGHT_BYTES_MAX
    return bool(answered.read().startswith(b"\x16"))


# --- mDNS -----------------------------------------------------------------------------------------

_INSTANCE: Final = f"other.{SERVICE}"


@cache
def _nearby() -> Nearby:
    return Nearby(cluster=CLUSTER, url="http://localhost:1", name="n", interface="127.0.0.1")


def run_mdns(data: bytes) -> bool:
    """Of a packet's answers what an instance says of itself is a URL, or nothing."""
    info, packet = AsyncServiceInfo(SERVICE, _INSTANCE), DNSIncoming(data, ("127.0.0.1", 5353))
    records = packet.answers()
    for record in records:
        info.async_update_records(_silent(), packet.now, [RecordUpdate(record, None)])
    _nearby().hear(_INSTANCE, info.decoded_properties)
    urls = _nearby().urls()
    assert all(map(is_url, urls))
    return bool(records)


@cache
def _silent() -> Zeroconf:
    """One without a socket, of which nothing but what it has heard is asked."""
    return Zeroconf.__new__(Zeroconf)


def _packet(told: dict[bytes, bytes]) -> bytes:
    """An answer with what an instance says of itself."""
    text = b"".join(
        bytes([len(name) + 1 + len(value)]) + name + b"=" + value for name, value in told.items()
    )
    answer = DNSOutgoing(0x8400)
    answer.add_answer_at_time(DNSText(_INSTANCE, 16, 1, 4500, text), 0)
    return answer.packets()[0]


_HEAD: Final = b"HTTP/1.1\r\nHost: localhost:1\r\nAccept: */*\r\n"
SEEDS: Final = {
    "authorization": [
        b"Basic " + b64encode(b"ann:ann-pw"),
        b"ann:ann-pw",
        issue(Claims("ann", WALL_MS + 1, CLUSTER), key=TOKEN_KEY).encode(),
    ],
    "service": [
        b"GET /healthz " + _HEAD + b"\r\n",
        b"HEAD /readyz " + _HEAD + b"Expect: 100-continue\r\nOrigin: http://localhost:1\r\n\r\n",
        b"PUT /kv?key=k " + _HEAD + b"Content-Length: 3\r\n\r\nabcGET /nodes " + _HEAD + b"\r\n",
        b"POST /join/secret " + _HEAD + b'Content-Length: 28\r\n\r\n{"token":"qj1.a","claim":""}',
        b"POST /batch " + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n",
        b"POST http://localhost:1/join HTTP/1.0\r\nAuthorization: Bearer qt1.a.b\r\n\r\n",
    ],
    "hello": [_HELLO, _HELLO.replace(PEER_NAME.encode(), JOIN_NAME.encode())],
    "mdns": [_packet({b"cluster": CLUSTER.encode(), b"url": b"http://10.0.0.1:8000"})],
}
