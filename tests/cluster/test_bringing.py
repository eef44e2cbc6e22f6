# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator's page says to do with a node that the others do not admit."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from quorate.client import Client
from tests.cluster.processes import NodeProcess, wait_until
from tests.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
KEYS = ("plain", "app:1", "b c", "z%41", "a&b=c+d", "\u65e5\u672c", "line\nbreak", '"$HOME`')


def bring(source: str, target: str, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the page's loop from B, which is at `source`, to A and C, both at `target`."""
    section = PAGE.read_text("utf-8").partition("\n### The first start\n")[2].partition("\n### ")[0]
    (script,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    script = script.replace("http://10.0.0.2:8000", source)
    script = re.sub(r"http://10\.0\.0\.[13]:8000", target, script)
    return subprocess.run(
        ["sh", "-c", script], cwd=directory, capture_output=True, timeout=60, check=True
    )


def test_the_loop_of_the_page_brings_each_record_whatever_its_key_has(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    alone, other = (NodeProcess(tmp_path, free_port(), []) for _ in range(2))
    try:
        for node in (alone, other):
            node.start()
        for node in (alone, other):
            wait_until(node.is_ready, within_s=20, what="ready")
        with Client(alone.url) as client:
            for key in KEYS:
                client.put(key, f"of {key}")
        done = bring(alone.url, other.url, tmp_path)
        assert (done.stdout, done.stderr) == (b"", b"")
        with Client(other.url) as client:
            found = {key: client.get(key) for key in KEYS}
        assert {key: each and each.value for key, each in found.items()} == {
            key: f"of {key}".encode() for key in KEYS
        }
    finally:
        for node in (alone, other):
            node.kill()


class CutShort(BaseHTTPRequestHandler):
    """A node that gives up amid the list of its keys."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/internal/keys":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"2\r\na\n\r\n")
        else:
            self.send_header("Content-Length", "0")
            self.end_headers()
        self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_the_loop_of_the_page_says_that_not_all_is_brought_where_the_list_is_cut_short(
    tmp_path: Path,
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with HTTPServer(("127.0.0.1", 0), CutShort) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = bring(url, url, tmp_path)
        finally:
            server.shutdown()
            thread.join()
    assert done.stdout == b"", "the key that was listed is brought"
    assert done.stderr.endswith(b"not brought: not all keys were listed\n")
