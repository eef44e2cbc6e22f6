# SPDX-License-Identifier: GPL-3.0-or-later
"""Incoming links fed byte by byte."""

from __future__ import annotations

import marshal
import pickle
import struct

import msgspec
import pytest
from xxhash import xxh3_64_intdigest

from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Frame, Greeting, Pong
from quorate.host.acceptor import FRAME_MS, GREETING_MAX, UNPROVEN_MAX
from quorate.host.links import HANDSHAKE_MS
from quorate.sim.noise import Noise
from quorate.wire.frames import MAGIC, encode_frame
from tests.unit.host.scripted import FakeChannel
from tests.unit.host.wires import (
    MOMENT_MS,
    Heard,
    Host,
    Net,
    Never,
    Node,
    answer_for,
    answer_in,
    frame,
    greeted,
    greeting_for,
    stranger,
    url_of,
)

PEER = 7
GOOD = encode_frame(frame(1))


def sealed(payload: bytes) -> bytes:
    length = len(payload)
    header = struct.pack(">III", length, length ^ 0xFFFFFFFF, xxh3_64_intdigest(payload) % 2**32)
    return header + payload


@pytest.fixture
def node() -> Node:
    return Node(Net(), 1)


def test_a_greeting_and_frames_in_single_bytes_are_understood(node: Node) -> None:
    peer = stranger(node)
    for byte in answer_for(node, PEER) + GOOD + GOOD:
        peer.channel.write(bytes([byte]))
        node.net.run(1.5)
    assert node.frames == [(PEER, frame(1))] * 2
    assert node.journal.counters()["frames_received"] == 2
    assert node.journal.bytes_received == 2 * len(GOOD)


def test_frames_behind_a_greeting_in_one_piece_are_understood(node: Node) -> None:
    said = answer_for(node, PEER) + GOOD + GOOD[:-1]
    peer = stranger(node, said)
    assert node.numbers() == [1]
    peer.channel.write(GOOD[-1:])
    node.net.run()
    assert node.numbers() == [1, 1]
    assert node.journal.bytes_received == 2 * len(GOOD)


def test_whoever_is_accepted_is_told_of_once_and_its_connection_is_tuned(node: Node) -> None:
    greeted(node, PEER).channel.write(GOOD)
    node.net.run()
    assert node.accepted == [url_of(PEER)]
    assert len(node.host.tuned) == 1


def test_nothing_of_a_peer_is_heard_before_it_was_judged_and_accepted(node: Node) -> None:
    stranger(node, answer_for(node, PEER) + GOOD + GOOD)
    assert node.told == [f"accepted {url_of(PEER)}", "frames 2"]


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">III", 0, 0xFFFFFFFF, 0),
        struct.pack(">III", 0xFFFFFFFF, 0, 0),
        GOOD[:-1] + bytes([GOOD[-1] ^ 1]),
        sealed(msgspec.msgpack.encode([1, 1, [[99, 1]]])),
        sealed(msgspec.msgpack.encode([1, 1, [[8, "one"]]])),
        sealed(msgspec.msgpack.encode([1, 1, [[3, 1, [b""], []]]])),
        sealed(pickle.dumps({})),
        marshal.dumps({"hostile": 1, "bytes": 2}),
    ],
    ids=["length 0", "4 GB", "checksum", "tag", "type", "row", "pickle", "marshal"],
)
def test_a_broken_frame_ends_the_link_at_once_and_nothing_of_it_is_delivered(
    node: Node, bad: bytes
) -> None:
    other, peer = greeted(node, 2), greeted(node, PEER)
    peer.channel.write(GOOD)
    node.net.run()
    assert node.numbers() == [1]
    heard = peer.data
    peer.channel.write(GOOD + bad + GOOD)
    # What was under way with it is not read any more.
    peer.channel.write(GOOD)
    node.net.run()
    assert peer.is_lost
    assert peer.data == heard
    assert [note.facts["peer"] for note in node.host.notes] == [url_of(PEER)]
    assert node.journal.protocol_errors == 1
    assert node.numbers() == [1]
    other.channel.write(encode_frame(frame(2)))
    node.net.run()
    assert node.numbers() == [1, 2], "the other peer's frame"


def test_a_damaged_frame_is_never_heard_whichever_bit_it_is() -> None:
    """The checksum finds every flipped bit."""
    for seed in range(100):
        net = Net(seed)
        one, two = Node(net, 1), Node(net, 2)
        one.links.set_peers([two.url])
        net.run(100)
        wire = net.wire(one.host, two.host)
        wire.noise = Noise(damage=1.0)
        one.links.send(two.id, frame(1))
        net.run()
        assert one.kinds(two.url)[:2] == [LinkUp, LinkDown]
        wire.noise = None
        net.run(100)
        one.links.send(two.id, frame(2))
        net.run()
        assert two.numbers() == [2]
        assert two.journal.protocol_errors == 1


