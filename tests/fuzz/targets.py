# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes bytes of strangers: each target takes any bytes, and raises if what is claimed of its
parser does not hold for them.

What random bytes would never get through (checksums, signatures, the prefix of a token) is put
there, so that what lies behind it is tried too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import struct
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp.http_parser import HttpRequestParser
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from quorate.core.topology.greeting import answer, hashed
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Frame, Greeting
from quorate.doors.http.canonical import (
    FULL,
    FULL_WITH_LOGIN,
    HEADERS,
    HEADERS_WITH_LOGIN,
    LINE,
    named_lines,
    unquoted,
)
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.joining import EntryBody
from quorate.doors.http.kv import REQUESTS, Asked
from quorate.doors.http.query import parse_query
from quorate.doors.http.request import decode_json
from quorate.doors.port import recognise
from quorate.errors import InvalidRequest, PeerProtocolError
from quorate.notation import is_url
from quorate.runtime.mdns import Nearby
from quorate.security.base32 import to_line
from quorate.security.joining import PREFIX, JoinTokenError, read_token
from quorate.security.secret import SecretError, read_secrets, show_secret
from quorate.security.tokens import Claims, claims_of, issue
from quorate.wire.frames import MAGIC, FrameParser, GreetingParser, encode_frame, encode_greeting
from quorate.wire.http import ResponseParser
from quorate.wire.resp import STRANGER_ARGS_MAX, STRANGER_BULK_BYTES_MAX, CommandArgs, CommandParser
from quorate.wire.stun import mapped_address
from tests.fuzz import served
from tests.principals import open_principals
from tests.unit.wire.frame_strategies import FRAME, GREETING, ONE_OF_EACH

HELD_BYTES_MAX: Final = 128 << 10
"""What a stranger's unfinished command may take."""
_KEY: Final = bytes(range(32))
_CLUSTER: Final = "quorate"
_MINE: Final = Greeting(
    PROTOCOL_MIN, PROTOCOL_MAX, hashed(_CLUSTER), "http://localhost:1", 5, 0, b"", "0.2"
)
_THEIRS: Final = msgspec.structs.replace(_MINE, url="http://localhost:2", node_id=7)
_HEADER: Final = struct.Struct(">III")
_UINT32: Final = 0xFFFFFFFF
_TRANSACTION: Final = b"t" * 12


class Target(NamedTuple):
    """A parser, and what is claimed of it."""

    run: Callable[[bytes], bool]
    """Whether the parser took it, which says nothing against it either way."""
    seeds: Sequence[bytes]
    """Inputs that others are made of."""


# --- the port, and Redis's protocol ---------------------------------------------------------------


def run_port(data: bytes) -> bool:
    """Twelve bytes are enough to know what a connection speaks, and more change nothing."""
    found = None
    for end in range(len(data[:16]) + 1):
        now = recognise(data[:end])
        assert found is None or now is found
        found = now
    assert found is not None or len(data) < 12
    return found is not None


def run_strange_commands(data: bytes) -> bool:
    """A stranger's commands are the same however they are cut, are short, and take little."""
    whole, cut = _parser(is_strict=True), _parser(is_strict=True)
    commands, middle = _commands(whole, data), len(data) // 2
    assert commands == _commands(cut, data[:middle]) + _commands(cut, data[middle:])
    assert whole.fault == cut.fault
    assert whole.held_bytes <= HELD_BYTES_MAX
    for command in commands:
        assert sum(map(len, command)) <= STRANGER_ARGS_MAX * STRANGER_BULK_BYTES_MAX
    return bool(commands)


def run_commands(data: bytes) -> bool:
    """Commands are the same however they are cut."""
    whole, cut, middle = _parser(), _parser(), len(data) // 2
    commands = whole.feed(data)
    assert commands == cut.feed(data[:middle]) + cut.feed(data[middle:])
    assert whole.fault == cut.fault
    return bool(commands)


