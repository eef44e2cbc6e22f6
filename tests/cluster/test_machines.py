# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces as machines: nodes that find each other by mDNS and by DNS, one behind a NAT
with a forwarded port, and a firewall that drops one direction; `quorate doctor` names each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from quorate.notation import split_url
from quorate.security.secret import new_secret, write_secret
from tests.cluster.namespaces import NoNamespaces, Switch
from tests.cluster.processes import NodeProcess, quorate, wait_until

PORT = 7600
INSIDE = "10.77.0"
"""The network behind the NAT."""
FOUND_S_MAX = 5.0
"""What finding each other may take, from when the last node listens."""


class MachineNode(NodeProcess):
    """A node in a namespace, found under `url`."""

    def __init__(self, directory: Path, space: list[str], url: str, *flags: str) -> None:
        directory.mkdir()
        super().__init__(directory, split_url(url)[1], ["-log-format=json", *flags])
        self.url = url
        self._space = space

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._space, sys.executable, "-m", "quorate", "serve", *self.flags],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What it logged of this."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def switch() -> Iterator[Switch]:
    try:
        with Switch(3) as made:
            yield made
    except NoNamespaces as why:
        pytest.skip(str(why))


@contextmanager
def running(*nodes: MachineNode) -> Iterator[None]:
    """These nodes, ready."""
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            wait_until(node.is_ready, within_s=40, what=f"{node.url} ready")
        yield
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()


def three(
    switch: Switch, directory: Path, *flags: str, addresses: list[str] | None = None
) -> list[MachineNode]:
    """A node in each namespace, at its address of IPv4 unless `addresses` says others."""
    shown = [f"[{each}]" if ":" in each else each for each in addresses or switch.addresses]
    return [
        MachineNode(
            directory / str(index),
            switch.command(index),
            f"http://{address}:{PORT}",
            "-insecure",
            f"-listen={address}:{PORT}",
            *flags,
        )
        for index, address in enumerate(shown)
    ]


def founded_by(nodes: list[MachineNode]) -> set[str]:
    return {line["nodes"] for node in nodes for line in node.logged("founded")}


def doctor(target: str) -> tuple[int, dict[tuple[str, str], str], list[str]]:
    """Its exit code, each way that fails with the step, and its advice."""
    done = quorate("doctor", target, "--json")
    told = json.loads(done.stdout)
    failed = {(way["source"], way["target"]): way["stage"] for way in told["ways"] if way["stage"]}
    return done.returncode, failed, told["advice"]


def in_space(space: list[str], *words: str, feed: str | None = None) -> None:
    subprocess.run([*space, *words], input=feed, text=True, check=True, timeout=30)


def filtered(space: list[str], rules: str) -> None:
    """Give a namespace these rules; the test is skipped where there is no nft."""
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed (Debian: nftables)")
    in_space(space, "nft", "-f", "-", feed=rules)


def test_machines_on_one_network_find_each_other_by_mdns(switch: Switch, tmp_path: Path) -> None:
    nodes = three(switch, tmp_path, "-discover=mdns", "-expect=3", f"-cluster=m{os.getpid()}")
    with running(*nodes):
        assert founded_by(nodes) == {", ".join(sorted(node.url for node in nodes))}
        assert doctor(nodes[0].url) == (0, {}, [])
        began_s = max(at_s(line) for node in nodes for line in node.logged("listening"))
        # Who hears of the cluster before he has heard all promises takes it, and does not say so.
        founded_s = max(at_s(line) for node in nodes for line in node.logged("founded"))
        assert founded_s - began_s < FOUND_S_MAX


