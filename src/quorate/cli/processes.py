# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as child processes of this one: started, watched, and never left behind.

Their output goes to files, so that it can be read after they died. Stopping asks them all at once,
and kills what has not ended by then. If this process is killed itself, `guardian` does that.
"""

from __future__ import annotations

import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Final

from quorate.cli.guardian import STOP_SECONDS, Guardian
from quorate.client.blocking import Client
from quorate.client.calls import Call, Unreachable

READY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_TAIL_LINES: Final = 10
_PORTS: Final = range(10_000, 32_000)
"""Below those that systems give to outgoing connections: a node that dials one that is not there
yet could be given the very port that it dials."""


class NodeFailed(Exception):
    """A node died or did not become ready; the message has the end of its log."""


class Child:
    """One node's process."""

    def __init__(self, *, port: int, command: list[str], log: Path, guardian: Guardian) -> None:
        self.port = port
        self.url = f"http://localhost:{port}"
        self.log = log
        self.command = command
        self._guardian = guardian
        self.start_again()

    def start_again(self) -> None:
        """Run the command anew; it must have ended."""
        self.log.touch(0o600)
        with self.log.open("ab") as output:
            # A session of its own: Ctrl-C reaches this process alone, which then stops its nodes.
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guardian.add(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def is_ready(self) -> bool:
        """Whether it takes requests. NodeFailed if it has ended."""
        if self.exit_code is not None:
            raise NodeFailed(self.obituary())
        try:
            with Client(self.url, timeout=1.0) as client:
                return client.request(Call("GET", "/readyz")).status == 200
        except Unreachable:
            return False

    def wait_ready(self, *, until: float) -> None:
        """Return once it takes requests; NodeFailed if it does not by `until` (monotonic)."""
        while not self.is_ready():
            if time.monotonic() > until:
                raise NodeFailed(
                    f"the node on port {self.port} was not ready within"
                    f" {READY_SECONDS:.0f}s; see {self.log}"
                )
            time.sleep(_POLL_SECONDS)

    def obituary(self) -> str:
        """How it ended, with the end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
        return f"the node on port {self.port} ended with code {self.exit_code}; {self.log}:\n{tail}"

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def kill(self) -> None:
        """End it without asking."""
        self._process.kill()
        self._wait(None)

    def pause(self) -> None:
        """Let it stand still, with its sockets open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def finish(self, *, until: float) -> None:
        """Wait for its end; kill it at `until` (monotonic)."""
        try:
            self._wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait(self, seconds: float | None) -> None:
        self._process.wait(seconds)
        self._guardian.drop(self._process.pid)


class Children:
    """Some nodes on this machine. A context manager: leaving it stops them all.

    Their logs are in `directory`, which is removed if this process is killed and it is temporary.
    """

    def __init__(
        self, directory: Path, command: Callable[[int], list[str]], *, is_temporary: bool
    ) -> None:
        self._directory = directory
        self._guardian = Guardian(remove=str(directory) if is_temporary else "")
        self._command = command
        self.all: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._guardian.close()

    def start(self, ports: list[int]) -> None:
        """Start a node on each port and wait until all are ready; raises NodeFailed."""
        for port in ports:
            log = self._directory / f"{port}.log"
            command = self._command(port)
            self.all.append(Child(port=port, command=command, log=log, guardian=self._guardian))
        until = time.monotonic() + READY_SECONDS
        for child in self.all:
            child.wait_ready(until=until)

    def end(self, child: Child) -> None:
        """End one of the nodes, and count it among them no more."""
        child.terminate()
        child.finish(until=time.monotonic() + STOP_SECONDS)
        self.all.remove(child)

    def watch(self, tell: Callable[[str], None]) -> None:
        """Tell of each node that ends and how to start it again; returns when none is left."""
        running = list(self.all)
        while running:
            for child in [each for each in running if each.exit_code is not None]:
                running.remove(child)
                tell(f"{child.obituary()}\nstart it again with: {shlex.join(child.command)}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End every node: ask first, kill after `STOP_SECONDS`, or at once if interrupted."""
        running = [child for child in self.all if child.exit_code is None]
        for child in running:
            child.terminate()
        until = time.monotonic() + STOP_SECONDS
        try:
            for child in running:
                child.finish(until=until)
        except KeyboardInterrupt:
            for child in running:
                child.finish(until=0.0)
            raise


@contextmanager
def stoppable(
    *names: str, interrupt: type[KeyboardInterrupt] = KeyboardInterrupt
) -> Iterator[None]:
    """Let signals raise `interrupt`, as Ctrl-C raises KeyboardInterrupt, so that what was started
    is ended: the signals of these `names`, or all that ask a process to end."""

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise interrupt

    names = names or ("SIGINT", "SIGTERM", "SIGHUP")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    previous = [(each, signal.signal(each, stop)) for each in signals]
    try:
        yield
    finally:
        for each, handler in previous:
            signal.signal(each, handler)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on now, all different."""
    candidates = random.sample(_PORTS, len(_PORTS))
    return list(islice(filter(_is_free, candidates), count))


def busy_ports(ports: list[int]) -> list[int]:
    """Those of `ports` that something listens on already."""
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":
            # As servers do: what still lingers of a node stopped a moment ago does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
