# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis of one dictionary that can be told to misbehave; one thread for each connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

import hiredis

WAIT_SECONDS = 10.0

Mood = Callable[[list[bytes]], bytes | None]
"""An answer instead of the true one, b"" to close the connection, None to answer truly."""


class FakeRedis:
    """Answers GET, SET and WAIT while the `with` lasts, through TLS if `tls` is given."""

    def __init__(self, mood: Mood = lambda _: None, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.values: dict[bytes, bytes] = {}
        self.commands: list[bytes] = []
        """The names of all commands, in the order of their arrival."""
        self.connections = 0
        self._mood = mood
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = ("127.0.0.1", int(self._listener.getsockname()[1]))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                if self._tls is not None:
                    accepted = self._tls.wrap_socket(
                        accepted, server_side=True, do_handshake_on_connect=False
                    )
                self._sockets.append(accepted)
                self._spawn(lambda accepted=accepted: self._serve(accepted))  # type: ignore[misc]

    def _serve(self, accepted: socket.socket) -> None:
        with suppress(OSError), accepted:
            for command in _commands(accepted):
                answer = self._answer(command)
                if not answer:
                    return
                accepted.sendall(answer)

    def _answer(self, command: list[bytes]) -> bytes:
        self.commands.append(command[0])
        answer = self._mood(command)
        if answer is not None:
            return answer
        if command[0] == b"SET":
            self.values[command[1]] = command[2]
            return b"+OK\r\n"
        if command[0] == b"WAIT":
            return b":2\r\n"
        value = self.values.get(command[1])
        return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def _commands(accepted: socket.socket) -> Iterator[list[bytes]]:
    reader = hiredis.Reader()
    while data := accepted.recv(65536):
        reader.feed(data)
        while (command := reader.gets()) is not False:
            yield command
