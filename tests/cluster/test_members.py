# SPDX-License-Identifier: GPL-3.0-or-later
"""What peers and clients say of members, on real nodes."""

from __future__ import annotations

import json

from quorate.core.values.messages import Ping, Whereabouts
from tests.cluster.inside import metric
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.cluster.strangers import Stranger


def test_one_bad_peer_fills_no_list_and_is_cut_off_for_what_is_no_url(quick: Cluster) -> None:
    node, *others = quick.nodes
    # Addresses: a name would be asked of a server that may not answer.
    strangers = [Whereabouts(0, 0, f"http://127.77.{i // 250}.{i % 250 + 1}:9") for i in range(999)]
    with Stranger(node) as stranger:
        assert stranger.greet().refusal == ""
        stranger.say(Ping(1, strangers, 0, 0))
        refused = "members_refused_total"
        wait_until(lambda: metric(node, refused) >= 999, within_s=15, what="they are heard of")
        assert node.candidates() == {}, "no node is at a privileged port"
        assert _listed(node.url) == sorted([*quick.urls, stranger.url])
        stranger.say(Ping(2, [Whereabouts(0, 0, "http://n\x1b[2J\n:1")], 0, 0))
        assert stranger.is_ended()
    # It was met, so it would be missed; what is told next shall be of who is to join alone.
    assert quorate("forget", stranger.url, f"--target={node.url}").returncode == 0
    assert _listed(node.url) == quick.urls
    assert quorate("status", f"--target={node.url}").returncode == 0
    joining = "http://127.0.0.1:9"
    assert fetch(f"{node.url}/join", method="POST", body=joining.encode())[0] == 400
    true = "http://127.0.0.1:9999"
    assert fetch(f"{node.url}/join", method="POST", body=true.encode())[0] == 200
    assert _listed(node.url) == sorted([*quick.urls, true])
    for other in others:
        other.lists(quick.urls)
        _hears(other, [true])
    assert quorate("status", f"--target={node.url}").returncode == 3, "who is to join is not there"
    told = quorate("forget", true, f"--target={node.url}")
    assert told.stdout.count(b"yes") == 3, told
    for each in quick.nodes:
        each.lists(quick.urls)
        _hears(each, [])
    quick.nodes[0].stop()
    quick.start()
    assert (_listed(node.url), node.candidates()) == (quick.urls, {}), "hearsay is not stored"


def _hears(node: NodeProcess, urls: list[str]) -> None:
    wait_until(lambda: list(node.candidates()) == urls, within_s=15, what=f"it hears of {urls}")


def _listed(url: str) -> list[str]:
    return sorted(each["url"] for each in json.loads(fetch(f"{url}/nodes")[1]))
