# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that asks a peer where it is seen, and what is left of that."""

from __future__ import annotations

import pytest

from quorate.core.values.messages import Greeting
from quorate.host.acceptor import Incoming
from quorate.host.sighting import SIGHTING_MS, NoAnswer, Sighting
from quorate.host.system import Proof
from quorate.wire.frames import encode_greeting
from tests.unit.host.wires import Host, Net, Node, greeting_for, raw_peer, url_of


def ask(net: Net, number: int, *, cluster: str = "c") -> list[Greeting | NoAnswer]:
    """What node `number` says, once."""
    told: list[Greeting | NoAnswer] = []
    host = Host(net, "asker")
    net.hosts[host.name] = host
    Sighting(
        host,
        url_of(number),
        cluster=cluster,
        node_id=9,
        told=told.append,
    )
    return told


def seen(told: list[Greeting | NoAnswer]) -> str:
    """Where the one who answered sees who asked."""
    (answer,) = told
    assert isinstance(answer, Greeting)
    return answer.seen


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    # The rig compares clusters by name, not by a hash of it.
    monkeypatch.setattr("quorate.host.sighting.hashed", str)
    return Node(Net(), 1)


@pytest.mark.parametrize("cluster", ["c", "another"])
def test_a_peer_says_where_it_sees_who_asks_and_keeps_nothing_of_it(
    node: Node, cluster: str
) -> None:
    told = ask(node.net, 1, cluster=cluster)
    node.net.run()
    assert seen(told) == "asker"
    assert node.accepted == []
    assert not node.acceptor._by_peer


def test_a_question_is_no_refusal_that_is_logged(node: Node) -> None:
    ask(node.net, 1)
    node.net.run()
    assert node.journal.handshakes_refused == 0
    assert node.host.notes == []


def test_whoever_asks_learns_nothing_but_that(node: Node) -> None:
    asked = Host(node.net, "asker")
    node.net.hosts["asker"] = asked
    heard: list[bytes] = []

    class Hearing(Sighting):
        def data_received(self, data: bytes) -> None:
            heard.append(data)
            super().data_received(data)

    Hearing(asked, url_of(1), cluster="c", node_id=9, told=lambda _: None)
    node.net.run()
    (answer,) = heard
    assert url_of(1).encode() not in answer
    assert b"h" * 16 not in answer


def test_who_proves_to_be_no_node_is_asked_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = {"asker": Proof("its certificate is a client's")}
    monkeypatch.setattr(Host, "proof", lambda host, _: proofs.get(host.name, Proof()))
    heard: list[bytes] = []
    monkeypatch.setattr(Incoming, "data_received", lambda _, data: heard.append(data))
    told = ask(node.net, 1)
    node.net.run()
    assert told == [NoAnswer("its certificate is a client's", is_distrust=True)]
    assert heard == []


def test_who_ends_the_connection_before_it_greets_may_not_trust_who_asks(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "it may take links inside TLS alone"
    proofs = {"asker": Proof(silence=why), node.host.name: Proof("it shows no certificate")}
    monkeypatch.setattr(Host, "proof", lambda host, _: proofs.get(host.name, Proof()))
    told = ask(node.net, 1)
    node.net.run()
    assert told == [NoAnswer(why, is_distrust=True)]
    proofs["asker"] = Proof()
    told = ask(node.net, 1)
    node.net.run()
    assert told == [NoAnswer("it ended the connection before it greeted")]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "no greeting came in time"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there does not greet as a node does"),
    ],
)
def test_who_does_not_answer_says_nothing_within_a_time(says: bytes, why: str) -> None:
    net = Net()
    raw_peer(net, 1, says)
    told = ask(net, 1)
    net.run(SIGHTING_MS + 1)
    assert told == [NoAnswer(why)]


def test_a_release_that_does_not_say_it_says_nothing(node: Node) -> None:
    net = Net()
    raw_peer(net, 1, encode_greeting(greeting_for(node, 1, refusal="the peer's URL is none")))
    told = ask(net, 1)
    net.run()
    assert seen(told) == ""


def test_nobody_there_says_nothing() -> None:
    net = Net()
    told = ask(net, 1)
    net.run(SIGHTING_MS + 1)
    assert told == [NoAnswer("nobody takes the connection")]