def at_s(line: dict[str, Any]) -> float:
    """When it was logged: all have the clock of one machine."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


@contextmanager
def laid_over(switch: Switch, **files: str) -> Iterator[None]:
    """`ip netns exec` lays each `/etc/netns/NAME/FILE` over `/etc/FILE`."""
    with ExitStack() as stack:
        for index in range(len(switch.addresses)):
            directory = Path("/etc/netns") / switch.command(index)[-1]
            directory.mkdir(parents=True)
            stack.callback(shutil.rmtree, directory)
            for name, text in files.items():
                (directory / name.replace("_", ".")).write_text(text)
        yield


def test_machines_find_each_other_by_a_name_that_has_all_their_addresses(
    switch: Switch, tmp_path: Path
) -> None:
    name = "kv.quorate.invalid"
    hosts = "".join(f"{address} {name}\n" for address in switch.addresses)
    with laid_over(switch, hosts=f"127.0.0.1 localhost\n{hosts}"):
        nodes = three(switch, tmp_path, f"-discover=dns:{name}:{PORT}", "-expect=3")
        with running(*nodes):
            assert founded_by(nodes) == {", ".join(sorted(node.url for node in nodes))}
            assert all(node.logged("link_refused") == [] for node in nodes)
            assert doctor(nodes[0].url) == (0, {}, [])


@contextmanager
def name_server(space: list[str], address: str, *words: str) -> Iterator[Path]:
    """A server of the DNS at this address of the namespace; the file that has what it was asked."""
    command = [*space, sys.executable, "-m", "tests.cluster.name_server", address, *words]
    with TemporaryDirectory() as directory:
        asked = Path(directory) / "asked"
        with asked.open("wb") as file, subprocess.Popen(command, stdout=file) as server:
            try:
                wait_until(
                    lambda: "ready" in asked.read_text() or server.poll() is not None,
                    within_s=20,
                    what="the name server answers",
                )
                assert server.poll() is None
                yield asked
            finally:
                server.kill()


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_machines_find_each_other_by_addresses_that_a_dns_server_has(
    switch: Switch, tmp_path: Path, family: str
) -> None:
    """The name has an A and an AAAA record of each, and the nodes are at those of one family: the
    others lead nowhere, and that holds up nobody."""
    name = "kv.quorate.invalid"
    try:
        six = switch.addresses_of_ipv6()
    except NoNamespaces as why:
        pytest.skip(str(why))
    addresses = six if family == "IPv6" else switch.addresses
    resolver = f"nameserver {addresses[0]}\n"
    flags = [f"-discover=dns:{name}:{PORT}", "-expect=3"]
    with (
        laid_over(switch, hosts="127.0.0.1 localhost\n", resolv_conf=resolver),
        name_server(switch.command(0), addresses[0], name, *switch.addresses, *six) as asked,
    ):
        nodes = three(switch, tmp_path, *flags, addresses=addresses)
        with running(*nodes):
            assert founded_by(nodes) == {", ".join(sorted(node.url for node in nodes))}
            assert all(node.logged("link_refused") == [] for node in nodes)
            assert all(node.logged("discovery_limited") == [] for node in nodes)
            for node in nodes:
                (began,) = node.logged("listening")
                assert node.url == f"http://{began['addresses']}"
                assert began["reason"] == "-listen says it"
            # It tells of the addresses where nobody is, too.
            _, failed, _ = doctor(nodes[0].url)
            urls = {node.url for node in nodes}
            assert [way for way in failed if urls.issuperset(way)] == []
        assert {f"A {name}.", f"AAAA {name}."} <= set(asked.read_text().splitlines())


def test_doctor_names_the_direction_that_a_firewall_drops(switch: Switch, tmp_path: Path) -> None:
    listed = ",".join(f"http://{address}:{PORT}" for address in switch.addresses)
    nodes = three(switch, tmp_path, f"-nodes={listed}")
    with running(*nodes):
        one, _, third = nodes
        filtered(
            switch.command(2),
            f"""table inet f {{
                chain in {{
                    type filter hook input priority 0;
                    ip saddr {switch.addresses[0]} tcp dport {PORT} drop
                }}
            }}""",
        )
        code, failed, (line,) = doctor(nodes[1].url)
        assert code == 3
        assert failed == {(one.url, third.url): "connect"}
        assert f"open TCP {PORT} from {one.url} to {switch.addresses[2]}" in line


def lossy(source: str, bytes_max: int) -> str:
    """A machine's rules: no longer packet of that address arrives, and nobody is told."""
    return f"""table inet f {{
        chain in {{
            type filter hook input priority 0;
            ip saddr {source} meta length > {bytes_max} drop
        }}
    }}
    """


LET_PASS = (
    "let ICMP 'fragmentation needed' through, or lower the MTU of the interface (VPN, tunnel)"
)


