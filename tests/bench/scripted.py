# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers bytes as a script says; one thread for each connection."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[bytes], bytes]
"""What is said to a whole request; empty: close the connection."""
Cut = Callable[[bytes], int]
"""How many bytes the whole request takes that the bytes begin with; 0: it is not whole yet."""

_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)")


def http_request(data: bytes) -> int:
    head, end, _ = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    size = len(head) + 4 + (int(length[1]) if length else 0)
    return size if end and size <= len(data) else 0


def http_response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nA: b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


@contextmanager
def scripted(cut: Cut, answer: Answer, *, pieces: int = 1) -> Iterator[int]:
    """Its port. An answer is sent in so many pieces, the first ones of one byte."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # Whoever asked has gone.
                self._serve()

        def _serve(self) -> None:
            unread = b""
            while data := self.request.recv(1 << 16):
                unread += data
                while size := cut(unread):
                    said = answer(unread[:size])
                    unread = unread[size:]
                    if not said:
                        return
                    for place in range(min(pieces - 1, len(said))):
                        self.request.sendall(said[place : place + 1])
                    self.request.sendall(said[pieces - 1 :])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
