# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared with what, and what is hoped for: the tables, as data.

Goals come first, in the order of their table; rows without a bound inform.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bench.generator import (
    StoreLoad,
    http,
    http_logging_in,
    http_with_headers,
    resp_incr,
    resp_logged_in,
    resp_logging_in,
)
from bench.growth import GROWTHS
from bench.moving import growing
from bench.peers.etcd import Etcd, EtcdLoad, etcd_gateway, etcd_grpc, etcd_txn
from bench.peers.postgres import Pgbench, Postgres
from bench.peers.quorate import Quorate
from bench.peers.redis import Redis
from bench.rounds import BenchRow, Bound, Contender, alone, beside, cost, latency
from bench.singles import (
    Server,
    memory_of_connections,
    memory_of_records,
    start_up,
    sync_loop,
    tail,
)

_OS: Final = Quorate(durability="os")
_SYNC: Final = Quorate(durability="sync")
_R1: Final = Quorate(r=1)
_REDIS: Final = Redis()
_ETCD: Final = Etcd()
_MIXED: Final = StoreLoad(reads=0.5)
_GET: Final = StoreLoad(reads=1.0)
_BARE: Final = StoreLoad(reads=1.0, fills=False)

_WITH_OS: Final = "with the operating system of 2 of 3"
_SYNCED: Final = "synced to disk on 2 of 3"
_NEWEST: Final = "newest of 2 of 3: linearizable"
_ONE_COPY: Final = "one copy, any replica's: eventual"
_HEADERS: Final = "with a client library's headers"
_TAIL: Final = "p99.9 over p50 at half of the highest rate, 10 minutes"

_SET_OS: Final = Contender(f"SET W=2, `os`: {_WITH_OS}", _OS, StoreLoad())
_SET_SYNC: Final = Contender(f"SET W=2, `sync`: {_SYNCED}", _SYNC, StoreLoad())
_GET_R2: Final = Contender(f"GET R=2: {_NEWEST}", _OS, _GET)
_GET_R1: Final = Contender(f"GET R=1: {_ONE_COPY}", _R1, _GET)
_ALONE_GET: Final = Contender("GET of one node alone", Quorate(nodes=1, r=1, w=1), _GET)
_HTTP_PUT: Final = Contender(f"HTTP PUT W=2, `os`: {_WITH_OS}", _OS, StoreLoad(speak=http))
_HTTP_GET: Final = Contender(f"HTTP GET R=1: {_ONE_COPY}", _R1, StoreLoad(speak=http, reads=1.0))
_ALL_ALIVE: Final = Contender(f"SET and GET W=2, R=2, `os`: {_WITH_OS}; {_NEWEST}", _OS, _MIXED)
_ONE_BY_ONE: Final = Contender(
    f"SET W=2, `sync`: {_SYNCED}, in a row", _SYNC, StoreLoad(connections=1)
)

_REDIS_GET: Final = Contender("Redis GET: one copy, the primary's", _REDIS, _GET)
_REDIS_SET: Final = Contender("Redis SET: in the primary's memory", _REDIS, StoreLoad())
_REDIS_WAIT: Final = Contender("Redis SET + WAIT 1: in memory of 2 of 3", _REDIS, StoreLoad(wait=1))
_REDIS_FILE: Final = Contender(
    "Redis SET + WAIT 1, `appendfsync no`: with the operating system of the primary, received by 1"
    " of 2 replicas",
    Redis(appendfsync="no"),
    StoreLoad(wait=1),
)
_REDIS_SYNC: Final = Contender(
    "Redis SET + WAIT 1, `appendfsync always`: synced to disk on the primary, received by 1 of 2"
    " replicas, which sync it too",
    Redis(appendfsync="always"),
    StoreLoad(wait=1),
)
_ETCD_PUT: Final = Contender(f"etcd put: {_SYNCED}", _ETCD, EtcdLoad(speak=etcd_grpc))
_ETCD_GATEWAY: Final = Contender(
    f"etcd put through its HTTP gateway: {_SYNCED}", _ETCD, EtcdLoad(speak=etcd_gateway)
)
_ETCD_GET: Final = Contender(
    "etcd linearizable get: the leader's, confirmed by 2 of 3: linearizable",
    _ETCD,
    EtcdLoad(speak=etcd_grpc, reads=1.0),
)
_POSTGRES_PUT: Final = Contender(
    "PostgreSQL upsert, `ANY 1 (s1, s2)`: synced to disk on the primary and 1 of 2 standbys",
    Postgres(),
    Pgbench(),
)
_POSTGRES_GET: Final = Contender(
    "PostgreSQL SELECT: one copy, the primary's", Postgres(), Pgbench(reads=1.0)
)

