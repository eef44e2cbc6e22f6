# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes for tests: processes, sockets and disks, on ports of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.ports import free_ports

START_S = 20.0


def wait_until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Return as soon as the condition holds; AssertionError naming `what` if it never does."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def fetch(url: str, *, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one request, whatever the status."""
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def quorate(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "quorate", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


class NodeProcess:
    """One node, with the flags it was given; its log is `log`."""

    def __init__(self, directory: Path, port: int, flags: list[str]) -> None:
        self.port = port
        self.url = f"http://localhost:{port}"
        self.flags = [f"-port={port}", f"-data={directory / str(port)}", *flags]
        self.data = directory / str(port)
        self.log = directory / f"{port}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        """What it has of its own, as of the next start."""

    def start(self) -> None:
        """Start the process; it may not be ready yet."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "quorate", "serve", *self.flags],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Stop gracefully; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once the process has ended."""
        assert self.process is not None
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def is_ready(self) -> bool:
        """Whether it serves and reaches a quorum of every key. AssertionError once it has ended."""
        assert self.is_running, self.log.read_text()[-2000:]
        try:
            return fetch(f"{self.url}/readyz")[0] == 200
        except OSError:
            return False

    def member(self, url: str) -> dict[str, object]:
        """What this node says of another in `/nodes`."""
        members = json.loads(fetch(f"{self.url}/nodes")[1])
        found: dict[str, object] = next(each for each in members if each["url"] == url)
        return found

    def candidates(self) -> dict[str, str]:
        """Where others may be by this node's word, and why no link leads there."""
        listed = json.loads(fetch(f"{self.url}/candidates")[1])
        return {each["url"]: each["refusal"] for each in listed}

    def sees(self, url: str, state: str) -> None:
        """Wait until this node says so of another."""
        wait_until(
            lambda: self.member(url)["state"] == state, within_s=15, what=f"{url} seen as {state}"
        )

    def lists(self, urls: list[str]) -> None:
        """Wait until this node lists exactly these members."""
        wait_until(lambda: self._listed() == urls, within_s=15, what=f"{self.url} lists {urls}")

    def _listed(self) -> list[str]:
        return sorted(each["url"] for each in json.loads(fetch(f"{self.url}/nodes")[1]))

    def hints_for(self, url: str) -> int:
        """Hints that this node keeps for another."""
        return int(str(self.member(url)["hints"]))

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None


class Cluster:
    """Some nodes that know each other. Use as a context manager: nothing of it stays."""

    def __init__(self, directory: Path, *flags: str, count: int = 3) -> None:
        ports = free_ports(count)
        nodes = ",".join(f"http://localhost:{port}" for port in ports)
        self.nodes = [NodeProcess(directory, port, [f"-nodes={nodes}", *flags]) for port in ports]

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill what runs."""
        for node in self.nodes:
            if node.is_running:
                node.signal(signal.SIGCONT)
                node.kill()

    def kill(self) -> None:
        """Kill what runs at one instant, as near as it gets."""
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            node.signal(signal.SIGKILL)
        for node in running:
            node.wait()

    @property
    def urls(self) -> list[str]:
        """All nodes' URLs."""
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start every node that does not run, and wait until all are ready."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when every running node is ready."""
        for node in self.nodes:
            if node.is_running:
                wait_until(node.is_ready, within_s=START_S, what=f"{node.url} ready")
