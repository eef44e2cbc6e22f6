# SPDX-License-Identifier: GPL-3.0-or-later
"""One process has one URL, and it is one that the others can reach.

127.0.0.0/8 stands for "this machine"; 192.0.2.0/24 and 198.51.100.0/24 (RFC 5737) for machines that
are not. The address that routes to them is whatever this machine has, but never loopback.
"""

from __future__ import annotations

import pytest

from quorate import addresses
from quorate.addresses import cluster_urls, listening, names_told, own_url, peer_urls
from quorate.config import Config, ConfigError
from quorate.loading import load

LAN = "http://192.0.2.7:8000"
ROUTED = "198.51.100.9"


def config(**given: str) -> Config:
    """Settings from flags."""
    return load(flags=given, environment={}, file=None)


@pytest.fixture
def _routed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have a route to everywhere, with or without a network."""
    monkeypatch.setattr(addresses, "_routing_address", lambda _peer: ROUTED)


def test_a_lone_node_is_localhost_and_listens_on_loopback_only() -> None:
    alone = config()
    assert own_url(alone) == "http://localhost:8000"
    assert cluster_urls(alone) == ("http://localhost:8000",)
    assert ("127.0.0.1", 8000) in listening(alone).addresses
    assert {host for host, _ in listening(alone).addresses} <= {"127.0.0.1", "::1"}


def test_the_listed_url_with_my_port_on_this_machine_is_mine() -> None:
    second = config(port="8001", nodes="http://localhost:8000,http://localhost:8001")
    assert own_url(second) == "http://localhost:8001"
    assert cluster_urls(second) == ("http://localhost:8001", "http://localhost:8000")


def test_own_url_missing_from_the_list_is_added() -> None:
    third = config(port="8002", nodes="http://localhost:8000,http://localhost:8001")
    assert cluster_urls(third)[0] == "http://localhost:8002"
    assert len(cluster_urls(third)) == 3


def test_a_process_listed_under_two_names_appears_once() -> None:
    twice = config(nodes="http://127.0.0.1:8000,http://localhost:8000,http://localhost:8001")
    assert own_url(twice) == "http://127.0.0.1:8000"
    assert cluster_urls(twice) == ("http://127.0.0.1:8000", "http://localhost:8001")


def test_an_advertised_url_replaces_whatever_the_list_calls_this_node() -> None:
    named = config(advertise="http://kv-1:8000", nodes=f"http://localhost:8000,{LAN}")
    assert own_url(named) == "http://kv-1:8000"
    assert cluster_urls(named) == ("http://kv-1:8000", LAN)


@pytest.mark.usefixtures("_routed")
def test_localhost_is_never_told_to_a_lan() -> None:
    mixed = config(nodes=f"http://localhost:8000,{LAN}")
    assert own_url(mixed) == f"http://{ROUTED}:8000"
    assert cluster_urls(mixed) == (f"http://{ROUTED}:8000", LAN)
    assert listening(mixed).addresses == [("0.0.0.0", 8000)]


@pytest.mark.usefixtures("_routed")
def test_listening_on_every_interface_advertises_a_reachable_address() -> None:
    assert own_url(config(listen="0.0.0.0:8000")) == f"http://{ROUTED}:8000"


def test_the_address_of_a_route_is_one_of_this_machine_and_needs_no_answer() -> None:
    assert addresses._routing_address("127.0.0.9") == "127.0.0.1"
    assert addresses._routing_address("no-such-host.invalid") == ""


def test_a_peer_whose_name_does_not_resolve_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are asked for a route; without any, this node's own entry has to do."""
    routes = {"10.9.9.9": ROUTED}
    monkeypatch.setattr(addresses, "_routing_address", lambda peer: routes.get(peer, ""))
    nodes = "http://no-such-host.invalid:8000,http://localhost:8000"
    assert own_url(config(nodes=f"{nodes},http://10.9.9.9:8000")) == f"http://{ROUTED}:8000"
    assert own_url(config(nodes=nodes)) == "http://localhost:8000"


def test_without_any_route_and_entry_the_fault_asks_for_advertise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "_routing_address", lambda _peer: "")
    with pytest.raises(ConfigError, match=r"-advertise: cannot tell which address reaches no-such"):
        own_url(config(nodes="http://no-such-host.invalid:8000"))


def test_the_address_listened_on_is_the_one_advertised() -> None:
    bound = config(listen="127.0.0.2:9000")
    assert own_url(bound) == "http://127.0.0.2:9000"
    assert listening(bound).addresses == [("127.0.0.2", 9000)]


