# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that does what a test tells it: answers, hangs, cuts, lies. Real sockets, one thread each.

Also a port where nobody answers, and the two clients behind one face, so that a test of what they
share runs on both.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Protocol, Self

from quorate.client import AsyncClient, AsyncLease, Client, Lease

WAIT_SECONDS = 10.0
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)

CUT = b"\0cut"
"""As an answer: close the connection without one."""
VERSION = "07" * 14
HANG = b"\0hang"
"""As an answer: none, until the test ends."""

Answer = Callable[["Request"], bytes]


class Request:
    """One request as the node read it."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        self.head = head
        self.body = body
        self.connection = connection
        """The number of the connection, from 0."""
        self.method, self.target = head.decode("ascii").split(" ")[:2]

    @property
    def is_ping(self) -> bool:
        """Whether it only asks for a sign of life."""
        return self.target == "/internal/ping"


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """An answer's bytes; `_` in header names stands for `-`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def problem(status: int, code: str, **members: object) -> bytes:
    """A problem document."""
    body = json.dumps({"code": code, "detail": "no", "status": status, **members}).encode()
    return reply(status, body, Content_Type="application/problem+json")


def well(request: Request) -> bytes:
    """Answer like a node that holds `value` under every key."""
    if request.method == "GET" and request.target.startswith("/kv"):
        return reply(200, b"value", Quorate_Version=VERSION)
    return reply(200, b"ok", Quorate_Version=VERSION, Quorate_Acks="2/3")


class ScriptedNode:
    """Listens while the `with` lasts, with TLS if `tls` is given. Pings are answered well unless
    `pings` says otherwise."""

    def __init__(
        self, answer: Answer = well, *, pings: Answer = well, tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests: list[Request] = []
        """All but pings, in order of arrival."""
        self.connections = 0
        self.faults: list[str] = []
        """Why handshakes failed."""
        self._tls = tls
        self._answer = answer
        self._pings = pings
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        _shut(self._listener)
        self.drop()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)

    def drop(self) -> None:
        """Close every connection, as a node that finds them idle does."""
        for each in list(self._sockets):
            _shut(each)

    def reset(self) -> None:
        """Break every connection, as a machine that restarted does: what is sent is refused."""
        for each in list(self._sockets):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.shutdown(socket.SHUT_RD)  # Its thread sees the end, and lets go of it.
            each.close()
        wait_until(lambda: all(each.fileno() < 0 for each in self._sockets), what="all closed")

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            number = self.connections
            self.connections += 1
            self._sockets.append(accepted)
            if self._tls is not None:
                accepted = self._tls.wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
                self._sockets[-1] = accepted
            self._spawn(lambda accepted=accepted, number=number: self._serve(accepted, number))  # type: ignore[misc]

    def _serve(self, accepted: socket.socket, number: int) -> None:
        # The client may go away at any moment.
        with suppress(OSError), accepted, accepted.makefile("rb") as file:
            self._shake(accepted)
            while request := _read(file, number):
                answer = self._answered(request)
                if answer == HANG:
                    self._over.wait(WAIT_SECONDS)
                if answer in (CUT, HANG):
                    return
                accepted.sendall(answer)

    def _shake(self, accepted: socket.socket) -> None:
        if not isinstance(accepted, ssl.SSLSocket):
            return
        try:
            accepted.do_handshake()
        except ssl.SSLError as fault:
            self.faults.append(str(fault.reason))
            raise

    def _answered(self, request: Request) -> bytes:
        if request.is_ping:
            return self._pings(request)
        self.requests.append(request)
        return self._answer(request)


def _read(file: Any, number: int) -> Request | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            return None
        head += line
    length = _LENGTH.search(head)
    return Request(head, file.read(int(length[1]) if length else 0), number)


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def dead_port() -> Iterator[str]:
    """The URL of a port that refuses connections, and stays that way."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def echo(request: Request) -> bytes:
    """Answer with the target, so that a mixed-up answer shows."""
    return reply(200, request.target.encode(), Quorate_Version=VERSION)


def wait_until(condition: Callable[[], bool], *, what: str) -> None:
    """Return when `condition` holds; fail with `what` if it never does."""
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.005)


@contextmanager
def silent_port() -> Iterator[tuple[str, int]]:
    """An address where a connection is neither refused nor accepted: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        host, port = listener.getsockname()
        yield host, port


class Caller(Protocol):
    """A client of either kind: `call("get", "key")`."""

    def __call__(self, name: str, *given: Any, **named: Any) -> Any:
        """Make one call, to its end."""

    def together(self, name: str, keys: Iterable[str]) -> list[Any]:
        """Make a call for each key, all at once."""

    def lock(self, name: str, **named: Any) -> AbstractContextManager[Lease | AsyncLease]:
        """Hold a lock."""

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        """`wait_until`, while what the client does in the background goes on."""


class _Blocking:
    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, name: str, *given: Any, **named: Any) -> Any:
        result = getattr(self._client, name)(*given, **named)
        return list(result) if isinstance(result, Iterator) else result

    def together(self, name: str, keys: Iterable[str]) -> list[Any]:
        names = list(keys)
        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(lambda key: self(name, key), names))

    def lock(self, name: str, **named: Any) -> Lease:
        return self._client.lock(name, **named)

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        wait_until(condition, what=what)


class _Asynchronous:
    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __call__(self, name: str, *given: Any, **named: Any) -> Any:
        return self._runner.run(self._run(name, *given, **named))

    def together(self, name: str, keys: Iterable[str]) -> list[Any]:
        async def run() -> list[Any]:
            return await asyncio.gather(*(self._run(name, key) for key in keys))

        return self._runner.run(run())

    @contextmanager
    def lock(self, name: str, **named: Any) -> Iterator[AsyncLease]:
        run, lease = self._runner.run, self._client.lock(name, **named)
        run(lease.__aenter__())
        try:
            yield lease
        except BaseException as error:
            run(lease.__aexit__(type(error), error, None))
            raise
        run(lease.__aexit__(None, None, None))

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        async def wait() -> None:
            await asyncio.to_thread(wait_until, condition, what=what)

        self._runner.run(wait())

    async def _run(self, name: str, *given: Any, **named: Any) -> Any:
        call = getattr(self._client, name)(*given, **named)
        return [item async for item in call] if name == "scan" else await call


@contextmanager
def blocking(
    nodes: str | Sequence[str], *, timeout: float = 10.0, **access: Any
) -> Iterator[Caller]:
    """Calls of a Client."""
    with Client(nodes, timeout=timeout, **access) as client:
        yield _Blocking(client)


@contextmanager
def asynchronous(
    nodes: str | Sequence[str], *, timeout: float = 10.0, **access: Any
) -> Iterator[Caller]:
    """Calls of an AsyncClient."""
    client = AsyncClient(nodes, timeout=timeout, **access)
    with asyncio.Runner() as runner:
        yield _Asynchronous(client, runner)
        runner.run(client.close())
