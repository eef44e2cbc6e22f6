# SPDX-License-Identifier: GPL-3.0-or-later
"""For what watches a node: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from quorate.core.values.status import MemberView
from quorate.doors.http.context import Context, respond_text
from quorate.doors.http.request import Query
from quorate.errors import NotReady

_GAUGES: Final = (
    *("ready", "epoch", "replicas", "keys", "bytes", "inflight", "hints", "hint_bytes"),
)
"""Fields of a status that are shown as they are."""


async def healthz(_context: Context, _request: web.Request, _query: Query) -> web.Response:
    """200 while the process serves at all: restarting it would not help otherwise."""
    return respond_text("ok")


async def readyz(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """200 when requests belong here, else 503 with the reason. `/internal/ping` asks the same."""
    status = context.store.status()
    if not status.ready:
        raise NotReady(status.reason or "not ready")
    return respond_text("ok")


async def metrics(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """Everything countable, for Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(context))
    return web.Response(
        body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


class _Snapshot(Collector):
    """One status as metrics: the node keeps plain numbers, and nothing is counted twice."""

    def __init__(self, context: Context) -> None:
        self._status = context.store.status()
        self._door_counts = context.door_counts()

    def collect(self) -> Iterable[Metric]:
        status = self._status
        for name, value in sorted(status.counters.items()):
            yield CounterMetricFamily(f"quorate_{name}", name.replace("_", " "), value=value)
        gauges = {name: int(getattr(status, name)) for name in _GAUGES}
        for name, value in {**gauges, **self._door_counts}.items():
            yield GaugeMetricFamily(f"quorate_{name}", name.replace("_", " "), value=value)
        yield from _members(status.members)


def _members(members: list[MemberView]) -> Iterable[Metric]:
    up = GaugeMetricFamily("quorate_member_up", "whether a member answers", labels=["url"])
    failures = GaugeMetricFamily(
        "quorate_member_failures", "heartbeats missed in a row", labels=["url"]
    )
    hints = GaugeMetricFamily("quorate_member_hints", "hints waiting here", labels=["url"])
    for member in members:
        up.add_metric([member.url], int(member.state in ("self", "up")))
        failures.add_metric([member.url], member.failures)
        hints.add_metric([member.url], member.hints)
    return [up, failures, hints]
