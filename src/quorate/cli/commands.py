# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of all commands. `serve` takes the settings of `quorate.config` besides."""

from __future__ import annotations

from typing import Final

from quorate.cli.arguments import Flag, Subcommand
from quorate.client.trial import DEFAULT_NODE, TIMEOUT_SECONDS

_JSON: Final = Flag("json", "print JSON")
_CLUSTER: Final = (
    Flag("target", "the one node to ask", "any of --nodes"),
    Flag("nodes", "URLs of nodes, by commas: the first that answers", DEFAULT_NODE),
    Flag("timeout", "how long it may take, such as 500ms or 2s", f"{TIMEOUT_SECONDS:g}s"),
    _JSON,
)
_KEY: Final = Flag("key", "the key, any bytes")
_W: Final = Flag("W", "replicas that must hold the write", "the cluster's", ("w",))
_R: Final = Flag("R", "replicas that must answer", "the cluster's", ("r",))

COMMANDS: Final = (
    Subcommand(
        "dev",
        "Start three nodes on this machine, show a put and a get, run until Ctrl-C.",
        "dev",
        (
            Flag("once", "stop after the demonstration"),
            Flag("dir", "directory for data and logs, kept", "a temporary one, removed"),
            Flag("nodes-count", "nodes to start", "3"),
            Flag("base-port", "port of the first node; the others follow", "8000"),
            _JSON,
        ),
    ),
    Subcommand("serve", "Run one node. Flags without a command mean this too.", "serve", (_JSON,)),
    Subcommand(
        "put",
        "Write a key.",
        "data",
        (
            _KEY,
            Flag(
                "value",
                "the value, any bytes; - reads it from standard input",
                remedy="use - to read the value from standard input",
            ),
            Flag("ttl", "when it expires: seconds, or a duration such as 30s or 1h", "never"),
            _W,
            *_CLUSTER,
        ),
        positionals=("key", "value"),
        required=("key", "value"),
        aliases=("set",),
    ),
    Subcommand(
        "get",
        "Print a key's value, byte for byte. Exit code 1: there is none.",
        "data",
        (_KEY, _R, *_CLUSTER),
        positionals=("key",),
        required=("key",),
    ),
    Subcommand(
        "delete",
        "Delete a key, whether or not it is there.",
        "data",
        (_KEY, _W, *_CLUSTER),
        positionals=("key",),
        required=("key",),
        aliases=("del",),
    ),
    Subcommand(
        "keys",
        "List keys.",
        "cluster",
        (
            Flag("prefix", "only keys that begin with it", "all"),
            Flag("limit", "stop after so many", "none"),
            _R,
            *_CLUSTER,
        ),
        positionals=("prefix",),
        notes="One on a line. Where the output is no terminal, what would break a line is escaped"
        " (\\n, \\r, \\t, \\0033), and a backslash doubled: `printf %b` gives the key back. --json"
        " has the bytes of every key.",
    ),
    Subcommand("nodes", "List the members as one node sees them.", "cluster", _CLUSTER),
    Subcommand(
        "forget",
        "Have every node forget a member that holds no copies and is gone for good.",
        "cluster",
        (Flag("url", "the member"), *_CLUSTER),
        positionals=("url",),
        required=("url",),
    ),
    Subcommand("status", "Say whether each node is ready.", "cluster", _CLUSTER),
    Subcommand(
        "ring",
        "Show where a key belongs, or each node's share of all keys.",
        "cluster",
        (Flag("key", "the key", "all"), *_CLUSTER),
        positionals=("key",),
    ),
    Subcommand(
        "explain",
        "Show what each replica of a key holds.",
        "cluster",
        (_KEY, *_CLUSTER),
        positionals=("key",),
        required=("key",),
    ),
    Subcommand(
        "bench",
        "Measure a running cluster, or any Redis server: requests per second and latency.",
        "bench",
        (
            Flag(
                "target",
                "URLs to load evenly, by commas; or compare, with two results",
                DEFAULT_NODE,
            ),
            Flag("before", "with compare: files that --json printed, by commas"),
            Flag("after", "with compare: files to compare them with, by commas"),
            Flag("protocol", "resp or http", "resp"),
            Flag(
                "scenario",
                "a load with a name, which other flags may change: write-heavy, read-heavy, cold,"
                " many-keys, large-64k, large-1m, ycsb-a, ycsb-b, ycsb-c, ycsb-d, ycsb-f",
                "none",
            ),
            Flag("connections", "connections altogether", "64"),
            Flag("workers", "processes that send", "1"),
            Flag("pipeline", "requests under way on each connection", "1"),
            Flag("rate", "requests per second, such as 20k (open loop)", "as many as are answered"),
            Flag("keys", "distinct keys", "100000"),
            Flag("value-bytes", "size of a value", "64"),
            Flag("reads", "share of reads, 0 to 1", "0.5"),
            Flag("writes", "what else: update, insert, or modify (read, then write)", "update"),
            Flag("distribution", "which keys: uniform, zipfian, latest or once", "uniform"),
            Flag("route", "yes or no: ask each key at a node that holds it (CLUSTER SLOTS)", "no"),
            Flag("preload", "yes or no: write all keys first if any are read", "yes"),
            Flag("wait", "send WAIT with so many replicas after each SET (Redis)", "0"),
            Flag("W", "replicas that must hold a write (HTTP, or --dev)", "the cluster's", ("w",)),
            Flag("R", "replicas that must answer a read (HTTP, or --dev)", "the cluster's", ("r",)),
            Flag("duration", "how long to measure", "5s"),
            Flag("rounds", "how often to measure", "1"),
            Flag(
                "sweep",
                "measure at each of some points: connections=1,4,16 or rate=5k,10k or rate=auto",
            ),
            Flag("timeline", "tell what was answered in each slice of time, such as 100ms"),
            Flag("dev", "start so many nodes on this machine, and stop them in the end"),
            Flag("durability", "sync or os, with --dev", "sync"),
            Flag("churn", "what to do to the nodes of --dev meanwhile: kill, restart, pause"),
            Flag("csv", "a file for the figures, and the timeline"),
            Flag("plot", "an HTML file for pictures of latency and timeline"),
            _JSON,
        ),
        positionals=("target", "before", "after"),
        notes="It writes keys that begin with `quorate-bench:`, and leaves them in the store.\n\n"
        "`quorate bench compare a.json b.json` says how the figures differ, and how sure that is.",
    ),
    Subcommand(
        "sim",
        "Run clusters in virtual time under faults drawn from seeds, and check every promise.",
        "sim",
        (
            Flag("seeds", "how many worlds to run", "100"),
            Flag("first-seed", "the first of their seeds", "0"),
            Flag("seed", "run this one alone"),
            Flag("plan", "run the plan in a file that --shrink wrote"),
            Flag("trace", "print all that happens in one world, a line for each event"),
            Flag("shrink", "look for the smallest plan that still fails, and write it to a file"),
            Flag("out", "the file that --shrink writes", "seedN.json"),
            Flag("nodes", "nodes in a world", "1 to 7, as the seed draws"),
            Flag("replication", "copies of each key", "1 to 7, as the seed draws"),
            Flag("W", "replicas that must hold a write", "mostly the majority", ("w",)),
            Flag("R", "replicas that must answer a read", "mostly the majority", ("r",)),
            Flag("operations", "requests of all clients of a world", "200"),
            Flag("clients", "clients of a world", "3 to 8, as the seed draws"),
            Flag("faults", "faults that a seed may draw, by commas; or none", "all"),
            Flag("jobs", "processes that run worlds", "one for each core"),
            _JSON,
        ),
        notes="Each seed draws its own few of the faults, and its own sizes and rates. A world that"
        " broke a promise is shown with the command that runs it again, step for step.\n\n"
        "Exit code 0: no violation; 1: violations; 130, 143: interrupted before there was one.\n\n"
        "Faults: kill, coordinator, echo, wipe, rollback, torn, pause, split, isolate, oneway,"
        " bridge, flap, crossed, hold, swizzle, reset, halfopen, loss, duplicate, reorder, late,"
        " damage, slow, thin, gray, stall, busy, full, rot, hintrot, syncfail, clockstep, drift,"
        " skew, hintoverflow, twin, stop, hang, reopen, noread, log, pieces, deaf, files.",
    ),
    Subcommand("version", "Print the version.", "serve", (_JSON,)),
)

BY_NAME: Final = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}
