# SPDX-License-Identifier: GPL-3.0-or-later
"""`/metrics`, read by Prometheus' own parser."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from quorate.errors import InvalidRequest, Outcome, Overloaded, QuorumUnreachable
from tests.fake_store import NODES
from tests.http_served import Client, Served, get, post

LANES = {"fast": b"", "slow": b"Content-Encoding: identity\r\n"}


def families(client: Client) -> dict[str, Metric]:
    """By name, without `_total`."""
    answer = get(client, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = list(text_string_to_metric_families(answer.body.decode()))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def requests(client: Client) -> Counter[tuple[str, str]]:
    """By operation and outcome."""
    return Counter(
        {
            (sample.labels["operation"], sample.labels["outcome"]): int(sample.value)
            for sample in families(client)["quorate_requests"].samples
            if sample.name == "quorate_requests_total"
        }
    )


def counted(client: Client, name: str) -> int:
    """How many durations a histogram of this door has."""
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in families(client)[name].samples
        if sample.labels["door"] == "http"
    }
    buckets = [value for (each, _), value in samples.items() if each == f"{name}_bucket"]
    assert buckets == sorted(buckets), "buckets are cumulative"
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", None]
    assert samples[f"{name}_sum", None] >= 0
    return int(samples[f"{name}_count", None])


def test_every_metric_says_what_it_is_in_the_units_that_prometheus_asks_for(
    http: Served, http_client: Client
) -> None:
    http.store.counters |= {"reads_hedged": 7, "cache_hits": 3, "failed_overloaded": 2}
    found = families(http_client)
    assert found["quorate_reads_hedged"].samples[0].value == 7
    assert found["quorate_hints_dropped"].samples[0].value == 0, "before it ever happened"
    assert found["quorate_cache_lookups"].samples[0].labels == {"outcome": "hit"}
    assert found["quorate_requests_failed"].samples[0].labels == {"code": "overloaded"}
    assert found["quorate_ready"].samples[0].value == 1
    waits = found["quorate_member_agreed_waits"].samples
    assert {each.labels["url"]: each.value for each in waits} == dict.fromkeys(NODES, 0)
    up = {sample.labels["url"]: sample.value for sample in found["quorate_member_up"].samples}
    assert up == dict.fromkeys(NODES, 1)
    for name, family in found.items():
        is_ours = name.startswith("quorate_")
        assert is_ours or name.startswith("process_"), name
        assert family.type in ("counter", "gauge", "histogram"), name
        if is_ours:
            assert len(family.documentation.split()) >= 3, name
            assert name.removeprefix("quorate_").replace("_", " ") != family.documentation.lower()
        for unit in ("_ms", "_kb", "_mb", "_percent"):
            assert not name.endswith(unit)


def test_who_holds_up_the_last_agreement_is_one_of_the_members(
    http: Served, http_client: Client
) -> None:
    http.store.holding_up = NODES[2]
    samples = families(http_client)["quorate_member_agreed_waits"].samples
    values = {each.labels["url"]: each.value for each in samples}
    assert values == {NODES[0]: 0, NODES[1]: 0, NODES[2]: 1}
    assert all(set(each.labels) == {"url", "id"} for each in samples)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/readyz", "/internal/ping"])
def test_probes_of_a_node_that_is_not_ready_are_no_errors_of_clients(
    path: str, method: str, http: Served, http_client: Client
) -> None:
    operation = f"{method} {path}"
    before = requests(http_client)
    http.store.is_ready = False
    answer = get(http_client, path, method=method)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["content-length"]) > 0
    assert bool(answer.body) == (method == "GET")
    http.store.is_ready = True
    assert get(http_client, path, method=method).status == 200
    rise = requests(http_client) - before
    assert {key: times for key, times in rise.items() if key[0] == operation} == {
        (operation, "ok"): 2
    }


def test_the_process_is_measured_too(http_client: Client) -> None:
    found = families(http_client)
    for name in ("resident_memory_bytes", "open_fds", "cpu_seconds", "start_time_seconds"):
        assert found[f"process_{name}"].samples[0].value > 0


@pytest.mark.parametrize("lane", LANES)
def test_requests_are_counted_by_operation_and_outcome(
    http: Served, http_client: Client, lane: str
) -> None:
    extra = LANES[lane]
    put = extra + b"Content-Length: 0\r\n"
    before = requests(http_client)
    reads = counted(http_client, "quorate_read_duration_seconds")
    writes = counted(http_client, "quorate_write_duration_seconds")
    with http.client() as client:
        assert get(client, "/kv?key=k", headers=put, method="PUT").status == 200
        assert get(client, "/kv?key=k", headers=extra).status == 200
        assert get(client, "/kv?key=none", headers=extra).status == 404
        assert get(client, "/kv?key=k", headers=extra, method="HEAD").status == 200
        assert get(client, "/kv?key=k", headers=extra, method="DELETE").status == 200
        http.store.failure = QuorumUnreachable("few", outcome=Outcome.UNKNOWN)
        assert get(client, "/kv?key=k", headers=extra, method="DELETE").status == 503
        http.store.failure = Overloaded("much", outcome=Outcome.NOT_APPLIED)
        assert get(client, "/kv?key=k", headers=put, method="PUT").status == 503
        http.store.failure = QuorumUnreachable("few")
        assert get(client, "/kv?key=k", headers=extra).status == 503
        http.store.failure = InvalidRequest("no")
        assert get(client, "/kv?key=k", headers=extra).status == 400
        http.store.failure = None
    assert requests(http_client) - before == {
        ("PUT /kv", "ok"): 1,
        ("GET /kv", "ok"): 2,
        ("HEAD /kv", "ok"): 1,
        ("DELETE /kv", "ok"): 1,
        ("DELETE /kv", "unknown"): 1,
        ("PUT /kv", "not_applied"): 1,
        ("GET /kv", "failed"): 1,
        ("GET /kv", "not_applied"): 1,
        # What was asked to see this.
        ("GET /metrics", "ok"): 3,
    }
    assert counted(http_client, "quorate_read_duration_seconds") - reads == 5
    assert counted(http_client, "quorate_write_duration_seconds") - writes == 4


def test_what_is_no_operation_is_counted_as_one(http: Served, http_client: Client) -> None:
    """Nobody can make a label of their own."""
    before = requests(http_client)
    with http.client() as client:
        assert get(client, "/nope").status == 404
        assert get(client, "/kv?key=k", method="PATCH").status == 405
        assert get(client, "/nodes", headers=b"Host: twice\r\n").status == 400
    with http.client() as client:
        assert post(client, "/%6b%76", b"").status == 404
    assert requests(http_client) - before == {
        ("other", "not_applied"): 4,
        ("GET /metrics", "ok"): 1,
    }
