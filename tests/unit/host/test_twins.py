# SPDX-License-Identifier: GPL-3.0-or-later
"""Two processes with one URL, or two copies of one data directory."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.topology.greeting import TWIN_MS
from quorate.core.values.events import LinkDown, LinkUp
from quorate.host.links import NO_PROCESS
from quorate.wire.frames import encode_frame
from tests.unit.host.test_acceptor import GOOD
from tests.unit.host.wires import (
    Net,
    Never,
    Node,
    answer_for,
    answer_in,
    frame,
    greeted,
    greeting_for,
    raw_peer,
    stranger,
    url_of,
)

TRY_MS = 200
"""No try takes longer here."""


class Often(Random):
    """The same wait before every try."""

    def uniform(self, a: float, b: float) -> float:
        return min(max(a, b), TRY_MS / 4)


@pytest.fixture
def net() -> Net:
    return Net()


def with_twin(net: Net, waits: Random | None = None) -> tuple[Node, Node, Node]:
    """Two nodes, of which the first has a link to the second; and the second's twin, at whose URL
    the second is reached."""
    one, two = Node(net, 1), Node(net, 2)
    twin = Node(net, 2, process=99, name="n2t", random=waits or Often())
    two.listen()
    one.links.set_peers([two.url])
    net.run()
    assert one.links.links[two.url].process == 2
    return one, two, twin


def test_no_link_is_taken_from_another_process_than_our_own_link_leads_to(net: Net) -> None:
    node, other = Node(net, 1), Node(net, 2)
    early = greeted(node, 2, process=99)
    node.links.set_peers([other.url])
    net.run()
    assert node.is_up(other.url)
    assert early.is_lost
    good = greeted(node, 2)
    late = stranger(node, answer_for(node, 2, process=99) + GOOD)
    assert late.is_lost
    answer = answer_in(late.data)
    assert answer is not None
    assert "two nodes with one URL" in answer.refusal
    assert answer.reached == 2
    good.channel.write(encode_frame(frame(2)))
    net.run()
    assert node.numbers() == [2], "the frame of the good one"


def test_our_own_link_leaves_the_link_of_the_same_process_and_those_of_other_peers(
    net: Net,
) -> None:
    node, other = Node(net, 1), Node(net, 2)
    same, third = greeted(node, 2), greeted(node, 3, process=99)
    node.links.set_peers([other.url])
    net.run()
    assert node.is_up(other.url)
    assert not same.is_lost
    assert not third.is_lost


def test_a_peers_process_is_forgotten_when_our_link_to_it_is_down(net: Net) -> None:
    one, two, twin = with_twin(net)
    twin.links.set_peers([one.url])
    net.run()
    assert twin.events == []
    two.host.die()
    net.run()
    assert one.links.links[two.url].process == 0
    net.run_until(lambda: twin.is_up(one.url), TRY_MS)


def test_who_is_refused_for_long_because_another_has_its_url_is_told_so(net: Net) -> None:
    one, two, twin = with_twin(net)
    began_ms = net.world.now
    twin.links.set_peers([one.url])
    net.run(TWIN_MS)
    assert twin.twins == 0
    net.run(TRY_MS)
    assert twin.twins > 0
    assert began_ms + TWIN_MS <= net.world.now
    assert twin.events == two.events == []
    assert one.kinds(two.url) == [LinkUp]


def test_a_single_refusal_is_none_for_long_however_late_it_comes(net: Net) -> None:
    one, _, twin = with_twin(net, waits=Never())
    net.run(2 * TWIN_MS)
    twin.links.set_peers([one.url])
    net.run(2 * TWIN_MS)
    assert twin.twins == 0
    assert twin.journal.handshakes_refused == 1


@pytest.mark.parametrize("between", ["nobody", "other refusal", "broken", "cut", "link"])
def test_any_other_end_of_a_try_begins_the_time_anew(net: Net, between: str) -> None:
    one, _, twin = with_twin(net)
    twin.links.set_peers([one.url])
    net.run(TWIN_MS - TRY_MS)
    if between == "nobody":
        del net.hosts[one.url]
    elif between == "other refusal":
        raw_peer(net, 1, answer_for(twin, 1, cluster="other"))
    elif between == "broken":
        raw_peer(net, 1, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    elif between == "cut":
        net.wire(twin.host, one.host).cut()
        net.run(3_000)
    else:
        raw_peer(net, 1, answer_for(twin, 1), closes=True)
    net.run(TRY_MS / 2)
    net.wire(twin.host, one.host).heal()
    one.listen()
    net.run(TWIN_MS - 10)
    assert twin.twins == 0
    net.run(TRY_MS)
    assert twin.twins > 0


def test_being_refused_by_one_says_nothing_about_another(net: Net) -> None:
    """The times of two peers do not add up."""
    one, _, twin = with_twin(net)
    twin.links.set_peers([one.url])
    net.run(TWIN_MS - TRY_MS)
    twin.links.set_peers([])
    twin.links.set_peers([one.url])
    net.run(TWIN_MS - 10)
    assert twin.twins == 0


def test_who_takes_the_place_of_another_process_is_refused_only_until_that_is_noticed(
    net: Net,
) -> None:
    one, before = Node(net, 1), Node(net, 2)
    one.links.set_peers([before.url])
    net.run()
    # Its kernel forgets the connection without a word: the link looks alive for a while.
    before.host.die(is_silent=True)
    after = Node(net, 2, process=99, name="n2b", random=Often())
    after.links.set_peers([one.url])
    net.run(TRY_MS)
    assert after.journal.handshakes_refused > 0
    assert one.links.links[url_of(2)].process == 2
    net.run(TWIN_MS)
    assert after.is_up(one.url)
    assert one.links.links[url_of(2)].process == 99
    assert after.twins == 0
    assert one.kinds(url_of(2)) == [LinkUp, LinkDown, LinkUp]


# --- two URLs, one data directory ----------------------------------------------------------------


def test_a_copy_of_a_data_directory_under_another_url_is_refused_and_told_so(net: Net) -> None:
    """Which of the two it knows first, stays."""
    one, two = Node(net, 1), Node(net, 2)
    copy = Node(net, 3, node_id=two.id, random=Often())
    one.links.set_peers([two.url])
    net.run_until(lambda: one.is_up(two.url), TRY_MS)
    one.links.set_peers([two.url, copy.url])
    copy.links.set_peers([one.url])
    net.run(TWIN_MS + 2 * TRY_MS)
    assert copy.twins > 0
    assert copy.events == []
    assert one.kinds(two.url) == [LinkUp]
    assert one.links.links[copy.url].process == 0
    assert "one identity 000000000002" in str(one.host.notes[0].facts["reason"])


def test_a_node_that_moved_is_taken_once_the_link_to_its_old_url_is_lost(net: Net) -> None:
    one, before = Node(net, 1), Node(net, 2)
    one.links.set_peers([before.url, url_of(3)])
    net.run_until(lambda: one.is_up(before.url), TRY_MS)
    before.host.die()
    after = Node(net, 3, node_id=before.id, process=99)
    net.run(3_000)
    assert one.is_up(after.url)
    assert one.links.links[before.url].process == 0
    one.links.send(before.id, frame(1))
    net.run()
    assert after.numbers() == [1]


def test_a_link_in_under_a_new_id_ends_the_one_that_its_url_had(net: Net) -> None:
    """Of a disk that was emptied: the link before may be half-open."""
    node = Node(net, 1)
    older = greeted(node, 7)
    newer = greeted(node, 7, node_id=8, process=99)
    assert older.is_lost
    newer.channel.write(GOOD)
    net.run()
    assert node.frames == [(8, frame(1))]


def test_a_link_in_from_another_url_ends_the_one_that_its_id_had(net: Net) -> None:
    """Of a node that moved: the link before may be half-open."""
    node = Node(net, 1)
    older = greeted(node, 7)
    newer = greeted(node, 8, node_id=7, process=99)
    assert older.is_lost
    assert not newer.is_lost


@pytest.mark.parametrize(
    ("url", "node_id", "process", "reached"),
    [
        (url_of(2), 2, 2, 2),
        (url_of(2), 2, 99, 2),
        (url_of(9), 9, 9, 0),
        (url_of(2), 9, 99, 2),
        (url_of(9), 2, 99, 2),
        (url_of(9), 2, 2, 2),
        # What is there under its own name may not call itself another that is there, or is not.
        (url_of(3), 2, 3, 2),
        (url_of(2), 3, 3, 2),
        (url_of(3), 9, 3, NO_PROCESS),
    ],
)
def test_nobody_takes_the_place_of_a_node_that_is_there(
    net: Net, url: str, node_id: int, process: int, reached: int
) -> None:
    one, *others = (Node(net, number) for number in (1, 2, 3))
    for each in others:
        each.listen()
    one.links.set_peers([each.url for each in others])
    net.run()
    said = greeting_for(one, 9, url=url, node_id=node_id, process=process)
    assert one.links.reached(said) == reached
