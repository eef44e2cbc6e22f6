# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes in network namespaces of their own, so that a test can cut the wires between them.

A switch (a bridge in a namespace of its own, out of reach of the host's firewall) joins the nodes'
namespaces and the host, where clients run. Deleting the namespaces removes all of it.

A wire is cut in one direction by telling the sender that its peer's address belongs to a network
card that nobody has: packets leave and vanish, as in a real split. Nothing is refused and no
socket hears of it, and the host still reaches everyone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv6Network
from pathlib import Path

from tests.cluster.processes import Cluster, NodeProcess

PORT = 7600
_NOBODY = "02:00:00:00:00:fe"
"""A locally administered hardware address that the kernel gives to no card here."""


class NoNamespaces(Exception):
    """Namespaces cannot be had here; the text says why."""


class IpFailed(Exception):
    """`ip` did not do what it was told, and says why."""


class Switch:
    """One switch with `count` namespaces plugged in. Use as a context manager: nothing of it stays.

    Addresses are of 198.18.0.0/15, which is set aside for tests of networks (RFC 2544).
    """

    def __init__(self, count: int) -> None:
        # Two runs at once on one machine must not meet.
        self._name = f"quorate-{os.getpid()}"
        self._subnet = f"198.18.{os.getpid() % 256}"
        self._host_link = f"quorate{os.getpid() % 10**8}"
        self._spaces = [f"{self._name}-{index}" for index in range(count)]
        self.addresses = [f"{self._subnet}.{10 + index}" for index in range(count)]
        self._cuts: list[tuple[str, str]] = []
        """Namespace of the sender, address of the receiver."""

    def __enter__(self) -> Switch:
        """NoNamespaces where that is not possible."""
        if os.geteuid() != 0:
            raise NoNamespaces("network namespaces need root")
        if shutil.which("ip") is None:
            raise NoNamespaces("ip is not installed (Debian: iproute2)")
        self.remove()  # What a run that was killed left under the same process id.
        try:
            self._plug()
        except IpFailed as fault:
            self.remove()
            raise NoNamespaces(f"network namespaces cannot be made here: {fault}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Delete every namespace, and with them the wires that end there."""
        for space in (self._name, *self._spaces):
            with contextlib.suppress(IpFailed):
                _ip("netns", "delete", space)

    def addresses_of_ipv6(self) -> list[str]:
        """Give each namespace an address of IPv6 as well, and the host: unique local ones, which
        nobody routes (RFC 4193). NoNamespaces where the kernel has none."""
        network = IPv6Network((0xFD00 << 112 | os.getpid() << 80, 64))
        found = [str(network[0x10 + index]) for index in range(len(self._spaces))]
        at = [["-n", space, "address", "add", "dev", "eth0"] for space in self._spaces]
        at.append(["address", "add", "dev", self._host_link])
        try:
            for address, words in zip([*found, str(network[1])], at, strict=True):
                # At once: nobody else has it, so nobody need be asked.
                _ip(*words, f"{address}/64", "nodad")
        except IpFailed as fault:
            raise NoNamespaces(f"no IPv6 here: {fault}") from None
        return found

    def command(self, index: int) -> list[str]:
        """What to put before a command to run it in a namespace, under its own process id."""
        return ["ip", "netns", "exec", self._spaces[index]]

    def cut(self, sender: int, receiver: int) -> None:
        """Let nothing that one sends reach the other. The other direction is not touched."""
        nobody = ("lladdr", _NOBODY, "nud", "permanent")
        space, address = self._spaces[sender], self.addresses[receiver]
        _ip("-n", space, "neighbour", "replace", address, *nobody, "dev", "eth0")
        if (space, address) not in self._cuts:
            self._cuts.append((space, address))

    def heal(self) -> None:
        """Mend every wire."""
        for space, address in self._cuts:
            _ip("-n", space, "neighbour", "delete", address, "dev", "eth0")
        self._cuts.clear()

    def _plug(self) -> None:
        _ip("netns", "add", self._name)
        _ip("-n", self._name, "link", "add", "switch", "type", "bridge")
        _ip("-n", self._name, "link", "set", "switch", "up")
        for index, space in enumerate(self._spaces):
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
            self._wire(f"node{index}", end=["eth0", "netns", space])
            self._address(self.addresses[index], "eth0", at=["-n", space])
        self._wire("host", end=[self._host_link, "netns", str(os.getpid())])
        self._address(f"{self._subnet}.1", self._host_link, at=[])

    def _wire(self, socket: str, *, end: list[str]) -> None:
        switch = ["-n", self._name, "link"]
        _ip(*switch, "add", socket, "type", "veth", "peer", "name", *end)
        _ip(*switch, "set", socket, "master", "switch", "up")

    def _address(self, address: str, link: str, *, at: list[str]) -> None:
        _ip(*at, "address", "add", f"{address}/24", "dev", link)
        _ip(*at, "link", "set", link, "up")


def _ip(*words: str) -> None:
    """Run `ip`; IpFailed with its own words if it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise IpFailed(f"ip {' '.join(words)}: {done.stderr.strip()}")


class SpacedNode(NodeProcess):
    """A node in a namespace."""

    def __init__(self, directory: Path, switch: Switch, index: int, flags: list[str]) -> None:
        # Each namespace has all ports; directories are named by them.
        super().__init__(directory, PORT + index, flags)
        self.url = f"http://{switch.addresses[index]}:{self.port}"
        self._prefix = switch.command(index)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "quorate", "serve", *self.flags],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )


class SpacedCluster(Cluster):
    """Nodes on a switch."""

    def __init__(self, directory: Path, switch: Switch, *flags: str) -> None:
        super().__init__(directory, count=0)
        self.switch = switch
        count = len(switch.addresses)
        nodes = ",".join(f"http://{switch.addresses[i]}:{PORT + i}" for i in range(count))
        listed = [f"-nodes={nodes}", "-insecure", *flags]
        self.nodes.extend(SpacedNode(directory, switch, index, listed) for index in range(count))


@contextlib.contextmanager
def spaced(directory: Path, *flags: str, count: int = 3) -> Iterator[SpacedCluster]:
    """So many nodes on a switch, ready; NoNamespaces where that is not possible."""
    with Switch(count) as switch:
        cluster = SpacedCluster(directory, switch, *flags)
        with cluster:
            yield cluster