def _parser(*, is_strict: bool = False) -> CommandParser:
    parser = CommandParser(bulk_bytes_max=1 << 20, value_bytes_max=1 << 20)
    parser.is_strict = is_strict
    return parser


def _commands(parser: CommandParser, data: bytes) -> list[CommandArgs]:
    commands: list[CommandArgs] = []
    while found := parser.feed(data):
        commands += found
        data = b""
    return commands


# --- peers ----------------------------------------------------------------------------------------


def run_greeting(data: bytes) -> bool:
    """A greeting is refused or answered, and the answer can be sent."""
    is_taken = False
    for sent in (data, MAGIC + _sealed(data)):
        with contextlib.suppress(PeerProtocolError):
            theirs = GreetingParser().feed(sent)
            if theirs is not None:
                encode_greeting(answer(_MINE, theirs, reached=0))
                is_taken = True
    return is_taken


def run_frames(data: bytes) -> bool:
    """A frame that is taken can be passed on, and is the same then."""
    is_taken = False
    for sent in (data, _sealed(data)):
        with contextlib.suppress(PeerProtocolError):
            for frame in FrameParser().feed(sent):
                assert FrameParser().feed(encode_frame(frame)) == [frame]
                is_taken = True
    return is_taken


def _sealed(payload: bytes) -> bytes:
    checksum = xxh3_64_intdigest(payload) & _UINT32
    return _HEADER.pack(len(payload), len(payload) ^ _UINT32, checksum) + payload


def _frames_of_each_kind() -> Iterator[Frame]:
    """A frame with one message, for every kind that peers say."""
    for message in drawn(ONE_OF_EACH)[-1]:
        yield Frame(1, 1, [message])


_Drawn = TypeVar("_Drawn")