def test_doctor_names_the_direction_in_which_long_packets_are_lost(
    switch: Switch, tmp_path: Path
) -> None:
    listed = ",".join(f"http://{address}:{PORT}" for address in switch.addresses)
    nodes = three(switch, tmp_path, f"-nodes={listed}")
    with running(*nodes):
        one, other, third = nodes
        filtered(switch.command(2), lossy(switch.addresses[0], 1000))
        code, failed, advice = doctor(other.url)
        assert (code, failed) == (3, {(one.url, third.url): "large"}), advice
        said = "it answers a short greeting, and no long one"
        assert advice == [f"{one.url} -> {third.url}: {said}: {LET_PASS}"]
        shown = quorate("doctor", other.url).stdout.decode()
        assert shown.count("x large") == 1
        (row,) = [line for line in shown.splitlines() if line.split()[1:2] == [one.url]]
        assert "x large" in row


def test_doctor_says_that_a_handshake_may_hang_for_lost_long_packets(
    switch: Switch, tmp_path: Path
) -> None:
    """Inside TLS whoever is dialled says much too, before it is greeted."""
    write_secret(tmp_path / "secret", new_secret())
    listed = ",".join(f"http://{address}:{PORT}" for address in switch.addresses)
    flags = [f"-nodes={listed}", f"-secret-file={tmp_path / 'secret'}"]
    nodes = three(switch, tmp_path, *flags)
    with running(*nodes):
        one, other, third = nodes
        filtered(switch.command(2), lossy(switch.addresses[0], 1400))
        code, failed, advice = doctor(other.url)
        assert (code, failed) == (
            3,
            {(one.url, third.url): "large", (third.url, one.url): "greet"},
        ), advice
        assert all(line.endswith(LET_PASS) for line in advice)
        assert "in time: is it a node that listens at" in advice[1]


