# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that stands for a node: `python -m tests.unit.cli.fake_node PORT MODE SHARED`.

Modes: `well` keeps values in the directory SHARED; `dies` prints and ends; `starting` is never
ready; `stubborn` ignores SIGTERM; `forgets` answers every get with another value.
"""

from __future__ import annotations

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Just enough of a node."""

    protocol_version = "HTTP/1.1"
    mode = "well"
    shared = Path()

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self._answer(503 if self.mode == "starting" else 200, b"ok")
        elif self.mode == "forgets":
            self._answer(200, b"something else")
        else:
            self._answer(200, (self.shared / "value").read_bytes())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (self.shared / "value").write_bytes(body)
        self._answer(200, b"ok")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Quorate-Version", "07" * 14)
        self.send_header("Quorate-Acks", "2/3")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main(port: str, mode: str, shared: str, *flags: str) -> None:
    """Serve until killed. `flags` are shown, and mean nothing but `--die`."""
    print(f"fake node on {port}", *flags, flush=True)
    if mode == "dies" or "--die" in flags:
        print("cannot go on", flush=True)
        sys.exit(7)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Handler.mode, Handler.shared = mode, Path(shared)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
