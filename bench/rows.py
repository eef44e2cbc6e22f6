# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared with what, and what is hoped for: the tables, as data.

Goals come first, in the order of their table; rows without a bound inform.
"""

from __future__ import annotations

from typing import Final

from bench.loads import QuorateBench
from bench.peers.etcd import Etcd, EtcdLoad
from bench.peers.postgres import Pgbench, Postgres
from bench.peers.quorate import Quorate
from bench.peers.redis import Redis
from bench.rounds import Bound, Row, Side, cost
from bench.singles import (
    EchoLoad,
    Server,
    Single,
    memory_of_connections,
    memory_of_records,
    start_up,
    sync_loop,
    tail,
    throughput_of,
)

_OS: Final = Quorate(durability="os")
_SYNC: Final = Quorate(durability="sync")
_R1: Final = Quorate(r=1)
_W1: Final = Quorate(w=1)
_SEVEN: Final = Quorate(nodes=7)
_ONE_DEAD: Final = Quorate(dead=1)
_REDIS: Final = Redis()
_REDIS_OS: Final = Redis(appendfsync="no")
_REDIS_SYNC: Final = Redis(appendfsync="always")

_SET: Final = QuorateBench()
_GET: Final = QuorateBench(reads=1.0)
_MIXED: Final = QuorateBench(reads=0.5)
_SET_WAIT: Final = QuorateBench(wait=1)
_HTTP_PUT: Final = QuorateBench(protocol="http")
_HTTP_GET: Final = QuorateBench(protocol="http", reads=1.0)

_WITH_OS: Final = "with the operating system of 2 of 3"
_SYNCED: Final = "synced to disk on 2 of 3"
_PRIMARY_SYNCED: Final = (
    "synced to disk on the primary, received by 1 of 2 replicas, which sync it too"
)
_NEWEST: Final = "newest of 2 of 3: linearizable"
_ONE_COPY: Final = "one copy, any replica's: eventual"

_OUR_SET: Final = Side(_OS, _SET, _WITH_OS)
_OUR_SYNCED_SET: Final = Side(_SYNC, _SET, _SYNCED)
_OUR_GET: Final = Side(_OS, _GET, _NEWEST)
_OUR_GET_R1: Final = Side(_R1, _GET, _ONE_COPY)
_REDIS_GET: Final = Side(_REDIS, _GET, "one copy, the primary's")
_ETCD_PUT: Final = Side(Etcd(), EtcdLoad(), _SYNCED)

ROWS: Final = (
    Row(
        "set-os",
        "SET W=2, `os`",
        "Redis SET + WAIT 1",
        _OUR_SET,
        Side(_REDIS, _SET_WAIT, "in memory of 2 of 3"),
        Bound(at_least=1.0),
    ),
    Row(
        "set-sync-etcd",
        "SET W=2, `sync`",
        "etcd put",
        _OUR_SYNCED_SET,
        _ETCD_PUT,
        Bound(at_least=5.0),
    ),
    Row(
        "set-sync-redis",
        "SET W=2, `sync`",
        "Redis SET + WAIT 1, `appendfsync always`",
        _OUR_SYNCED_SET,
        Side(_REDIS_SYNC, _SET_WAIT, _PRIMARY_SYNCED),
        Bound(at_least=1.0),
    ),
    Row(
        "get-r2-redis",
        "GET R=2",
        "Redis GET from the primary",
        _OUR_GET,
        _REDIS_GET,
        Bound(at_least=0.5),
    ),
    Row("get-r1-redis", "GET R=1", "Redis GET", _OUR_GET_R1, _REDIS_GET, Bound(at_least=0.9)),
    Row(
        "get-r2-etcd",
        "GET R=2",
        "etcd linearizable get",
        _OUR_GET,
        Side(Etcd(), EtcdLoad(reads=True), "the leader's, confirmed by 2 of 3: linearizable"),
        Bound(at_least=8.0),
    ),
    Row(
        "http-get",
        "HTTP GET R=1",
        "RESP on the same cluster",
        Side(_R1, _HTTP_GET, _ONE_COPY),
        _OUR_GET_R1,
        Bound(at_least=0.8),
    ),
    Row(
        "http-put",
        "HTTP PUT W=2, `os`",
        "RESP on the same cluster",
        Side(_OS, _HTTP_PUT, _WITH_OS),
        _OUR_SET,
        Bound(at_least=0.8),
    ),
    Row(
        "pipelined",
        "pipelined SET (16) W=2, `os`",
        "not pipelined",
        Side(_OS, QuorateBench(pipeline=16), _WITH_OS),
        _OUR_SET,
        Bound(at_least=3.0),
    ),
    Row(
        "one-dead",
        "SET and GET W=2, R=2, `os`, one node dead, its share of the processors free",
        "all alive",
        Side(_ONE_DEAD, _MIXED, f"{_WITH_OS}; {_NEWEST}"),
        Side(_OS, _MIXED, f"{_WITH_OS}; {_NEWEST}"),
        Bound(at_least=0.9),
    ),
    Row(
        "seven-set",
        "SET W=2, `os`, 7 nodes: cost per operation",
        "3 nodes",
        Side(_SEVEN, _SET, _WITH_OS),
        _OUR_SET,
        Bound(at_most=1.15),
        cost,
    ),
    Row(
        "seven-get",
        "GET R=2, 7 nodes: cost per operation",
        "3 nodes",
        Side(_SEVEN, _GET, _NEWEST),
        _OUR_GET,
        Bound(at_most=1.15),
        cost,
    ),
    # --- without a goal ---
    Row(
        "set-os-redis-file",
        "SET W=2, `os`",
        "Redis SET + WAIT 1, `appendfsync no`",
        _OUR_SET,
        Side(_REDIS_OS, _SET_WAIT, "with the operating system of the primary, received by 1 of 2"),
    ),
    Row(
        "set-w1-redis",
        "SET W=1, `os`",
        "Redis SET",
        Side(_W1, _SET, "with the operating system of 1 of 3"),
        Side(_REDIS, _SET, "in the primary's memory"),
    ),
    Row(
        "set-sync-postgres",
        "SET W=2, `sync`",
        "PostgreSQL upsert, `ANY 1 (s1, s2)`",
        _OUR_SYNCED_SET,
        Side(Postgres(), Pgbench(), "synced to disk on the primary and 1 of 2 standbys"),
    ),
    Row(
        "get-r2-postgres",
        "GET R=2",
        "PostgreSQL SELECT on the primary",
        _OUR_GET,
        Side(Postgres(), Pgbench(reads=True), "one copy, the primary's"),
    ),
    Row(
        "set-sync-gateway",
        "SET W=2, `sync`",
        "etcd put through its HTTP gateway",
        _OUR_SYNCED_SET,
        Side(Etcd(), EtcdLoad(protocol="etcd-gateway"), _SYNCED),
    ),
)

SINGLES: Final = (
    Single(
        "memory-records",
        "memory of 1 million records of 100 bytes",
        "resident on the largest of three nodes, each of which has all of them",
        "MB",
        memory_of_records(_OS),
        Bound(at_most=400),
    ),
    Single(
        "memory-connections",
        "memory of an idle connection",
        "growth of the resident memory with 2000 connections that said PING once",
        "kB",
        memory_of_connections(_OS),
        Bound(at_most=40),
    ),
    Single(
        "start-up",
        "start-up",
        "a killed node with 1 million records of 100 bytes, until it serves",
        "s",
        start_up(_SYNC),
    ),
    Single(
        "tail-os",
        "p99.9 over p50 at half of the highest rate, 10 minutes, `os`",
        "SET and GET, W=2, R=2; open loop",
        "times",
        tail(_OS, _MIXED),
        Bound(at_most=20),
        is_long=True,
    ),
    Single(
        "tail-sync",
        "p99.9 over p50 at half of the highest rate, 10 minutes, `sync`",
        "SET and GET, W=2, R=2; open loop",
        "times",
        tail(_SYNC, _MIXED),
        Bound(at_most=20),
        is_long=True,
    ),
    Single(
        "limit-http",
        "bare uvloop + httptools, a fixed answer",
        "one process; the same generator as the HTTP rows",
        "/s",
        throughput_of(Server("http"), QuorateBench(protocol="http", reads=1.0, keys=1000)),
    ),
    Single(
        "limit-echo",
        "TCP echo of 64 bytes over loopback",
        "one process, uvloop; nothing is parsed",
        "/s",
        throughput_of(Server("echo"), EchoLoad()),
    ),
    Single(
        "limit-sync",
        "append 150 bytes and fdatasync",
        "one process, one at a time; what group commit shares among writes",
        "/s",
        sync_loop,
    ),
)
