# SPDX-License-Identifier: GPL-3.0-or-later
"""What links make of what the other end proved before it said anything."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.values.messages import Greeting
from quorate.host.acceptor import Acceptor
from quorate.host.journal import LinkJournal
from quorate.host.links import LinkState
from quorate.host.system import Proof
from quorate.notation import split_url
from quorate.wire.frames import encode_greeting
from tests.unit.host.fakes import VirtualSystem
from tests.unit.host.scripted import MINE, PEER, THEIRS, FakeChannel, Script

WHY = "it may not accept our certificate"


def dialled(script: Script) -> FakeChannel:
    script.name()
    return script.dials[-1].made()


def reasons(script: Script) -> list[str]:
    return [str(note.facts["reason"]) for note in script.notes if note.event == "link_refused"]


def test_a_peer_that_proves_nothing_is_not_greeted() -> None:
    script = Script()
    script.proven = Proof("it shows no certificate")
    channel = dialled(script)
    assert channel.written == []
    assert channel.is_closing()
    assert reasons(script) == ["it shows no certificate"]


def test_a_peer_that_is_another_node_than_its_certificate_says_is_refused() -> None:
    script = Script()
    script.proven = Proof(node_id=THEIRS.node_id + 1, silence=WHY)
    dialled(script)
    script.dials[-1].connection.data_received(encode_greeting(THEIRS))
    assert "certificate is of node" in reasons(script)[0]
    assert script.links.links[PEER].state is LinkState.CLOSING
    assert "up" not in script.told


def test_a_peer_that_is_who_its_certificate_says_is_linked() -> None:
    for node_id in (0, THEIRS.node_id):
        script = Script()
        script.proven = Proof(node_id=node_id, silence=WHY)
        dialled(script)
        script.dials[-1].connection.data_received(encode_greeting(THEIRS))
        assert script.told[-1] == "up"


HOSTS = ("n9.nodes.test", "*.nodes.test", split_url(PEER)[0])


def test_a_peer_that_is_where_its_certificate_is_for_is_linked() -> None:
    script = Script()
    script.proven = Proof(hosts=HOSTS)
    dialled(script)
    script.dials[-1].connection.data_received(encode_greeting(THEIRS))
    assert script.told[-1] == "up"


def test_a_peer_that_is_elsewhere_than_its_certificate_is_for_is_refused() -> None:
    script = Script()
    script.proven = Proof(hosts=HOSTS[:2])
    dialled(script)
    script.dials[-1].connection.data_received(encode_greeting(THEIRS))
    assert f"is for n9.nodes.test, *.nodes.test, and it calls itself {PEER}" in reasons(script)[0]
    assert "up" not in script.told


@pytest.mark.parametrize(
    ("url", "is_there"),
    [
        ("http://a.nodes.test:8000", True),
        ("http://nodes.test:8000", False),
        ("http://[2001:db8::1]:8000", True),
        ("http://[2001:db8::2]:8000", False),
        ("a.nodes.test", False),
        ("http://a.nodes.test:8000/\x1b[2J", False),
        ("\udc80" * 1000, False),
        ("", True),  # It asks where it is seen.
    ],
)
def test_what_a_node_calls_itself_is_held_against_its_certificate(url: str, is_there: bool) -> None:
    proof = Proof(hosts=("*.nodes.test", "2001:db8::1", *map(str, range(1000))))
    said = proof.contradiction(msgspec.structs.replace(THEIRS, url=url))
    assert (said == "") is is_there
    assert said.isprintable()
    assert len(said) < 4000


def test_a_proven_peer_that_ends_before_it_greets_is_named_at_the_second_time() -> None:
    script = Script()
    script.proven = Proof(node_id=THEIRS.node_id, silence=WHY)
    dialled(script)
    script.dials[-1].lose()
    assert reasons(script) == []
    for _ in range(3):
        script.due()
        script.dials[-1].made()
        script.dials[-1].lose()
    assert reasons(script) == [WHY]


def test_where_nothing_is_to_be_proved_an_early_end_says_nothing() -> None:
    script = Script()
    dialled(script)
    for _ in range(3):
        script.dials[-1].lose()
        script.due()
        script.dials[-1].made()
    assert reasons(script) == []


# --- who dials us --------------------------------------------------------------------------------


class Door:
    """An acceptor that would let everybody in."""

    def __init__(self, proven: Proof) -> None:
        self.system = VirtualSystem()
        self.system.proven = proven
        self.judged: list[Greeting] = []
        self.journal = LinkJournal(log=self.system.notes.append, mono_ms=lambda: 0)
        self.acceptor = Acceptor(
            self.system,
            judge=self._judge,
            on_frames=lambda *_: None,
            on_accepted=lambda _: None,
            journal=self.journal,
        )

    def _judge(self, theirs: Greeting) -> Greeting:
        self.judged.append(theirs)
        return MINE

    def hear(self, greeting: Greeting) -> FakeChannel:
        channel = FakeChannel()
        incoming = self.acceptor.connection()
        incoming.connection_made(channel)
        incoming.data_received(encode_greeting(greeting))
        return channel


def test_a_stranger_without_proof_is_told_nothing_and_named_once() -> None:
    door = Door(Proof("it shows no certificate"))
    for _ in range(3):
        channel = door.hear(THEIRS)
        assert channel.written == []
        assert channel.is_closing()
    assert door.judged == []
    assert [note.event for note in door.system.notes] == ["link_refused"]
    assert door.journal.handshakes_refused == 3


def test_who_greets_with_a_url_that_its_certificate_is_not_for_is_told_nothing() -> None:
    door = Door(Proof(hosts=("n9.nodes.test",)))
    assert door.hear(THEIRS).written == []
    assert door.judged == []
    (note,) = door.system.notes
    assert "its certificate is for n9.nodes.test" in str(note.facts["reason"])
    assert door.hear(msgspec.structs.replace(THEIRS, url="http://n9.nodes.test:1")).written


def test_a_node_without_a_protocol_in_common_is_told_so() -> None:
    """What it says cannot be read, and so is no other node's than its certificate names."""
    door = Door(Proof(node_id=THEIRS.node_id, silence=WHY))
    blank = Greeting(98, 99, "", "", 0, 0, b"", "")
    assert door.hear(blank).written
    assert door.judged == [blank]
    assert door.system.notes == []


def test_who_greets_as_another_node_than_its_certificate_names_is_told_nothing() -> None:
    door = Door(Proof(node_id=THEIRS.node_id, silence=WHY))
    channel = door.hear(msgspec.structs.replace(THEIRS, node_id=THEIRS.node_id + 1))
    assert channel.written == []
    assert channel.is_closing()
    assert door.judged == []
    assert door.hear(THEIRS).written