def drawn(strategy: st.SearchStrategy[_Drawn]) -> list[_Drawn]:
    """Some that are as they should be, the same each time."""
    found: list[_Drawn] = []

    @settings(
        max_examples=50,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(strategy)
    def draw(each: _Drawn) -> None:
        found.append(each)

    draw()
    return found


# --- HTTP -----------------------------------------------------------------------------------------


class _Protocol(asyncio.Protocol):
    """What aiohttp's parser asks of a connection: nothing, for a head."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


_loop: Final = asyncio.new_event_loop()
_NO_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def run_http(data: bytes) -> bool:
    """What the fast lane takes the full service reads the same: method, target, and where it ends.
    Else two would disagree where the next request begins."""
    heads: list[tuple[bytes, bytes | None]] = []
    line = LINE.match(data)
    if line is not None and line[2] is not None:
        assert _NO_ESCAPE.search(line[2]) is None, "a % that begins no escape is refused"
        assert unquoted(line[2]) == unquote_to_bytes(line[2].replace(b"+", b" "))
    for pattern in (HEADERS, HEADERS_WITH_LOGIN):
        headers = None if line is None else pattern.match(data, line.end())
        if headers is not None:
            heads.append((data[: headers.end()], headers[2]))
    for pattern in (FULL, FULL_WITH_LOGIN):
        match = pattern.match(data)
        if match is not None:
            heads.append((match[0], match[4]))
            _understand(match)
    for head, length in heads:
        _compare(head, length)
    return bool(heads)


def _compare(head: bytes, length: bytes | None) -> None:
    """The full service reads of this head what the fast lane does."""
    messages, _, _ = HttpRequestParser(_Protocol(), _loop, 1 << 16).feed_data(head)  # type: ignore[arg-type]
    message = messages[0][0]
    line = head.partition(b"\r\n")[0]
    assert f"{message.method} {message.path} HTTP/1.1".encode() == line
    assert not message.chunked
    told = message.headers.getall("Content-Length", [])
    assert told == ([] if length is None else [length.decode()])
    assert len(message.headers.getall("Host")) == 1


def _understand(match: Any) -> None:
    method = REQUESTS[match[1]]
    lines = named_lines(match[0])
    with contextlib.suppress(InvalidRequest):
        query = parse_query(f"?{match[2].decode('ascii')}", allowed=method.parameters)
        Asked(method, query, lambda name: lines.get(name, ()))


_OWN_URL: Final = "http://node.invalid:1"
_trusting: Final = open_principals(served.Still())
_loopback: Final = HostPolicy(_trusting, is_on_loopback=True, own_url=_OWN_URL).at(None)
_network: Final = HostPolicy(_trusting, is_on_loopback=False, own_url=_OWN_URL).at(
    asyncio.BaseTransport()
)
_PRIVATE: Final = ("internal", "invalid", "local", "localhost", "svc", "test")


def run_query(data: bytes) -> bool:
    """A query is read or refused; and a host is one of loopback's, or the node's, or not; and one
    that no site can have, or not."""
    text = data.decode("utf-8", "surrogateescape")
    is_taken = False
    with contextlib.suppress(InvalidRequest):
        query = parse_query(text, allowed=frozenset({"key", "ttl", "timeout", "r", "by"}))
        query.key()
        query.ttl_ms()
        query.timeout_ms()
        query.quorum("r")
        is_taken = True
    name = data.decode("latin-1").lower()
    if _loopback.welcome(data):
        assert any(each in name for each in ("node.invalid", "localhost", "127.", ":", "1"))
    if _network.welcome(data) and name.count(":") < 2:
        labels = name.partition(":")[0].removesuffix(".").strip("[]").split(".")
        is_kept = labels[-1] in _PRIVATE or labels[-2:] == ["home", "arpa"]
        assert len(labels) == 1 or is_kept or all(map(str.isdigit, labels))
    return is_taken


def run_answer(data: bytes) -> bool:
    """Of a server: an answer is the same however it is cut, or refused."""
    whole = _answer(data)
    assert whole is None or whole == _answer(data[: len(data) // 2], data[len(data) // 2 :])
    return whole is not None


def _answer(*pieces: bytes) -> tuple[int, bytes] | None:
    parser = ResponseParser()
    with contextlib.suppress(PeerProtocolError):
        found = None
        for piece in pieces:
            found = found or parser.feed(piece)
        found = found or parser.end()
        return None if found is None else (found.status, bytes(found.body))
    return None


# --- secrets and tokens ---------------------------------------------------------------------------


def run_token(data: bytes) -> bool:
    """What is signed is a user's token or nothing, and what is not is nothing."""
    assert _claims(data) is None
    signed = b"qt1." + urlsafe_b64encode(data).rstrip(b"=")
    tag = urlsafe_b64encode(hmac.digest(_KEY, signed, "sha256")).rstrip(b"=")
    claims = _claims(signed + b"." + tag)
    assert claims is None or claims.cluster == _CLUSTER
    return claims is not None


def _claims(token: bytes) -> Claims | None:
    return claims_of(token, key=_KEY, cluster=_CLUSTER, wall_ms=0)


def run_join_token(data: bytes) -> bool:
    """A join token has one spelling."""
    is_taken = False
    for text in (data.decode("latin-1"), to_line(PREFIX, data[:106].ljust(106, b"\0"))):
        with contextlib.suppress(JoinTokenError):
            token = read_token(text)
            assert token.text() == text.strip().lower()
            is_taken = True
    return is_taken


_entering: Final = msgspec.json.Decoder(EntryBody)


def run_entering(data: bytes) -> bool:
    """What a newcomer says is read or refused."""
    with contextlib.suppress(InvalidRequest):
        return isinstance(decode_json(data, _entering), EntryBody)
    return False


def run_secret(data: bytes) -> bool:
    """A secret is read as it is shown, or refused."""
    with contextlib.suppress(SecretError):
        for secret in read_secrets(data.decode("latin-1")):
            assert show_secret(secret).encode() in data.lower()
        return True
    return False


# --- who is around --------------------------------------------------------------------------------


def run_stun(data: bytes) -> bool:
    """An answer is an address or refused."""
    header = struct.pack(">HHI12s", 0x0101, len(data), 0x2112A442, _TRANSACTION)
    is_taken = False
    for sent in (data, header + data):
        with contextlib.suppress(ValueError):
            address, number = mapped_address(sent, transaction=_TRANSACTION)
            assert is_url(f"http://[{address}]:{number}") or number == 0 or "." in address
            is_taken = True
    return is_taken


def run_nearby(data: bytes) -> bool:
    """Only what is a URL is ever dialled."""
    nearby = Nearby(cluster=_CLUSTER, url="http://localhost:1", name="n", interface="127.0.0.1")
    nearby.hear("other", {"cluster": _CLUSTER, "url": data.decode("utf-8", "replace")})
    assert all(map(is_url, nearby.urls()))
    return bool(nearby.urls())


_REQUEST: Final = b" /kv?key=k%41&r=1 HTTP/1.1\r\nHost: localhost:1\r\nAccept: */*\r\n"
_LOGIN: Final = b"Authorization: Basic " + b64encode(b"ann:pw") + b"\r\n"
TARGETS: Final = {
    "port": Target(run_port, [b"GET /", b"*1\r\n$4\r\nPING\r\n", MAGIC, b"\x16\x03\x01", b"PUT /"]),
    "strange-commands": Target(
        run_strange_commands,
        [b"*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n", b'HELLO 3 AUTH "a\\x41" b\r\nPING\r\n'],
    ),
    "commands": Target(
        run_commands, [b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", b"SET k 'v'\r\n"]
    ),
    "greeting": Target(
        run_greeting,
        [
            encode_greeting(each)[len(MAGIC) + _HEADER.size :]
            for each in (_THEIRS, *drawn(GREETING))
        ],
    ),
    "frames": Target(
        run_frames,
        [encode_frame(each)[_HEADER.size :] for each in (*drawn(FRAME), *_frames_of_each_kind())],
    ),
    "http": Target(
        run_http,
        [
            b"GET" + _REQUEST + b"\r\n",
            b"PUT" + _REQUEST + _LOGIN + b"Content-Length: 3\r\n\r\nabc",
            b'DELETE /kv?key=k&timeout=1s HTTP/1.1\r\nIf-Match: "00"\r\nHost: a\r\n\r\n',
            b"POST /incr?key=k&by=-1 HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n"
            b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ],
    ),
    "query": Target(
        run_query,
        [b"?key=a%20b&ttl=5&timeout=1s&r=2", b"localhost:8000", b"[::1]:1", b"q-0.q.shop.svc:1"],
    ),
    "answer": Target(
        run_answer,
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
        ],
    ),
    "token": Target(
        run_token,
        [
            b'["ann",1,"quorate"]',
            issue(Claims("ann", 1, _CLUSTER), key=b"another's").encode(),
        ],
    ),
    "join-token": Target(run_join_token, [to_line(PREFIX, bytes(106)).encode(), b"qj1.abc"]),
    "entering": Target(run_entering, [b'{"token":"qj1.aa","claim":"00ff"}', b"[[[[{}]]]]"]),
    "secret": Target(run_secret, [f"{show_secret(bytes(32))}\n{show_secret(_KEY)}\n".encode()]),
    "stun": Target(run_stun, [b"\0\x20\0\x08\0\x01\x21\x13\x5e\x12\xa4\x43", b"\0\1\0\4\0\1\0\1"]),
    "authorization": Target(served.run_authorization, served.SEEDS["authorization"]),
    "service": Target(served.run_service, served.SEEDS["service"]),
    "hello": Target(served.run_hello, served.SEEDS["hello"]),
    "mdns": Target(served.run_mdns, served.SEEDS["mdns"]),
    "nearby": Target(run_nearby, [b"http://10.0.0.1:8000", b"http://[fe80::1%25eth0]:8000/"]),
}
"""By name."""
