# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes, asked who reaches whom."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

from quorate.security.secret import new_secret, write_secret
from tests.cluster.processes import Cluster, fetch, quorate, wait_until


def doctor(target: str, *flags: str) -> tuple[int, dict[str, Any]]:
    done = quorate("doctor", target, "--json", *flags)
    return done.returncode, json.loads(done.stdout)


def test_doctor_says_that_all_is_well_and_then_what_is_not(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first, second, third = cluster.nodes
        for node, other in permutations(cluster.nodes, 2):
            node.sees(other.url, "up")
        code, told = doctor(first.url)
        assert (code, told["advice"]) == (0, [])
        assert len(told["ways"]) == 3 + 6
        assert all(way["stage"] == "" for way in told["ways"])
        shown = quorate("doctor", first.url)
        assert b"all is well" in shown.stdout
        third.kill()
        first.sees(third.url, "down")
        code, told = doctor(first.url)
        failed = {(way["source"], way["stage"]) for way in told["ways"] if way["stage"]}
        assert code == 3
        assert failed == {
            ("this command", "connect"),
            (first.url, "connect"),
            (second.url, "connect"),
            (third.url, "ask"),
        }
        assert any(
            line.startswith(f"{first.url} -> {third.url}: ") and "start the node" in line
            for line in told["advice"]
        )


def test_doctor_reaches_nodes_inside_tls_by_their_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_secret(secret, new_secret())
    with Cluster(tmp_path, f"-secret-file={secret}", count=2) as cluster:
        first, second = cluster.nodes
        first.sees(second.url, "up")
        second.sees(first.url, "up")
        code, told = doctor(first.url.replace("http:", "https:"), f"--secret-file={secret}")
        assert (code, [way["stage"] for way in told["ways"]]) == (0, [""] * 4), told


def test_a_node_tries_members_and_nobody_else(tmp_path: Path) -> None:
    with Cluster(tmp_path, count=2) as cluster:
        first, second = cluster.nodes
        status, body = fetch(f"{first.url}/probe?url={second.url}")
        probe = json.loads(body)
        assert (status, probe["stage"], probe["fault"]) == (200, "", "")
        assert probe["addresses"]
        assert probe["seen"] in ("127.0.0.1", "::1")
        for url in ("http://127.0.0.1:1", "http://169.254.169.254:80", "x", ""):
            assert fetch(f"{first.url}/probe?url={url}")[0] == 400
        assert fetch(f"{first.url}/probe")[0] == 400
        wait_until(lambda: "link_refused" not in second.log.read_text(), within_s=1, what="quiet")