def test_a_frame_cut_by_the_end_of_the_connection_is_never_delivered(node: Node) -> None:
    for cut in range(1, len(GOOD)):
        peer = greeted(node, PEER)
        peer.channel.write(GOOD + GOOD[:cut])
        peer.channel.close()
        node.net.run()
        assert not node.acceptor._connections
        # And nothing of the next connection completes it.
        peer = greeted(node, PEER)
        peer.channel.write(GOOD)
        node.net.run()
        assert node.numbers() == [1, 1]
        node.frames.clear()
    # A kill in the middle of a write is a fault of nobody.
    assert node.journal.protocol_errors == 0


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"GET / HTTP/1.1\r\n\r\n",
        MAGIC + struct.pack(">III", 2**31, 2**31 ^ 0xFFFFFFFF, 0),
        MAGIC + sealed(b"\x90"),
        pickle.dumps([1]),
    ],
    ids=["frame", "http", "2 GB", "empty", "pickle"],
)
def test_a_stranger_who_does_not_greet_is_dropped_without_an_answer(
    node: Node, data: bytes
) -> None:
    peer = stranger(node, data)
    assert peer.words == ["made", "lost"]
    assert peer.data == b""
    assert node.journal.protocol_errors == 1
    assert [note.facts["peer"] for note in node.host.notes] == ["stranger1"]
    assert not node.host.calls


@pytest.mark.parametrize("said", [b"", MAGIC, b"QR"])
def test_a_stranger_who_stays_silent_is_dropped_at_the_deadline(node: Node, said: bytes) -> None:
    peers = [stranger(node, said) for _ in range(50)]  # Of 50 addresses.
    made_ms = max(peer.told[0].ms for peer in peers)
    node.net.world.run_to(min(peer.told[0].ms for peer in peers) + HANDSHAKE_MS - 1)
    assert [peer.is_lost for peer in peers] == [False] * 50
    node.net.world.run_to(made_ms + HANDSHAKE_MS + MOMENT_MS)
    assert [peer.words for peer in peers] == [["made", "lost"]] * 50
    assert [peer.data for peer in peers] == [b""] * 50
    assert not node.acceptor._connections
    assert node.journal.protocol_errors == 0


def test_a_greeting_that_dawdles_is_dropped_at_the_same_deadline(node: Node) -> None:
    peer = stranger(node)
    for byte in answer_for(node, PEER)[:-1]:
        if not peer.is_lost:
            peer.channel.write(bytes([byte]))
            node.net.run(100)
    assert peer.is_lost
    lived_ms = peer.told[-1].ms - peer.told[0].ms
    assert HANDSHAKE_MS <= lived_ms < HANDSHAKE_MS + MOMENT_MS


def test_who_has_greeted_is_under_no_deadline(node: Node) -> None:
    peer = greeted(node, PEER)
    assert not node.host.calls
    node.net.run(10 * HANDSHAKE_MS)
    assert not peer.is_lost


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster": "other"}, "the cluster name differs"),
        ({"protocol_min": 9, "protocol_max": 9}, "no protocol in common: ours 4, theirs 9"),
        ({"url": "n1"}, "URL is none: 'n1'"),
        ({"lineage": b"i" * 16}, "was started with another -nodes list"),
    ],
    ids=["cluster", "protocol", "url", "layout"],
)
def test_a_refused_peer_is_told_why_and_its_frames_are_not_read(
    node: Node, changes: dict[str, object], reason: str
) -> None:
    peer = stranger(node, answer_for(node, PEER, **changes) + GOOD)
    assert peer.words == ["made", "lost"]
    answer = answer_in(peer.data)
    assert answer is not None
    is_stranger = "lineage" not in changes
    numbers = node.greeting.protocol_min, node.greeting.protocol_max
    blank = Greeting(*numbers, "", "", 0, 0, b"", "", refusal=answer.refusal, seen=answer.seen)
    assert answer == blank if is_stranger else answer.url == node.url
    assert reason in answer.refusal
    assert node.frames == []
    assert node.accepted == []
    assert node.journal.handshakes_refused == 1
    (note,) = node.host.notes
    assert note.facts["by"] == "us"
    told_as = url_of(PEER) if "cluster" in changes or "lineage" in changes else "stranger1"
    told_as = str(changes.get("url", told_as))
    assert note.facts["peer"] == told_as
    assert not node.acceptor._connections
    assert not node.host.calls


