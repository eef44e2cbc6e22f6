# SPDX-License-Identifier: GPL-3.0-or-later
"""What links write to the log, and above all what they do not."""

from __future__ import annotations

from structlog.testing import capture_logs

from quorate.errors import PeerProtocolError
from quorate.transport.journal import Journal


def test_a_refusal_is_logged_once_for_each_peer_and_reason_and_counted_every_time() -> None:
    journal = Journal()
    with capture_logs() as logs:
        for _ in range(50):
            journal.refused("http://a", "cluster name differs", by="us")
            journal.refused("http://b", "cluster name differs", by="them")
        journal.refused("http://a", "layout differs", by="us")
    assert [(line["peer"], line["reason"], line["by"]) for line in logs] == [
        ("http://a", "cluster name differs", "us"),
        ("http://b", "cluster name differs", "them"),
        ("http://a", "layout differs", "us"),
    ]
    assert journal.counters()["handshakes_refused"] == 101


def test_a_peer_that_was_agreed_with_is_logged_again_when_it_is_refused() -> None:
    journal = Journal()
    with capture_logs() as logs:
        journal.refused("http://a", "layout differs", by="us")
        journal.agreed("http://a")
        journal.refused("http://a", "layout differs", by="us")
    assert len(logs) == 2


def test_strangers_with_ever_new_names_do_not_grow_what_is_remembered() -> None:
    journal = Journal()
    with capture_logs():
        for number in range(5000):
            journal.refused(f"http://{number}" + "x" * 10_000, "no", by="us")
    assert len(journal._told) <= 1000
    assert all(len(peer) <= 300 for peer, _ in journal._told)


def test_broken_protocol_is_logged_once_in_ten_seconds_with_the_times_it_happened() -> None:
    now = 100.0
    journal = Journal(clock=lambda: now)
    with capture_logs() as logs:
        for _ in range(7):
            journal.broke_protocol("10.0.0.9:1", PeerProtocolError("bad"))
        now = 110.0
        journal.broke_protocol("10.0.0.9:1", PeerProtocolError("bad", length=3))
    assert [line["times"] for line in logs] == [1, 7]
    assert logs[1]["error"] == "bad (length=3)"
    assert journal.counters()["protocol_errors"] == 8


def test_texts_from_outside_are_cut_short() -> None:
    journal = Journal()
    with capture_logs() as logs:
        journal.refused("p" * 100_000, "r" * 100_000, by="them")
        journal.broke_protocol("p" * 100_000, PeerProtocolError("e" * 100_000))
    assert all(len(str(line)) < 1500 for line in logs)