_PIPELINED: Final = Contender(
    f"pipelined (16) SET W=2, `os`: {_WITH_OS}", _OS, StoreLoad(pipeline=16)
)
_PIPELINED_GET: Final = Contender(
    f"pipelined (16) GET R=1: {_ONE_COPY}", _R1, StoreLoad(reads=1.0, pipeline=16)
)
_REDIS_PIPELINED: Final = Contender(
    "pipelined (16) Redis GET: one copy, the primary's", _REDIS, StoreLoad(reads=1.0, pipeline=16)
)
_ONE_DEAD: Final = Contender(
    f"SET and GET W=2, R=2, `os`, one node dead, its share of the processors free: {_WITH_OS};"
    f" {_NEWEST}",
    Quorate(dead=1),
    _MIXED,
)
_SEVEN_SET: Final = Contender("CPU of the same SET on 7 nodes", Quorate(nodes=7), StoreLoad())
_SEVEN_GET: Final = Contender("CPU of the same GET on 7 nodes", Quorate(nodes=7), _GET)
_SECRET_SET: Final = Contender(
    "CPU of the same SET, links between nodes inside TLS", Quorate(has_secret=True), StoreLoad()
)
_SECRET_GET: Final = Contender(
    "CPU of the same GET, links between nodes inside TLS", Quorate(has_secret=True), _GET
)
_TLS: Final = Quorate(has_tls=True)
_TLS_R1: Final = Quorate(has_tls=True, r=1)
_TLS_SET: Final = Contender("CPU of the same SET, clients inside TLS", _TLS, StoreLoad(tls=True))
_TLS_GET: Final = Contender(
    "CPU of the same GET, clients inside TLS", _TLS, StoreLoad(reads=1.0, tls=True)
)
_TLS_PUT: Final = Contender(
    "CPU of the same HTTP PUT, clients inside TLS", _TLS, StoreLoad(speak=http, tls=True)
)
_TLS_HTTP_GET: Final = Contender(
    "CPU of the same HTTP GET, clients inside TLS",
    _TLS_R1,
    StoreLoad(speak=http, reads=1.0, tls=True),
)
_ROLES_GET: Final = Contender(
    "CPU of the same GET, by a user who logged in: roles are looked at",
    Quorate(r=1, users="roles"),
    StoreLoad(speak=resp_logged_in, reads=1.0),
)
_PATTERNS_GET: Final = Contender(
    "CPU of the same GET, by a user with a key pattern",
    Quorate(r=1, users="patterns"),
    StoreLoad(speak=resp_logged_in, reads=1.0),
)
_LOGIN_HTTP_GET: Final = Contender(
    "CPU of the same HTTP GET, each with user and password",
    Quorate(r=1, users="roles"),
    StoreLoad(speak=http_logging_in, reads=1.0),
)
_CONNECT_GET: Final = Contender(
    f"GET R=1 on a connection of its own: {_ONE_COPY}", _R1, StoreLoad(reads=1.0, churn=True)
)
_CONNECT_LOGIN: Final = Contender(
    "CPU of the same GET and its connection, with a login on it",
    Quorate(r=1, users="roles"),
    StoreLoad(speak=resp_logging_in, reads=1.0, churn=True),
)
_CONNECT_TLS: Final = Contender(
    "CPU of the same GET and its connection, inside TLS",
    _TLS_R1,
    StoreLoad(reads=1.0, churn=True, tls=True),
)
_INCR_OS: Final = Contender(f"INCR, `os`: {_WITH_OS}", _OS, StoreLoad(speak=resp_incr))
_INCR_SYNC: Final = Contender(f"INCR, `sync`: {_SYNCED}", _SYNC, StoreLoad(speak=resp_incr))
_INCR_HOT: Final = StoreLoad(speak=resp_incr, keys=1)
_INCR_ALONE: Final = Contender(
    f"median latency of an INCR, `os`: {_WITH_OS}, in a row",
    _OS,
    StoreLoad(speak=resp_incr, connections=1),
)
_SET_ALONE: Final = Contender(f"SET W=2, `os`: {_WITH_OS}, in a row", _OS, StoreLoad(connections=1))
_INCR_CPU: Final = Contender("CPU of an INCR of the same", _OS, StoreLoad(speak=resp_incr))
_REDIS_INCR: Final = Contender(
    "Redis INCR + WAIT 1: in memory of 2 of 3", _REDIS, StoreLoad(speak=resp_incr, wait=1)
)
_ETCD_TXN: Final = Contender(
    f"etcd transaction, one comparison and one put: {_SYNCED}", _ETCD, EtcdLoad(speak=etcd_txn)
)
_QUIET: Final = Contender(
    f"median latency of a SET W=2, `sync`: {_SYNCED}, through a node that was quiet for 1.25 s",
    _SYNC,
    StoreLoad(connections=1, rate=0.8),
)
_SET_W1: Final = Contender(
    "SET W=1, `os`: with the operating system of 1 of 3", Quorate(w=1), StoreLoad()
)
_FULL_PUT: Final = Contender(
    f"HTTP PUT W=2, `os`, {_HEADERS}", _OS, StoreLoad(speak=http_with_headers)
)
_FULL_GET: Final = Contender(
    f"HTTP GET R=1, {_HEADERS}", _R1, StoreLoad(speak=http_with_headers, reads=1.0)
)
_BARE_GET: Final = Contender(
    "GET from a bare uvloop: one process, a fixed reply, nothing parsed", Server("resp"), _BARE
)

