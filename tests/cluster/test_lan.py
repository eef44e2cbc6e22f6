# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/start-local` on three machines of a LAN, network namespaces with a default route each: a
list of URLs makes a cluster, and nobody has to be joined."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cluster.namespaces import NoNamespaces, Switch
from tests.cluster.processes import NodeProcess, wait_until

SCRIPT = Path(__file__).parents[2] / "scripts" / "start-local"
QUORATE = Path(sys.executable).with_name("quorate")
PORT = 8000
"""Nobody sets one; each namespace has all ports."""


class Machine(NodeProcess):
    """A directory on a machine of its own, in which `scripts/start-local` is run."""

    def __init__(self, directory: Path, space: list[str], url: str) -> None:
        directory.mkdir()
        super().__init__(directory, PORT, [])
        self.url = url
        self.secret = directory / "quorate-secret"
        self._directory = directory
        self._space = space

    def run(self, *flags: str) -> None:
        """Start the node as whoever reads docs/networking.md does."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._space, "sh", str(SCRIPT), *flags],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                env=self._environment(PYTHONUNBUFFERED="1", QUORATE_COMMAND=str(QUORATE)),
            )

    def quorate(self, *words: str) -> str:
        """What a command of this machine prints that asks its own node."""
        done = subprocess.run(
            [*self._space, str(QUORATE), *words, f"--target={self.url.removeprefix('http://')}"],
            cwd=self._directory,
            capture_output=True,
            text=True,
            env=self._environment(QUORATE_SECRET_FILE=self.secret.name),
            timeout=30,
            check=False,
        )
        return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"

    def is_serving(self) -> bool:
        """Whether its own machine hears that it is ready. AssertionError once it has ended."""
        assert self.is_running, self.log.read_text()[-2000:]
        told = self.quorate("status", "--json")
        if not told.startswith("["):
            return False
        return all(each["state"] == "ready" for each in json.loads(told))

    def members(self) -> list[str]:
        """Whom `/nodes` lists there."""
        return sorted(each["url"] for each in json.loads(self.quorate("nodes", "--json")))

    @staticmethod
    def _environment(**more: str) -> dict[str, str]:
        own = {name: text for name, text in os.environ.items() if not name.startswith("QUORATE_")}
        return {**own, **more}


@pytest.fixture
def switch() -> Iterator[Switch]:
    """One network with a router, of which the machines need no more than the address."""
    try:
        with Switch(3) as made:
            for index, address in enumerate(made.addresses):
                router = f"{address.rpartition('.')[0]}.1"
                route = ["ip", "route", "add", "default", "via", router]
                subprocess.run([*made.command(index), *route], check=True, timeout=30)
            yield made
    except NoNamespaces as why:
        pytest.skip(str(why))


@contextmanager
def started(machines: list[Machine], *flags: list[str]) -> Iterator[None]:
    """The first one makes the secret, which is copied to the others; all become ready."""
    try:
        first, *others = machines
        first.run(*flags[0])
        wait_until(first.secret.exists, within_s=20, what="the first machine has a secret")
        for machine, own in zip(others, flags[1:], strict=True):
            shutil.copy(first.secret, machine.secret)
            machine.run(*own)
        for machine in machines:
            wait_until(machine.is_serving, within_s=40, what=f"{machine.url} ready")
        yield
    finally:
        for machine in machines:
            if machine.is_running:
                machine.kill()


def share_one_store(machines: list[Machine]) -> None:
    """Each lists these three under these names alone, and has what another was given."""
    for machine in machines:
        assert machine.members() == sorted(each.url for each in machines)
    one, two, three = machines
    assert one.quorate("put", "greeting", "hello") == "ok\n"
    assert two.quorate("get", "greeting") == "hello"
    assert three.quorate("get", "greeting") == "hello"


def test_three_machines_with_one_list_of_lan_addresses_are_a_cluster(
    switch: Switch, tmp_path: Path
) -> None:
    urls = [f"http://{address}:{PORT}" for address in switch.addresses]
    machines = [
        Machine(tmp_path / str(index), switch.command(index), url) for index, url in enumerate(urls)
    ]
    listed = [f"-nodes={','.join(urls)}"]
    with started(machines, listed, listed, listed):
        share_one_store(machines)


def test_machines_that_advertise_names_are_listed_by_their_names_alone(
    switch: Switch, tmp_path: Path
) -> None:
    """`ip netns exec` lays `/etc/netns/NAME/hosts` over `/etc/hosts`."""
    names = [f"m{index}.quorate.invalid" for index in range(3)]
    hosts = "".join(f"{each} {name}\n" for each, name in zip(switch.addresses, names, strict=True))
    urls = [f"http://{name}:{PORT}" for name in names]
    machines = []
    with ExitStack() as stack:
        for index, url in enumerate(urls):
            space = switch.command(index)
            directory = Path("/etc/netns") / space[-1]
            directory.mkdir(parents=True)
            stack.callback(shutil.rmtree, directory)
            (directory / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
            machines.append(Machine(tmp_path / str(index), space, url))
        flags = [[f"-nodes={','.join(urls)}", f"-advertise={url}"] for url in urls]
        with started(machines, *flags):
            share_one_store(machines)
