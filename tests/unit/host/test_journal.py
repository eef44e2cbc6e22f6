# SPDX-License-Identifier: GPL-3.0-or-later
"""What links write to the log, and above all what they do not."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Note
from quorate.errors import PeerProtocolError
from quorate.host.journal import LinkJournal


class Log:
    """Lines, and the time at which they are written."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.mono_ms = 0
        self.journal = LinkJournal(log=self.notes.append, mono_ms=lambda: self.mono_ms)

    def facts(self, *names: str) -> list[tuple[int | str, ...]]:
        """These of each line."""
        return [tuple(note.facts[name] for name in names) for note in self.notes]


def test_a_refusal_is_logged_once_for_each_peer_and_reason_and_counted_every_time() -> None:
    log = Log()
    for _ in range(50):
        log.journal.refused("http://a", "cluster name differs", by="us")
        log.journal.refused("http://b", "cluster name differs", by="them")
    log.journal.refused("http://a", "layout differs", by="us")
    assert log.facts("peer", "reason", "by") == [
        ("http://a", "cluster name differs", "us"),
        ("http://b", "cluster name differs", "them"),
        ("http://a", "layout differs", "us"),
    ]
    assert {(note.level, note.event) for note in log.notes} == {("warning", "link_refused")}
    assert log.journal.counters()["handshakes_refused"] == 101


def test_a_stranger_that_is_refused_is_an_audit_event_and_a_peer_that_we_dial_is_none() -> None:
    log = Log()
    log.journal.refused("http://a", "layout differs", by="us", address="10.0.0.9")
    log.journal.refused("10.0.0.9", "it shows no certificate", by="them", address="10.0.0.9")
    named, unnamed = [note.facts for note in log.notes]
    assert named == {
        "peer": "http://a",
        "reason": "layout differs",
        "by": "us",
        "address": "10.0.0.9",
        "audit": True,
        "who": "http://a",
        "from": "10.0.0.9",
        "what": "link",
        "outcome": "refused",
    }
    assert (unnamed["peer"], unnamed["who"], unnamed["by"]) == ("10.0.0.9", "unknown", "them")
    log.journal.refused("http://a", "another secret", by="us")
    assert log.notes[-1].facts == {"peer": "http://a", "reason": "another secret", "by": "us"}


def test_a_peer_that_was_agreed_with_is_logged_again_when_it_is_refused() -> None:
    log = Log()
    log.journal.refused("http://a", "layout differs", by="us")
    log.journal.refused("http://b", "layout differs", by="us")
    log.journal.agreed("http://a")
    log.journal.refused("http://a", "layout differs", by="us")
    log.journal.refused("http://b", "layout differs", by="us")
    assert log.facts("peer") == [("http://a",), ("http://b",), ("http://a",)]


def test_strangers_with_ever_new_names_do_not_grow_what_is_remembered() -> None:
    log = Log()
    for number in range(5000):
        log.journal.refused(f"http://{number}" + "x" * 10_000, "no", by="us")
    assert len(log.journal._told) <= 1000
    assert all(len(peer) <= 500 for peer, _ in log.journal._told)


def test_a_stranger_with_ever_new_names_gets_a_few_lines_a_minute_and_is_counted() -> None:
    log = Log()
    for number in range(3000):
        log.journal.refused(f"http://{number}", f"no {number}", by="us", address="10.0.0.9")
    assert [note.event for note in log.notes] == ["link_refused"] * 5
    assert {note.facts["address"] for note in log.notes} == {"10.0.0.9"}
    log.notes.clear()
    log.mono_ms = 60_000
    log.journal.refused("http://one-more", "no", by="us", address="10.0.0.9")
    assert [note.event for note in log.notes] == ["links_refused", "link_refused"]
    facts = log.notes[0].facts
    assert facts["times"] == 2995
    assert (facts["audit"], facts["who"], facts["from"]) == (True, "unknown", "several")
    assert log.journal.counters()["handshakes_refused"] == 3001


def test_strangers_of_many_addresses_share_the_lines_and_take_none_of_peers_that_we_dial() -> None:
    log = Log()
    for number in range(3000):
        log.journal.refused(f"http://{number}", "no", by="us", address=f"10.0.{number}")
    assert len(log.notes) == 20
    log.journal.refused("http://peer", "layout differs", by="them")
    assert log.facts("peer")[-1] == ("http://peer",)


def test_who_was_not_told_of_is_told_of_in_another_minute() -> None:
    log = Log()
    for number in range(6):
        log.journal.refused(f"http://{number}", "no", by="us", address="10.0.0.9")
    log.mono_ms = 60_000
    for number in range(6):
        log.journal.refused(f"http://{number}", "no", by="us", address="10.0.0.9")
    assert [note.facts.get("peer") for note in log.notes[5:]] == [None, "http://5"]


def test_the_oldest_refusal_is_forgotten_first() -> None:
    log = Log()
    for number in range(1001):
        log.journal.refused(f"http://{number}", "no", by="us")
    log.notes.clear()
    log.journal.refused("http://1000", "no", by="us")
    log.journal.refused("http://1", "no", by="us")
    assert log.notes == []
    log.journal.refused("http://0", "no", by="us")
    assert log.facts("peer") == [("http://0",)]


@pytest.mark.parametrize("began_ms", [0, 100_000])
def test_broken_protocol_is_logged_once_in_ten_seconds_with_the_times_it_happened(
    began_ms: int,
) -> None:
    log = Log()
    log.mono_ms = began_ms
    for _ in range(7):
        log.journal.broke_protocol("10.0.0.9:1", PeerProtocolError("bad"))
    log.mono_ms += 9_999
    log.journal.broke_protocol("10.0.0.9:1", PeerProtocolError("bad"))
    log.mono_ms += 1
    log.journal.broke_protocol("10.0.0.9:1", PeerProtocolError("bad", length=3))
    assert log.facts("times", "error") == [(1, "bad"), (8, "bad (length=3)")]
    assert log.notes[0].event == "peer_broke_protocol"
    assert log.journal.counters()["protocol_errors"] == 9


def test_texts_from_outside_are_cut_short() -> None:
    log = Log()
    log.journal.refused("p" * 100_000, "r" * 100_000, by="them")
    log.journal.broke_protocol("p" * 100_000, PeerProtocolError("e" * 100_000))
    assert len(log.notes) == 2
    assert all(len(str(note)) < 1500 for note in log.notes)


def test_a_link_that_ran_over_and_a_message_that_is_too_large_are_told_each_time() -> None:
    log = Log()
    for _ in range(2):
        log.journal.overflowed("http://a", 70)
        log.journal.too_large("http://a", ValueError("no"))
    told = [("warning", "link_overflowed"), ("error", "message_too_large")]
    assert [(note.level, note.event) for note in log.notes] == told * 2
    assert log.notes[0].facts == {"peer": "http://a", "queued_bytes": 70}
    assert log.journal.counters()["links_overflowed"] == 2
