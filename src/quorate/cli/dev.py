# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate dev: a cluster on this machine in one command, gone with Ctrl-C."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import DEV_NODES_MAX, whole_number
from quorate.cli.growing import GROW_AFTER, show_growth
from quorate.cli.output import complain, print_json
from quorate.cli.processes import Children, NodeFailed, busy_ports, stoppable
from quorate.client.blocking import Client
from quorate.notation import show_count
from quorate.security.secret import new_secret, write_secret

GROWING_NODES_MIN: Final = 3
_KEY: Final = "greeting"
_VALUE: Final = "hello from quorate"


def run_dev(given: Given) -> int:
    """Start nodes, show a put and a get, and keep them running; 0 when told to stop."""
    ports = _ports(given)
    busy = busy_ports([*ports, ports[-1] + 1] if "grow" in given else ports)
    if busy:
        shown = ", ".join(map(str, busy))
        found = f"port {shown} is" if len(busy) == 1 else f"ports {shown} are"
        text = f"{found} in use: choose another --base-port"
        return complain(text, code="port_in_use", is_json="json" in given)
    with stoppable(), _directory(given) as directory:
        try:
            return _run(given, ports, directory)
        except NodeFailed as fault:
            text, is_json = str(fault), "json" in given
            return complain(text, code="node_failed", is_json=is_json, exit_code=3)
        except KeyboardInterrupt:
            return 0


def _run(given: Given, ports: list[int], directory: Path) -> int:
    more = [f"--secret-file={_secret_in(directory)}"]
    if "grow" in given:
        more.append(f"--grow-after={GROW_AFTER}")

    def command(port: int) -> list[str]:
        return [*node_command(port, ports, directory), *more]

    is_json = "json" in given
    with Children(directory, command, is_temporary="dir" not in given) as nodes:
        if not is_json:
            count = show_count(len(ports), "node")
            print(f"starting {count}; data and logs in {directory}", flush=True)
        nodes.start(ports)
        shown = _demonstrate([child.url for child in nodes.all])
        if not is_json:
            _tell(shown)
        grown = {}
        if "grow" in given:
            grown["growth"] = show_growth(nodes, ports[-1] + 1, is_json=is_json)
        urls = [child.url for child in nodes.all]
        if is_json:
            told = {"nodes": urls, "directory": str(directory), "demonstration": shown}
            print_json({**told, **grown})
        if "once" in given:
            return 0
        if not is_json:
            _invite(urls)
        nodes.watch(_say)
        _say("all nodes have ended" + ("" if "dir" in given else f"; {directory} is removed"))
    return 3


def _secret_in(directory: Path) -> Path:
    """The file with the nodes' secret, made if there is none yet."""
    file = directory / "secret"
    if not file.exists():
        try:
            write_secret(file, new_secret())
        except OSError as fault:
            raise UsageError(f"--dir: {fault.strerror}: {file}") from None
    return file


def node_command(port: int, ports: list[int], directory: Path) -> list[str]:
    """The command line of the node on `port`."""
    nodes = ",".join(f"http://localhost:{each}" for each in ports)
    return [
        sys.executable,
        "-m",
        "quorate",
        "serve",
        f"--port={port}",
        f"--nodes={nodes}",
        f"--data={directory / str(port)}",
    ]


def _ports(given: Given) -> list[int]:
    count = whole_number(given, "nodes-count", low=1, high=DEV_NODES_MAX) or 3
    base = whole_number(given, "base-port", low=1) or 8000
    if "grow" in given and count < GROWING_NODES_MIN:
        raise UsageError(f"--grow: it takes {GROWING_NODES_MIN} nodes, of which one can leave")
    if base + count - ("grow" not in given) > 65535:
        raise UsageError("--base-port: ports end at 65535")
    return list(range(base, base + count))


def _demonstrate(urls: list[str]) -> dict[str, str | int]:
    """Put a key through the first node and get it through the last; what was seen."""
    with Client(urls[0]) as client:
        written = client.put(_KEY, _VALUE)
    with Client(urls[-1]) as client:
        found = client.get(_KEY)
    if found is None or found.value != _VALUE.encode():
        raise NodeFailed(f"get {_KEY} through {urls[-1]} did not find what was put")
    return {
        "key": _KEY,
        "put_through": urls[0],
        "acks": written.acks,
        "get_through": urls[-1],
        "value": found.value.decode(),
        "version": found.version,
    }


def _tell(shown: dict[str, str | int]) -> None:
    held = show_count(int(shown["acks"]), "replica")
    print(f"put {shown['key']} through {shown['put_through']}: on {held}")
    print(f"get {shown['key']} through {shown['get_through']}: {shown['value']}", flush=True)


def _invite(urls: list[str]) -> None:
    first = urls[0]
    port = first.rpartition(":")[2]
    print("nodes:")
    for url in urls:
        print(f"  {url}")
    print("try:")
    print(f"  curl -X PUT --data-binary bar '{first}/kv?key=foo'")
    print(f"  curl '{first}/kv?key=foo'")
    print(f"  redis-cli -p {port} set foo bar")
    print(f"  {_quorate()} get foo --target={first}")
    print("Ctrl-C stops all.", flush=True)


def _quorate() -> str:
    """What to type for `quorate` in this environment."""
    if shutil.which("quorate"):
        return "quorate"
    beside = shutil.which("quorate", path=str(Path(sys.executable).parent))
    return shlex.join([beside] if beside else [sys.executable, "-m", "quorate"])


def _say(text: str) -> None:
    print(f"quorate: {text}", file=sys.stderr, flush=True)


@contextmanager
def _directory(given: Given) -> Iterator[Path]:
    """The directory that was given, kept; or a temporary one, removed."""
    if "dir" in given:
        directory = Path(given["dir"]).absolute()
        try:
            directory.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as fault:
            why = "Not a directory" if isinstance(fault, FileExistsError) else fault.strerror
            raise UsageError(f"--dir: {why}: {directory}") from None
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="quorate-dev-", ignore_cleanup_errors=True) as name:
        yield Path(name)
