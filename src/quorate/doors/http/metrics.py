# SPDX-License-Identifier: GPL-3.0-or-later
"""`/metrics`: what the node, its doors and its process count, for Prometheus.

Nothing is counted here: each part keeps plain numbers, and one table says what they mean. Names
and units are as Prometheus asks: base units last, `_total` for what only rises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from quorate.core.values.status import MemberView, Status
from quorate.doors.answered import BOUNDS_NS, OK, Answered, Durations
from quorate.doors.http.context import Context
from quorate.doors.http.query import Query

COUNTERS: Final = {
    "bytes_received": ("peer_bytes_received", "Bytes received from other nodes"),
    "bytes_sent": ("peer_bytes_sent", "Bytes sent to other nodes"),
    "connections_accepted": ("connections_accepted", "Connections accepted, of peers too"),
    "connections_refused": ("connections_refused", "Connections closed for want of room"),
    "connections_refused_plain": (
        "connections_refused_plain",
        "Clients that came without it where TLS is required",
    ),
    "connections_refused_tls": (
        "connections_refused_tls",
        "Clients and nodes that began TLS where there is none",
    ),
    "collected_expired": ("collected_expired", "Copies of expired keys dropped for good"),
    "collected_tombstones": ("collected_tombstones", "Records of deleted keys dropped for good"),
    "copies_dropped": ("copies_dropped", "Copies of partitions that went elsewhere, and are gone"),
    "copies_pulled": ("copies_pulled", "Copies of partitions that this node got from others"),
    "copies_damaged": ("copies_damaged", "Copies found that cannot be read"),
    "frames_dropped": ("peer_frames_dropped", "Frames for other nodes that were not sent"),
    "frames_received": ("peer_frames_received", "Frames received from other nodes"),
    "frames_sent": ("peer_frames_sent", "Frames sent to other nodes"),
    "handshakes_refused": ("handshakes_refused", "Links between nodes that either side refused"),
    "hints_dropped": ("hints_dropped", "Hints given up: the log was full, or they were damaged"),
    "hints_refused": ("hints_refused", "Hints that their replica refused for good"),
    "hints_replayed": ("hints_replayed", "Hints that their replica has taken"),
    "hints_stored": ("hints_stored", "Writes kept for a replica that did not take them"),
    "links_overflowed": ("links_overflowed", "Links given up as the peer did not read"),
    "log_lines_lost": ("log_lines_lost", "Lines of the log that could not be written"),
    "logins_ok": ("logins", "Logins that were accepted"),
    "logins_refused": ("logins_refused", "Logins that were refused, and tokens"),
    "own_copies_missed": ("own_copies_missed", "Writes that went on without this node's copy"),
    "members_refused": ("members_refused", "Members named by a peer that cannot be members"),
    "peer_requests_dropped": (
        "peer_requests_dropped",
        "Requests of peers that asked for more than they read",
    ),
    "peer_writes_fenced": (
        "peer_writes_fenced",
        "Writes of peers refused as older than what this node has locked or dropped",
    ),
    "peer_writes_refused": (
        "peer_writes_refused",
        "Writes of peers refused as stamped too far ahead of this clock",
    ),
    "protocol_errors": ("protocol_errors", "Connections that broke the protocol of peers"),
    "partitions_compared": (
        "partitions_compared",
        "Times that a partition was gone through as another replica differed",
    ),
    "partitions_collected": (
        "partitions_collected",
        "Times that a partition was gone through to drop what is deleted or has expired",
    ),
    "permissions_refused": (
        "permissions_refused",
        "Requests refused to a user who has no role for them, or not for that key",
    ),
    "partitions_locked": (
        "partitions_locked",
        "Times that a partition was locked, so that nothing old can win any more",
    ),
    "partitions_unlocked": (
        "partitions_unlocked",
        "Times that a lock was taken back, as another replica went on without it",
    ),
    "pulled_rows_refused": (
        "pulled_rows_refused",
        "Records dropped as those from whom this node gets its copy would not have taken them",
    ),
    "pulled_bytes": ("pulled_bytes", "Bytes of records that this node got with its copies"),
    "pulled_records": ("pulled_records", "Records that this node got with its copies"),
    "pulled_votes": ("pulled_votes", "Votes on read-modify-writes that it got with them"),
    "read_answers_distrusted": (
        "read_answers_distrusted",
        "Answers of replicas to reads that were stamped too far ahead of this clock",
    ),
    "reads_hedged": ("reads_hedged", "Reads that asked one replica more, as one was slow"),
    "reads_looked_again": ("reads_looked_again", "Reads that began anew as a write overtook them"),
    "reads_repaired": ("reads_repaired", "Reads that found a replica behind and wrote it back"),
    "repair_records_got": (
        "repair_records_got",
        "Records that anti-entropy got from a replica that had newer ones",
    ),
    "repair_records_refused": (
        "repair_records_refused",
        "Records that another replica lacked and refused when it was sent them",
    ),
    "repair_records_sent": (
        "repair_records_sent",
        "Records that anti-entropy sent to a replica that had older ones",
    ),
    "replicas_repaired": ("replicas_repaired", "Copies that reads wrote back"),
    "replies_refused": ("replies_refused", "Replies refused for want of room among those untaken"),
    "requests_of_another_epoch": (
        "requests_of_another_epoch",
        "Requests of peers under another layout",
    ),
    "requests_shed": ("requests_shed", "Requests refused for want of room among those under way"),
    "tls_handshakes_failed": (
        "tls_handshakes_failed",
        "Handshakes of clients and nodes that failed",
    ),
    "locks_waited_for_votes": (
        "locks_waited_for_votes",
        "Times that a lock was put off for an open vote to be brought to its end",
    ),
    "votes_given_up": (
        "votes_given_up",
        "Open votes that were dropped, as what was accepted cannot be decided any more",
    ),
    "proposals_adopted": (
        "proposals_adopted",
        "Times that what another node proposed was brought on first, as it may have been decided",
    ),
    "proposals_repeated": (
        "proposals_repeated",
        "Times that too few replicas voted for a proposal, so that it was made again",
    ),
    "update_rounds": ("update_rounds", "Questions to all replicas of a key about their votes"),
    "updates_combined": (
        "updates_combined",
        "Read-modify-writes that were part of the proposal of another of their key",
    ),
    "updates_gone": (
        "updates_gone",
        "Read-modify-writes of which nobody knew any more what became of them",
    ),
    "updates_lost_race": (
        "updates_lost_race",
        "Times that read-modify-writes began anew, as another node's came first",
    ),
    "updates_met_two_locks": (
        "updates_met_two_locks",
        "Times that replicas told different locks of a partition, and were asked again",
    ),
    "updates_wrote_back": (
        "updates_wrote_back",
        "Read-modify-writes that found a replica behind and wrote it back",
    ),
    "writes_fenced": (
        "writes_fenced",
        "Times that a replica refused a write as too old, so that it was stamped again",
    ),
    "writes_moved": (
        "writes_moved",
        "Writes put under a higher stamp by a vote, as the first was held by some and may be read",
    ),
    "writes_restamped": ("writes_restamped", "Writes stamped again above a newer version"),
}
"""From a counter's name in `Status.counters` or `Context.numbers` to that of its metric, without
prefix and `_total`, and what it counts."""

GAUGES: Final = {
    "agreed_age_s": (
        "agreed_age_seconds",
        "Since all replicas of this node's partitions were last known to be equal",
    ),
    "bytes": ("stored_bytes", "Bytes on disk of this node's copies"),
    "certificate_expires_s": (
        "certificate_expires_seconds",
        "Until the first certificate that was given expires",
    ),
    "connections": ("connections", "Connections open now, of peers too"),
    "disk_free_bytes": ("disk_free_bytes", "Bytes free for this process where its data is"),
    "disk_bytes": ("disk_bytes", "Size of the file system where the data is"),
    "epoch": ("layout_epoch", "Number of the layout in force"),
    "hint_bytes": ("hint_bytes", "Bytes of the hints that wait here"),
    "hints": ("hints", "Hints that wait here for other nodes"),
    "inflight": ("inflight_requests", "Requests under way"),
    "keys": ("keys", "Live keys among this node's copies"),
    "left": ("copies_left", "Copies that this node has yet to get in the step under way"),
    "level": ("feature_level", "The feature level in force"),
    "moving": ("layout_moving", "Whether copies move: 1 until all are where they belong"),
    "next_level": (
        "next_feature_level",
        "What an upgrade that is under way comes to; else the feature level in force",
    ),
    "ready": ("ready", "Whether requests belong here: 1 where /readyz is 200"),
    "replicas": ("replicas", "Copies of each key"),
    "reply_bytes": ("reply_bytes", "Bytes of replies that clients have not taken"),
    "tombstones": ("tombstones", "Deleted keys that this node still keeps a record of"),
}
"""The same of what can fall too; some are fields of a status."""

_FAILED: Final = "failed_"
_CACHE: Final = {"cache_hits": "hit", "cache_misses": "miss"}


async def metrics(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """Everything countable, for Prometheus; up to a second old."""

    async def make() -> bytes:
        registry = CollectorRegistry()
        registry.register(_Snapshot(context))
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    body = await context.lately.metrics.get(make)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Snapshot(Collector):
    """All of it at one moment."""

    def __init__(self, context: Context) -> None:
        self._status = context.store.status()
        self._numbers = {**self._status.counters, **context.numbers()}
        self._answered = context.answered

    def collect(self) -> Iterable[Metric]:
        status, numbers = self._status, self._numbers
        yield _node(status)
        yield from _requests(self._answered)
        # What never happened is 0: who asks for a rate would miss the first time of a series.
        for name, (metric, text) in COUNTERS.items():
            yield CounterMetricFamily(f"quorate_{metric}", text, value=numbers.get(name, 0))
        for name, (metric, text) in GAUGES.items():
            value = numbers[name] if name in numbers else getattr(status, name, None)
            if value is not None:
                yield GaugeMetricFamily(f"quorate_{metric}", text, value=int(value))
        yield _failures(numbers)
        yield _lookups(numbers)
        yield from _members(status.members)


def _node(status: Status) -> Metric:
    facts = {name: getattr(status, name) for name in ("version", "cluster", "url", "id")}
    return InfoMetricFamily("quorate_node", "Who this node is", value=facts)


def _requests(doors: Sequence[Answered]) -> Iterable[Metric]:
    total = CounterMetricFamily(
        "quorate_requests",
        "Requests answered, by what became of them: ok, also where nothing was found; not_applied,"
        " refused; unknown, a write that may be there; failed, a read without a quorum, say",
        labels=["door", "operation", "outcome"],
    )
    reads = HistogramMetricFamily(
        "quorate_read_duration_seconds", "From a read's last packet to its answer", labels=["door"]
    )
    writes = HistogramMetricFamily(
        "quorate_write_duration_seconds",
        "From a write's last packet to its answer",
        labels=["door"],
    )
    for door in doors:
        for name, operation in sorted(door.operations.items()):
            for outcome, count in {OK: operation.ok, **operation.errors}.items():
                total.add_metric([door.door, name, outcome], count)
        for family, durations in ((reads, door.reads), (writes, door.writes)):
            family.add_metric([door.door], _buckets(durations), durations.total_ns / 1e9)
    return [total, reads, writes]


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(f"{ns / 1e9:g}" for ns in BOUNDS_NS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(durations.counts)), strict=True))


def _failures(numbers: dict[str, int]) -> Metric:
    family = CounterMetricFamily(
        "quorate_requests_failed",
        "Requests that this node could not do, by the code of the error",
        labels=["code"],
    )
    for name, value in sorted(numbers.items()):
        if name.startswith(_FAILED):
            family.add_metric([name.removeprefix(_FAILED)], value)
    return family


def _lookups(numbers: dict[str, int]) -> Metric:
    family = CounterMetricFamily(
        "quorate_cache_lookups", "Reads of a copy, by whether the cache had it", labels=["outcome"]
    )
    for name, outcome in _CACHE.items():
        if name in numbers:
            family.add_metric([outcome], numbers[name])
    return family


def _members(members: list[MemberView]) -> Iterable[Metric]:
    # By the id too: a disk that was lost and the one in its place have one URL.
    labels = ["url", "id"]
    up = GaugeMetricFamily("quorate_member_up", "Whether a member answers", labels=labels)
    failures = GaugeMetricFamily(
        "quorate_member_failures", "Heartbeats that a member missed in a row", labels=labels
    )
    hints = GaugeMetricFamily(
        "quorate_member_hints", "Hints that wait here for a member", labels=labels
    )
    waits = GaugeMetricFamily(
        "quorate_member_agreed_waits",
        "Whether a member holds up that all replicas of this node's partitions are known as equal",
        labels=labels,
    )
    for member in members:
        values = [member.url, member.id]
        up.add_metric(values, int(member.state in ("self", "up")))
        failures.add_metric(values, member.failures)
        hints.add_metric(values, member.hints)
        waits.add_metric(values, int(member.holds_up))
    return [up, failures, hints, waits]