def behind_nat(switch: Switch) -> tuple[list[str], list[str]]:
    """The second machine as a router with a NAT, and a namespace behind it: how to run commands in
    each."""
    router = switch.command(1)
    inside = f"{router[-1]}-in"
    ip = ["ip", "-n", router[-1]]
    link = ["link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", inside]
    for words in (
        ["ip", "netns", "add", inside],
        [*ip, *link],
        [*ip, "address", "add", f"{INSIDE}.1/24", "dev", "eth1"],
        [*ip, "link", "set", "eth1", "up"],
        ["ip", "-n", inside, "address", "add", f"{INSIDE}.2/24", "dev", "eth0"],
        ["ip", "-n", inside, "link", "set", "lo", "up"],
        ["ip", "-n", inside, "link", "set", "eth0", "up"],
        ["ip", "-n", inside, "route", "add", "default", "via", f"{INSIDE}.1"],
    ):
        in_space([], *words)
    in_space(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    return router, ["ip", "netns", "exec", inside]


def translated(forwarded: bool) -> str:
    """The router's rules: inner addresses are hidden, and the port may be forwarded."""
    forward = f'iifname "eth0" tcp dport {PORT} dnat to {INSIDE}.2' if forwarded else ""
    return f"""table ip n {{
        chain pre {{
            type nat hook prerouting priority -100;
            {forward}
        }}
        chain post {{
            type nat hook postrouting priority 100;
            oifname "eth0" masquerade
        }}
    }}
    """


def test_a_node_behind_a_nat_finds_out_its_address_and_doctor_misses_the_forwarded_port(
    switch: Switch, tmp_path: Path
) -> None:
    router, inside = behind_nat(switch)
    try:
        filtered(router, translated(True))
        outer = f"http://{switch.addresses[0]}:{PORT}"
        public = f"http://{switch.addresses[1]}:{PORT}"
        first = MachineNode(
            tmp_path / "first",
            switch.command(0),
            outer,
            "-insecure",
            f"-listen={switch.addresses[0]}:{PORT}",
            f"-nodes={outer}",
        )
        hidden = MachineNode(
            tmp_path / "hidden",
            inside,
            public,
            "-insecure",
            f"-listen=0.0.0.0:{PORT}",
            "-advertise=auto",
            f"-discover={outer}",
        )
        with running(first), running(hidden):
            (told,) = hidden.logged("advertised")
            assert (told["url"], told["reason"]) == (public, f"{outer} sees it there")
            first.sees(public, "up")
            assert doctor(outer) == (0, {}, [])
            filtered(router, f"delete table ip n\n{translated(False)}")
            code, failed, advice = doctor(outer)
            assert code == 3
            assert failed[(outer, public)] == "connect"
            assert failed[("this command", public)] == "connect"
            line = next(each for each in advice if each.startswith(f"{outer} -> {public}"))
            assert f"forward {PORT} to it" in line
    finally:
        in_space([], "ip", "netns", "delete", inside[-1])


FORWARDED = [PORT, PORT + 1]


def hairpinned(public: str, *, back: str) -> str:
    """The router's rules: these ports are forwarded for who comes from outside. `back` is what
    becomes of who comes from inside: `forwarded` too, `refused` by the router itself, at which
    nothing listens, or `dropped`."""
    listed = ", ".join(map(str, FORWARDED))
    outside = "" if back == "forwarded" else 'iifname "eth0"'
    dropped = f'iifname "eth1" tcp dport {{ {listed} }} drop' if back == "dropped" else ""
    return f"""table ip n {{
        chain pre {{
            type nat hook prerouting priority -100;
            {outside} ip daddr {public} tcp dport {{ {listed} }} dnat to {INSIDE}.2
        }}
        chain in {{
            type filter hook input priority 0;
            {dropped}
        }}
        chain post {{
            type nat hook postrouting priority 100;
            oifname "eth0" masquerade
            oifname "eth1" ip saddr {INSIDE}.0/24 masquerade
        }}
    }}
    """


@contextmanager
def two_behind_nat(switch: Switch, tmp_path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Three nodes, of which two are behind one NAT and advertise its outer address: the URL of the
    one that is outside, those of the two, and how to run commands at the router."""
    router, inside = behind_nat(switch)
    public, outer = switch.addresses[1], f"http://{switch.addresses[0]}:{PORT}"
    urls = [f"http://{public}:{port}" for port in FORWARDED]
    flags = ["-insecure", f"-nodes={','.join([outer, *urls])}"]
    nodes = [
        MachineNode(
            tmp_path / "first",
            switch.command(0),
            outer,
            f"-listen={switch.addresses[0]}:{PORT}",
            *flags,
        )
    ]
    for url, port in zip(urls, FORWARDED, strict=True):
        here = [f"-listen=0.0.0.0:{port}", f"-advertise={url}"]
        nodes.append(MachineNode(tmp_path / str(port), inside, url, *here, *flags))
    try:
        filtered(router, hairpinned(public, back="forwarded"))
        with running(*nodes):
            yield outer, urls, router
    finally:
        in_space([], "ip", "netns", "delete", inside[-1])


@pytest.mark.parametrize("back", ["refused", "dropped"])
def test_doctor_says_at_machines_behind_one_nat_that_it_does_not_lead_back_inside(
    switch: Switch, tmp_path: Path, back: str
) -> None:
    with two_behind_nat(switch, tmp_path) as (outer, urls, router):
        assert doctor(outer) == (0, {}, [])
        rules = hairpinned(switch.addresses[1], back=back)
        filtered(router, f"delete table ip n\n{rules}")
        code, failed, advice = doctor(outer)
        one, other = urls
        assert (code, failed) == (3, {(one, other): "connect", (other, one): "connect"})
        for line, (source, target) in zip(advice, failed, strict=True):
            assert line.startswith(f"{source} -> {target}: ")
            assert "others reach it (this command): " in line
            assert "if both are behind one NAT, it has to lead back inside (hairpin)" in line
            assert "start the node" not in line


def test_a_page_whose_name_leads_to_an_open_node_does_nothing_there(
    switch: Switch, tmp_path: Path
) -> None:
    address = switch.addresses[0]
    node = MachineNode(
        tmp_path / "open",
        switch.command(0),
        f"http://{address}:{PORT}",
        "-insecure",
        f"-listen={address}:{PORT}",
        "-advertise-client=http://kv.example.org:80",
    )

    def put(host: str) -> int:
        page = {"Host": host, "Origin": f"http://{host}"}
        with closing(HTTPConnection(address, PORT, timeout=10)) as client:
            client.request("PUT", "/kv?key=k", body=b"v", headers=page)
            return client.getresponse().status

    with running(node):
        assert put(f"evil.example:{PORT}") == 421
        assert put(f"{address}:{PORT}") == 200
        assert put("kv.example.org") == 200