@pytest.mark.usefixtures("_routed")
@pytest.mark.parametrize(
    ("given", "host", "reason"),
    [
        ({"listen": "127.0.0.2:9000"}, "127.0.0.2", "-listen says it"),
        ({}, "127.0.0.1", "no node on another machine is named"),
        ({"nodes": LAN}, "0.0.0.0", "nodes on other machines are named, or looked for"),
        ({"discover": "mdns"}, "0.0.0.0", "nodes on other machines are named, or looked for"),
        (
            {"discover": "dns:kv.example", "advertise": "auto"},
            "0.0.0.0",
            "nodes on other machines are named, or looked for",
        ),
        (
            {"advertise": "http://[2001:db8::1]:8000"},
            "::",
            "-advertise is no address of loopback",
        ),
    ],
)
def test_where_a_node_listens_is_told_with_the_reason(
    given: dict[str, str], host: str, reason: str
) -> None:
    told = listening(config(**given))
    assert told.addresses[0][0] == host
    assert told.reason == reason


def test_two_nodes_on_one_port_of_two_loopback_addresses_stay_two() -> None:
    nodes = "http://127.0.0.2:9000,http://127.0.0.3:9000"
    second = config(listen="127.0.0.3:9000", nodes=nodes)
    assert own_url(second) == "http://127.0.0.3:9000"
    assert cluster_urls(second) == ("http://127.0.0.3:9000", "http://127.0.0.2:9000")


def test_a_node_named_by_a_loopback_address_listens_there() -> None:
    assert listening(config(nodes="http://127.0.0.2:8000")).addresses == [("127.0.0.2", 8000)]


def test_a_node_with_a_name_of_loopback_listens_on_loopback_only() -> None:
    named = config(advertise="http://n1.localhost:8000")
    assert ("127.0.0.1", 8000) in listening(named).addresses
    assert {host for host, _ in listening(named).addresses} <= {"127.0.0.1", "::1"}


def test_a_name_that_begins_like_a_loopback_address_is_another_machines() -> None:
    named = config(advertise="http://127.example.com:8000")
    assert listening(named).addresses == [("0.0.0.0", 8000)]


def test_a_node_with_a_public_name_listens_on_every_interface() -> None:
    assert listening(config(advertise="http://kv-1:8000")).addresses == [("0.0.0.0", 8000)]
    assert listening(config(advertise="http://[2001:db8::1]:8000")).addresses == [("::", 8000)]


def test_ipv6_listens_without_and_advertises_with_brackets() -> None:
    six = config(listen="[::1]:8000")
    assert listening(six).addresses == [("::1", 8000)]
    assert own_url(six) == "http://[::1]:8000"


def test_a_name_that_does_not_resolve_is_another_machine() -> None:
    named = config(advertise="http://kv-1:8000", nodes="http://no-such-host.invalid:8000")
    assert cluster_urls(named) == ("http://kv-1:8000", "http://no-such-host.invalid:8000")


@pytest.mark.usefixtures("_routed")
@pytest.mark.parametrize("discover", ["mdns", "dns:kv.example", LAN])
def test_who_looks_for_nodes_elsewhere_can_be_reached_from_there(discover: str) -> None:
    looking = config(discover=discover)
    assert own_url(looking) == f"http://{ROUTED}:8000"
    assert listening(looking).addresses == [("0.0.0.0", 8000)]


def test_who_looks_on_loopback_stays_there() -> None:
    looking = config(port="8001", discover="http://127.0.0.1:8000")
    assert own_url(looking) == "http://localhost:8001"


def test_a_node_that_is_to_find_out_its_address_asks_no_other_name_of_its_own() -> None:
    auto = config(advertise="auto", nodes="http://127.0.0.1:8000,http://127.0.0.1:8001")
    assert own_url(auto) == "http://127.0.0.1:8000"
    assert peer_urls(auto) == ["http://127.0.0.1:8001"]
    assert listening(config(advertise="auto", nodes=LAN)).addresses == [("0.0.0.0", 8000)]


def test_all_names_of_the_settings_are_told() -> None:
    named = config(
        **{"advertise-client": "http://kv.example.org:80"},
        nodes="http://kv-1.example.org:8000,http://192.0.2.7:8000,http://[2001:db8::7]:8000",
        discover="mdns,dns:All.example.org:8000,http://seed.example.org:8000",
    )
    assert names_told(named) == {
        *("kv-1.example.org", "kv.example.org", "192.0.2.7", "2001:db8::7"),
        *("all.example.org", "seed.example.org"),
    }
    assert names_told(config(join="http://first.example.org:8000")) == {"first.example.org"}
    assert names_told(config(advertise="auto")) == set()