def test_a_refused_peer_that_does_not_read_its_refusal_is_dropped_at_the_deadline(
    node: Node,
) -> None:
    net = node.net
    peer = stranger(node)
    net.wire(node.host, net.hosts["stranger1"]).cut()
    peer.channel.write(answer_for(node, PEER, cluster="other"))
    peer.channel.write(GOOD)
    net.world.run_to(peer.told[0].ms + HANDSHAKE_MS - 1)
    assert len(node.acceptor._connections) == 1
    net.run(MOMENT_MS)
    assert not node.acceptor._connections
    assert node.frames == []


def test_a_refused_peer_does_not_end_the_link_that_its_url_has(node: Node) -> None:
    good = greeted(node, PEER)
    stranger(node, answer_for(node, PEER, cluster="other"))
    good.channel.write(GOOD)
    node.net.run()
    assert node.numbers() == [1]
    assert list(node.acceptor._by_peer) == [PEER]


def test_a_newer_link_of_a_peer_ends_the_older_which_may_be_half_open(node: Node) -> None:
    older = greeted(node, PEER)
    heard = older.data
    newer = greeted(node, PEER)
    node.net.run()
    assert older.is_lost
    assert older.data == heard
    newer.channel.write(GOOD)
    node.net.run()
    assert node.numbers() == [1]
    assert len(node.acceptor._connections) == 1
    newer.channel.close()
    node.net.run()
    assert not node.acceptor._by_peer


def test_the_end_of_an_older_link_does_not_forget_the_newer(node: Node) -> None:
    older = greeted(node, PEER)
    newer = greeted(node, PEER)
    node.net.run()
    assert older.is_lost
    theirs = msgspec.structs.replace(node.greeting, url=url_of(PEER), node_id=PEER, process=99)
    node.acceptor.keep_only(theirs)
    node.net.run()
    assert newer.is_lost, "it was still known"


def test_nothing_of_a_broken_link_comes_after_something_of_the_next() -> None:
    for seed in range(40):
        net = Net(seed)
        one, two = Node(net, 1), Node(net, 2)
        one.links.set_peers([two.url])
        net.run(100)
        wire = net.wire(one.host, two.host)
        wire.latency_ms = (200.0,)
        for number in range(5):
            one.links.send(two.id, frame(number))
        wire.reset()
        wire.latency_ms = (0.1,)
        net.run(0)
        net.run_until(lambda one=one, two=two: one.is_up(two.url), 1_000)  # type: ignore[misc]
        one.links.send(two.id, frame(10))
        net.run(500)
        assert two.numbers() == sorted(two.numbers())
        assert 10 in two.numbers()


def test_links_of_other_peers_are_their_own(node: Node) -> None:
    for number in range(2, 12):
        greeted(node, number)
    for number, peer in enumerate(list(node.acceptor._connections), 2):
        peer.data_received(encode_frame(Frame(1, 1, [Pong(number)])))
    assert node.frames == [(n, frame(n)) for n in range(2, 12)]


def test_frames_that_are_begun_are_bounded_together_and_who_has_begun_most_is_ended(
    node: Node,
) -> None:
    peers = [greeted(node, number) for number in range(2, 5)]
    links = list(node.acceptor._connections)
    data = encode_frame(Frame(1, 1, [Pong(1)] * 100))
    node.acceptor.begun_bytes_max = len(data)
    for link, count in zip(links, (50, 100, 60), strict=True):
        link.data_received(data[:count])
    assert node.acceptor.begun_bytes == 210
    node.acceptor.begun_bytes_max = 220
    links[0].data_received(data[50:70])
    assert node.acceptor.begun_bytes == 70 + 60
    node.net.run()
    assert [peer.is_lost for peer in peers] == [False, True, False]
    assert node.journal.protocol_errors == 1
    links[0].data_received(data[70:])
    assert node.acceptor.begun_bytes == 60
    links[2].abort()
    node.net.run()
    assert node.acceptor.begun_bytes == 0


def test_close_ends_every_incoming_link_greeted_or_not(node: Node) -> None:
    peers = [greeted(node, number) for number in range(2, 7)]
    peers.append(stranger(node))
    node.acceptor.close()
    node.net.run()
    assert all(peer.is_lost for peer in peers)
    assert not node.acceptor._connections
    assert not node.acceptor._by_peer
    assert not node.host.calls


def test_nothing_is_delivered_of_a_connection_that_was_ended_or_refused(node: Node) -> None:
    """Whatever the loop tells afterwards."""
    for said, ended in ((answer_for(node, PEER), True), (answer_for(node, 8, cluster="x"), False)):
        connection = node.acceptor.connection()
        connection.connection_made(FakeChannel())
        connection.data_received(said)
        if ended:
            connection.abort()
        connection.data_received(said if not ended else GOOD)
        connection.data_received(GOOD)
    assert node.frames == []
    assert node.journal.protocol_errors == 0
    assert node.journal.handshakes_refused == 1


