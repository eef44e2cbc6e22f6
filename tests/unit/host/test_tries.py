# SPDX-License-Identifier: GPL-3.0-or-later
"""From a dial to a link that is up, or to the next dial."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.values.events import LinkDown, LinkUp
from quorate.host.backoff import FIRST_MS
from quorate.host.links import CONNECT_MS, HANDSHAKE_MS, STEADY_MS
from quorate.wire.frames import encode_frame
from tests.unit.host.wires import (
    MOMENT_MS,
    AtOnce,
    Net,
    Never,
    Node,
    answer_for,
    frame,
    raw_peer,
    url_of,
)


@pytest.fixture
def net() -> Net:
    return Net()


# --- mismatches --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster": "other"}, "cluster name differs"),
        ({"protocol_min": 9, "protocol_max": 9}, "no protocol in common"),
        ({"lineage": b"i" * 16}, "was started with another -nodes list"),
        ({"node_id": 77}, "two nodes with one identity"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_mismatch_is_refused_and_logged_once_by_both_over_many_tries(
    net: Net, change: dict[str, object], reason: str
) -> None:
    one, two = Node(net, 1, random=AtOnce()), Node(net, 2, node_id=77)
    one.greeting = msgspec.structs.replace(one.greeting, **change)
    one.links.set_peers([two.url])
    net.run_until(lambda: one.journal.handshakes_refused >= 20, 1_000)
    net.run()
    assert one.events == []
    assert one.welcomes == []
    assert two.frames == []
    # A greeting of another protocol is read no further than its numbers.
    known_as = "n1" if "protocol_min" in change else one.url
    ((mine,), (theirs,)) = one.host.notes, two.host.notes
    assert (mine.event, mine.facts["by"], mine.facts["peer"]) == ("link_refused", "them", two.url)
    assert (theirs.event, theirs.facts["by"], theirs.facts["peer"]) == (
        "link_refused",
        "us",
        known_as,
    )
    assert reason in str(mine.facts["reason"])
    assert reason in str(theirs.facts["reason"])


def test_a_mismatch_that_only_we_see_is_refused_by_us(net: Net) -> None:
    one = Node(net, 1, random=AtOnce())
    raw_peer(net, 2, answer_for(one, 2, cluster="other"))
    one.links.set_peers([url_of(2)])
    net.run_until(lambda: one.journal.handshakes_refused >= 5, 1_000)
    assert one.events == []
    assert one.welcomes == []
    (note,) = one.host.notes
    assert note.facts["by"] == "us"
    assert "cluster name differs" in str(note.facts["reason"])


def test_a_mismatch_that_is_mended_ends_in_a_link_and_is_news_if_it_comes_again(net: Net) -> None:
    one, two = Node(net, 1, cluster="wrong", random=AtOnce()), Node(net, 2)
    one.links.set_peers([two.url])
    net.run_until(lambda: one.journal.handshakes_refused >= 3, 1_000)
    for _ in range(2):
        one.greeting = msgspec.structs.replace(one.greeting, cluster="c")
        net.run_until(lambda: one.is_up(two.url), 100)
        one.greeting = msgspec.structs.replace(one.greeting, cluster="wrong")
        net.wire(one.host, two.host).reset()
        net.run(100)
        assert not one.is_up(two.url)
    assert [note.event for note in one.host.notes] == ["link_refused"] * 3
    assert [note.event for note in two.host.notes] == ["link_refused"] * 3


def test_a_second_name_of_a_node_is_refused_lest_one_disk_counts_as_two(net: Net) -> None:
    one, two = Node(net, 1), Node(net, 2)
    alias = "http://localhost:2"
    net.hosts[alias] = two.host
    one.links.set_peers([alias])
    net.run()
    assert f"calls itself {two.url}" in str(one.host.notes[0].facts["reason"])
    assert one.events == []


# --- peers that do not answer ------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "QRT1", "partial"])
def test_a_peer_that_does_not_finish_its_greeting_is_given_up_and_tried_again(
    net: Net, said: str
) -> None:
    one = Node(net, 1, random=AtOnce())
    data = answer_for(one, 2)[:20] if said == "partial" else said.encode()
    connections = raw_peer(net, 2, data)
    one.links.set_peers([url_of(2)])
    net.run(HANDSHAKE_MS - 1)
    assert len(connections) == 1
    assert not connections[0].is_lost
    net.run(10 * HANDSHAKE_MS)
    assert len(connections) == 11
    lives_ms = [each.told[-1].ms - each.told[0].ms for each in connections[:-1]]
    assert all(HANDSHAKE_MS <= ms <= HANDSHAKE_MS + MOMENT_MS for ms in lives_ms)
    assert one.events == []
    assert one.journal.protocol_errors == one.journal.handshakes_refused == 0
    assert len(one.host.sockets) == 1


def test_a_port_that_does_not_answer_the_dial_is_given_up(net: Net) -> None:
    random = AtOnce()
    one, two = Node(net, 1, random=random), Node(net, 2)
    two.host.die(is_silent=True)
    one.links.set_peers([two.url])
    net.run(CONNECT_MS - 1)
    assert random.ceilings == []
    net.run(1)
    assert len(random.ceilings) == 1
    net.run(2 * CONNECT_MS)
    assert len(random.ceilings) == 3
    assert one.events == []
    two.host.revive()
    net.run(CONNECT_MS)
    assert one.is_up(two.url)
    assert len(one.host.sockets) == 1


def test_a_dial_that_was_given_up_and_comes_through_after_all_makes_no_second_link(
    net: Net,
) -> None:
    one, two = Node(net, 1, random=AtOnce()), Node(net, 2)
    one.host.pause()
    one.links.set_peers([two.url])
    # Both the connection and its deadline are there when the process goes on.
    net.run(CONNECT_MS + 1)
    one.host.resume()
    net.run(100)
    assert one.kinds(two.url) == [LinkUp]
    assert len(one.host.sockets) == len(two.acceptor._connections) == 1


def test_bytes_from_the_acceptor_after_its_greeting_cost_the_link(net: Net) -> None:
    one = Node(net, 1, random=Never())
    connections = raw_peer(net, 2, answer_for(one, 2))
    one.links.set_peers([url_of(2)])
    net.run()
    assert one.is_up(url_of(2))
    connections[0].channel.write(encode_frame(frame(1)))
    net.run()
    assert one.kinds(url_of(2)) == [LinkUp, LinkDown]
    assert connections[0].is_lost
    assert one.journal.protocol_errors == 1
    assert one.host.notes[0].facts["peer"] == url_of(2)


def test_bytes_behind_the_acceptors_greeting_keep_the_link_from_coming_up(net: Net) -> None:
    one = Node(net, 1, random=Never())
    connections = raw_peer(net, 2, answer_for(one, 2) + encode_frame(frame(1)))
    one.links.set_peers([url_of(2)])
    net.run()
    assert one.journal.protocol_errors == 1
    assert one.events == []
    assert one.welcomes == []
    assert connections[0].is_lost


def test_an_answer_in_single_bytes_is_understood(net: Net) -> None:
    one = Node(net, 1)
    connections = raw_peer(net, 2)
    one.links.set_peers([url_of(2)])
    net.run()
    for byte in answer_for(one, 2):
        assert one.events == []
        connections[0].channel.write(bytes([byte]))
        net.run(1.5)
    assert one.is_up(url_of(2))


def test_a_port_where_something_else_answers_is_reported_and_tried_again(net: Net) -> None:
    one = Node(net, 1, random=AtOnce())
    raw_peer(net, 2, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    one.links.set_peers([url_of(2)])
    net.run_until(lambda: one.journal.protocol_errors >= 5, 1_000)
    assert [note.event for note in one.host.notes] == ["peer_broke_protocol"]
    assert one.events == []


def test_an_address_where_no_peer_may_be_is_a_refusal_of_ours_and_tried_again(net: Net) -> None:
    random = AtOnce()
    one = Node(net, 1, random=random)

    one.host.why_not_tried = "no peer is dialled at 0.0.0.0"
    one.links.set_peers(["http://0.0.0.0:1"])
    net.run_until(lambda: len(random.ceilings) >= 5, 1_000)
    assert one.journal.handshakes_refused >= 5
    (note,) = one.host.notes
    assert note.facts == {
        "peer": "http://0.0.0.0:1",
        "reason": "no peer is dialled at 0.0.0.0",
        "by": "us",
    }


# --- waits -------------------------------------------------------------------------------------


def test_a_peer_that_drops_every_link_at_once_is_tried_with_growing_waits(net: Net) -> None:
    random = AtOnce()
    one = Node(net, 1, random=random)
    raw_peer(net, 2, answer_for(one, 2), closes=True)
    one.links.set_peers([url_of(2)])
    net.run_until(lambda: len(random.ceilings) >= 8, 1_000)
    assert random.ceilings[:8] == [50, 100, 200, 400, 800, 1600, 2000, 2000]
    assert LinkUp in one.kinds(url_of(2))


@pytest.mark.parametrize(("lived_ms", "ceiling"), [(STEADY_MS, 200), (STEADY_MS + 1, FIRST_MS)])
def test_a_link_that_was_steady_is_tried_again_with_the_shortest_wait(
    net: Net, lived_ms: float, ceiling: float
) -> None:
    random = AtOnce()
    one = Node(net, 1, random=random)
    one.links.set_peers([url_of(2)])
    net.run_until(lambda: len(random.ceilings) == 2, 100)
    two = Node(net, 2)
    net.run_until(lambda: one.is_up(two.url), 100)
    # Links know whole milliseconds.
    up_ms = one.host.now().mono_ms
    net.world.run_to(up_ms + lived_ms)
    two.host.die()
    net.run(0.5)
    net.run_until(lambda: not one.is_up(two.url), MOMENT_MS)
    first = random.ceilings[2]
    lived = one.host.now().mono_ms - up_ms
    assert first == (FIRST_MS if lived > STEADY_MS else ceiling)


def test_hurry_ends_the_present_wait_and_only_that_of_the_peer_that_is_named(net: Net) -> None:
    never = Never()
    one = Node(net, 1, random=never)
    one.links.set_peers([url_of(2), url_of(3)])
    net.run()
    assert never.tries == 2
    one.links.hurry(url_of(2))
    net.run()
    assert never.tries == 3
    one.links.hurry("http://nobody")
    net.run()
    assert never.tries == 3


def test_hurry_during_a_try_makes_the_next_wait_short_and_no_other(net: Net) -> None:
    never = Never()
    one = Node(net, 1, random=never)
    connections = raw_peer(net, 2, b"?")
    one.links.set_peers([url_of(2)])
    one.links.hurry(url_of(2))
    net.run()
    assert len(connections) == 2
    assert never.tries == 1
