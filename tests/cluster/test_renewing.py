# SPDX-License-Identifier: GPL-3.0-or-later
"""Three nodes whose certificates, and at last the authority of them, are renewed under load."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.client import Client, TlsFailed
from quorate.client.calls import Call
from quorate.errors import QuorateError
from tests.cluster.inside import lines
from tests.cluster.load import Load, missing
from tests.cluster.processes import START_S, Cluster, NodeProcess, wait_until
from tests.cluster.threads import Threads
from tests.pki import Pki


class Renewed:
    """The nodes, the files that each reads, and the two authorities."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new = Pki(directory, "old"), Pki(directory, "new")
        self.accepted = directory / "accepted.pem"
        self.both = directory / "both.pem"
        """What clients trust."""
        self.both.write_text(self.old.path.read_text() + self.new.path.read_text())
        self.accept(self.old)
        flags = [f"-tls-ca={self.accepted}", "-peer-names=*.nodes.invalid", "-log-format=json"]
        self.cluster = Cluster(directory, *flags, "-heartbeat=300ms", "-durability=os")
        for number, node in enumerate(self.cluster.nodes):
            node.flags += self._issue(self.old, number)
        self.urls = [f"https://localhost:{node.port}" for node in self.cluster.nodes]

    def _issue(self, pki: Pki, number: int) -> list[str]:
        return pki.issue(f"node-{number}", f"{number}.nodes.invalid", "localhost").flags

    def accept(self, *authorities: Pki) -> None:
        """Let nodes trust these."""
        fresh = self.accepted.with_suffix(".new")
        fresh.write_text("".join(each.path.read_text() for each in authorities))
        fresh.replace(self.accepted)

    def certify(self, pki: Pki) -> None:
        """Give each node another certificate, of this authority."""
        for number in range(len(self.cluster.nodes)):
            self._issue(pki, number)

    def read_again(self) -> None:
        """Have each node read its files, one after the other."""
        for node in self.cluster.nodes:
            count = len(lines(node, "trust_renewed"))
            node.signal(signal.SIGHUP)
            wait_until(
                lambda node=node, count=count: len(lines(node, "trust_renewed")) > count,  # type: ignore[misc]
                within_s=20,
                what="it is read",
            )

    def is_ready(self, node: NodeProcess) -> bool:
        """Whether it serves."""
        assert node.is_running, node.log.read_text()[-2000:]
        try:
            with Client(f"https://localhost:{node.port}", ca=str(self.both)) as client:
                return client.request(Call("GET", "/readyz")).status == 200
        except QuorateError:
            return False

    def start(self) -> None:
        """Start who does not run, and wait until all serve."""
        for node in self.cluster.nodes:
            if not node.is_running:
                node.start()
        for node in self.cluster.nodes:
            wait_until(lambda node=node: self.is_ready(node), within_s=START_S, what="ready")  # type: ignore[misc]


class Comers(Threads):
    """Clients who shake hands anew for each request."""

    def __init__(self, urls: list[str], ca: str) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._ca = ca
        super().__init__([lambda url=url: self._come(url) for url in urls])  # type: ignore[misc]

    def _come(self, url: str) -> None:
        while not self.stop.is_set():
            try:
                with Client(url, ca=self._ca, timeout=10) as client:
                    client.put("comer", "value")
                    self.served += 1
            except QuorateError as error:
                self.failures.append(str(error))


@pytest.fixture
def renewed(tmp_path: Path) -> Iterator[Renewed]:
    found = Renewed(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.cluster.end()


def test_certificates_and_their_authority_are_renewed_without_one_failed_request(
    renewed: Renewed,
) -> None:
    old, new = renewed.old, renewed.new
    with Load(renewed.urls, ca=str(renewed.both)) as load:
        with Comers(renewed.urls, str(renewed.both)) as comers:
            for certified, accepted in ((old, [old]), (old, [old, new]), (new, [old, new])):
                load.wait_for(load.count + 20)
                renewed.accept(*accepted)
                renewed.certify(certified)
                renewed.read_again()
            renewed.accept(new)
            renewed.read_again()
            load.wait_for(load.count + 50)
        assert comers.failures == []
        assert comers.served > 20
    assert [str(each.error) for each in load.failures] == []
    # Links made from now on are of the new authority, and the old one is worth nothing.
    renewed.cluster.nodes[2].kill()
    renewed.start()
    with Client(renewed.urls[2], ca=str(new.path)) as client:
        assert client.put("after", "value").acks >= 2
    with Client(renewed.urls[0], ca=str(old.path)) as client, pytest.raises(TlsFailed):
        client.get("after")
    assert missing(renewed.urls[0], load.acknowledged, ca=str(new.path)) == []