def test_a_peer_that_dials_us_is_dialled_back_without_waiting() -> None:
    net = Net()
    never = Never()
    one = Node(net, 1, random=never)
    one.links.set_peers([url_of(2)])
    net.run()
    assert never.tries == 1
    two = Node(net, 2)
    two.links.set_peers([one.url])
    net.run()
    assert one.is_up(two.url)
    assert two.is_up(one.url)


# --- who may be a stranger -----------------------------------------------------------------------


def _from(node: Node, address: str, says: bytes = b"") -> Heard:
    host = node.net.hosts.setdefault(address, Host(node.net, address))
    connection = Heard(host, says)
    host.dial(node.url, connection)
    node.net.run(1.5)
    return connection


@pytest.mark.parametrize("address", ["one-address", "10.0.0.1", "2001:db8::%x"])
def test_of_one_address_few_may_be_silent_and_the_oldest_gives_way(
    node: Node, address: str
) -> None:
    """Of IPv6 one host has all addresses of its network."""
    addresses = [address.replace("%x", f"{each:x}") for each in range(1, GREETING_MAX + 4)]
    silent = [_from(node, each, MAGIC) for each in addresses]
    node.net.run(MOMENT_MS)
    assert [each.is_lost for each in silent] == [True] * 3 + [False] * GREETING_MAX
    other = _from(node, "another", answer_for(node, PEER))
    node.net.run(MOMENT_MS)
    assert not other.is_lost
    assert node.accepted == [url_of(PEER)]
    assert len(node.host.notes) == len(set(addresses[:3])), "noted once for an address"


def test_strangers_lock_no_peer_out_whatever_they_greet_as(node: Node) -> None:
    """The newest stays; who was proven by our own link is not among those who give way."""
    proven = _from(node, "peer", answer_for(node, PEER))
    node.acceptor.keep_only(greeting_for(node, PEER))
    strangers = [
        _from(node, f"s{number}", answer_for(node, number))
        for number in range(100, 100 + UNPROVEN_MAX + 5)
    ]
    node.net.run(MOMENT_MS)
    assert [each.is_lost for each in strangers] == [True] * 5 + [False] * UNPROVEN_MAX
    assert not proven.is_lost
    newest = _from(node, "newest", answer_for(node, 99) + GOOD)
    assert not newest.is_lost
    assert node.frames == [(99, frame(1))]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_peer_is_proven_by_our_own_link_whichever_of_the_two_came_first(is_first: bool) -> None:
    net = Net()
    one, two = Node(net, 1), Node(net, 2)
    for node, other in ((one, two), (two, one)) if is_first else ((two, one), (one, two)):
        node.links.set_peers([other.url])
        net.run(MOMENT_MS)
    assert list(one.acceptor._connections)
    assert not one.acceptor._unproven


def test_who_is_not_proven_may_begin_no_frame_longer_than_a_greeting(node: Node) -> None:
    header = struct.pack(">III", 30 << 20, (30 << 20) ^ 0xFFFFFFFF, 0)
    stranger_, peer = greeted(node, 8), greeted(node, PEER)
    node.acceptor.keep_only(greeting_for(node, PEER))
    for each in (stranger_, peer):
        each.channel.write(header)
    node.net.run(MOMENT_MS)
    assert stranger_.is_lost
    assert not peer.is_lost


def test_a_frame_that_does_not_become_whole_ends_the_link_in_time(node: Node) -> None:
    slow, peer = greeted(node, 8), greeted(node, PEER)
    slow.channel.write(GOOD[:-1])
    peer.channel.write(GOOD[:-1])
    node.net.run(FRAME_MS / 2)
    peer.channel.write(GOOD[-1:] + GOOD[:-1])
    node.net.run(FRAME_MS / 2 + MOMENT_MS)
    assert (slow.is_lost, peer.is_lost) == (True, False)
    node.net.run(FRAME_MS + MOMENT_MS)
    assert peer.is_lost
    assert node.frames == [(PEER, frame(1))]
    assert not node.host.calls


def test_a_peer_whose_end_of_the_link_was_lost_is_back_at_once(node: Node) -> None:
    """Though it spoke a moment ago: its end is gone, and ours cannot know it (half-open)."""
    peer = greeted(node, PEER)
    node.acceptor.keep_only(greeting_for(node, PEER))
    peer.channel.write(GOOD)
    node.net.run()
    newer = greeted(node, PEER)
    node.net.run(MOMENT_MS)
    assert (peer.is_lost, newer.is_lost) == (True, False)