_GOALS: Final = (
    beside("set-os", _SET_OS, _REDIS_WAIT, Bound(at_least=0.9)),
    beside("set-sync-etcd", _SET_SYNC, _ETCD_PUT, Bound(at_least=3.0)),
    beside("set-sync-redis", _SET_SYNC, _REDIS_SYNC, Bound(at_least=1.0)),
    beside("get-r2-redis", _GET_R2, _REDIS_GET, Bound(at_least=0.6)),
    beside("get-r1-redis", _GET_R1, _REDIS_GET, Bound(at_least=0.9)),
    beside("get-r2-etcd", _GET_R2, _ETCD_GET, Bound(at_least=8.0)),
    beside("get-alone", _ALONE_GET, _BARE_GET, Bound(at_least=0.7)),
    beside("http-get", _FULL_GET, _GET_R1, Bound(at_least=0.8)),
    beside("http-put", _FULL_PUT, _SET_OS, Bound(at_least=0.8)),
    beside("pipelined", _PIPELINED, _SET_OS, Bound(at_least=3.0)),
    beside("one-dead", _ONE_DEAD, _ALL_ALIVE, Bound(at_least=0.9)),
    beside("seven-set", _SEVEN_SET, _SET_OS, Bound(at_most=1.15), figure=cost),
    beside("seven-get", _SEVEN_GET, _GET_R2, Bound(at_most=1.15), figure=cost),
    beside("secret-set", _SECRET_SET, _SET_OS, Bound(at_most=1.25), figure=cost),
    beside("secret-get", _SECRET_GET, _GET_R2, Bound(at_most=1.25), figure=cost),
    beside("tls-set", _TLS_SET, _SET_OS, Bound(at_most=1.5), figure=cost),
    beside("tls-get", _TLS_GET, _GET_R2, Bound(at_most=1.5), figure=cost),
    beside("tls-http-put", _TLS_PUT, _HTTP_PUT, Bound(at_most=1.5), figure=cost),
    beside("tls-http-get", _TLS_HTTP_GET, _HTTP_GET, Bound(at_most=1.5), figure=cost),
    beside("roles-get", _ROLES_GET, _GET_R1, Bound(at_most=1.02), figure=cost),
    beside("incr-cost", _INCR_CPU, _SET_OS, Bound(at_most=3.0), figure=cost),
    beside("incr-latency", _INCR_ALONE, _SET_ALONE, Bound(at_most=3.2), figure=latency),
    BenchRow(
        "incr-hot",
        "INCR of one key, `os`",
        "64 connections through three nodes",
        alone(_OS, _INCR_HOT),
        Bound(at_least=5_000),
        "/s",
    ),
    beside("quiet-set", _QUIET, _ONE_BY_ONE, Bound(at_most=1.5), figure=latency),
    BenchRow(
        "memory-records",
        "memory of 1 million records of 100 bytes",
        "resident on the largest of three nodes, each of which has all of them",
        memory_of_records(_OS),
        Bound(at_most=400),
        "MB",
    ),
    BenchRow(
        "memory-connections",
        "memory of an idle connection",
        "growth of the resident memory with 2000 connections that said PING once",
        memory_of_connections(_OS),
        Bound(at_most=40),
        "kB",
    ),
    BenchRow(
        "growing",
        "p99 of one client while copies move to a fourth node, `sync`",
        "its quiet p99; SET and GET, 1 million records of 100 bytes",
        growing(_SYNC),
        Bound(at_most=2),
        "times",
        is_long=True,
    ),
    BenchRow(
        "tail-os",
        f"{_TAIL}, `os`",
        "SET and GET, W=2, R=2; open loop",
        tail(_OS, _MIXED),
        Bound(at_most=20),
        "times",
        is_long=True,
    ),
    BenchRow(
        "tail-sync",
        f"{_TAIL}, `sync`",
        "SET and GET, W=2, R=2; open loop",
        tail(_SYNC, _MIXED),
        Bound(at_most=20),
        "times",
        is_long=True,
    ),
)
_OTHERS: Final = (
    beside("incr-redis", _INCR_OS, _REDIS_INCR),
    beside("incr-sync-etcd", _INCR_SYNC, _ETCD_TXN),
    beside("roles-patterns", _PATTERNS_GET, _GET_R1, figure=cost),
    beside("login-http", _LOGIN_HTTP_GET, _HTTP_GET, figure=cost),
    beside("login-connect", _CONNECT_LOGIN, _CONNECT_GET, figure=cost),
    beside("tls-connect", _CONNECT_TLS, _CONNECT_GET, figure=cost),
    beside("bare-get", _BARE_GET, _REDIS_GET),
    beside("pipelined-get", _PIPELINED_GET, _REDIS_PIPELINED),
    beside("http-get-headers", _FULL_GET, _HTTP_GET),
    beside("http-put-headers", _FULL_PUT, _HTTP_PUT),
    beside("set-os-redis-file", _SET_OS, _REDIS_FILE),
    beside("set-w1-redis", _SET_W1, _REDIS_SET),
    beside("set-sync-postgres", _SET_SYNC, _POSTGRES_PUT),
    beside("get-r2-postgres", _GET_R2, _POSTGRES_GET),
    beside("set-sync-gateway", _SET_SYNC, _ETCD_GATEWAY),
    BenchRow(
        "start-up",
        "start-up",
        "a killed node with 1 million records of 100 bytes, until it serves",
        start_up(_SYNC),
        unit="s",
    ),
    BenchRow(
        "limit-http",
        "HTTP GET from a bare uvloop with httptools",
        "one process, a fixed answer",
        alone(Server("http"), replace(_BARE, speak=http)),
        unit="/s",
    ),
    BenchRow(
        "limit-sync",
        "append 150 bytes and fdatasync",
        "one process, one at a time; what group commit shares among writes",
        sync_loop,
        unit="/s",
    ),
)
ROWS: Final = (*_GOALS, *_OTHERS, *GROWTHS)
