# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of all commands. `serve` takes the settings of `quorate.config` besides."""

from __future__ import annotations

from typing import Final

from quorate.cli.arguments import Flag, Subcommand
from quorate.client.trial import DEFAULT_NODE, TIMEOUT_SECONDS

_JSON: Final = Flag("json", "print JSON")
_CA: Final = Flag("ca", "file with the CA by which nodes at https:// are known", "the system's")
_NODES: Final = (
    Flag("target", "the one node to ask", "any of --nodes"),
    Flag("nodes", "URLs of nodes, by commas: the first that answers", DEFAULT_NODE),
    _CA,
    Flag("cert", "file with a certificate to show to nodes, and its key"),
    Flag("cert-key", "file with that key", "in --cert"),
    Flag("secret-file", "file with the cluster's secret, to be let in and know nodes by"),
    Flag("cluster", "with the secret: the cluster's name", "quorate"),
    Flag("user", "who logs in; without --password-file it asks for the password"),
    Flag("password-file", "file with the user's password"),
    Flag("token-file", "file with a token, instead of a user and a password"),
)
_CLUSTER: Final = (
    *_NODES,
    Flag("timeout", "how long it may take, such as 500ms or 2s", f"{TIMEOUT_SECONDS:g}s"),
    _JSON,
)
_NAMED: Final = "its URL, or its id of 12 digits"
_FORCE: Final = Flag(
    "force", "though fewer nodes than copies or fewer zones are left, or who leaves is not there"
)
_KEY: Final = Flag("key", "the key, any bytes")
_W: Final = Flag("W", "replicas that must hold the write", "the cluster's", ("w",))
_IF_VERSION: Final = Flag("if-version", "only if that version is there: see get --json")
_ARCHIVE: Final = Flag("archive", "the archive, a file")
_RATE: Final = Flag("rate", "keys per second at most, such as 500 or 2k", "as many as come")
_R: Final = Flag("R", "replicas that must answer", "the cluster's", ("r",))

COMMANDS: Final = (
    Subcommand(
        "dev",
        "Start three nodes on this machine, show a put and a get, run until Ctrl-C.",
        "dev",
        (
            Flag("once", "stop after the demonstration"),
            Flag("grow", "show one node more joining, and another one leaving"),
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
            _IF_VERSION,
            Flag("if-absent", "only where there is no value"),
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
        (_KEY, _IF_VERSION, _W, *_CLUSTER),
        positionals=("key",),
        required=("key",),
        aliases=("del",),
    ),
    Subcommand(
        "incr",
        "Add to a counter, and print what it comes to.",
        "data",
        (_KEY, Flag("by", "what to add, such as -5", "1"), *_CLUSTER),
        positionals=("key", "by"),
        required=("key",),
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
    Subcommand(
        "backup",
        "Write all keys into an archive, a file; again, with the same file, goes on.",
        "backup",
        (
            _ARCHIVE,
            Flag("prefix", "only keys that begin with it", "all"),
            _RATE,
            _R,
            *_NODES,
            _JSON,
        ),
        positionals=("archive",),
        required=("archive",),
        notes="Each key is in it as it was at some time between begin and end, with its time of"
        " expiry; a key that was there throughout is in it.",
    ),
    Subcommand(
        "restore",
        "Write the keys of an archive into a cluster, of whatever size.",
        "restore",
        (
            _ARCHIVE,
            Flag("dry-run", "check the archive, say what would be written, and write nothing"),
            Flag("prefix", "only keys that begin with it", "all"),
            Flag("existing", "a key that the cluster has: keep it, or replace it", "keep"),
            _RATE,
            _W,
            *_NODES,
            _JSON,
        ),
        positionals=("archive",),
        required=("archive",),
        notes="The whole archive is checked before anything is written. Exit code 3: some keys"
        " could not be written. After an interruption begin again: it does no harm.",
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
    Subcommand(
        "join",
        "Make a running node a member; copies move to it by themselves.",
        "changing",
        (Flag("url", "the node"), *_CLUSTER),
        positionals=("url",),
        required=("url",),
    ),
    Subcommand(
        "leave",
        "Have a member give its copies to the others, and then be a member no more.",
        "changing",
        (Flag("node", _NAMED), _FORCE, *_CLUSTER),
        positionals=("node",),
        required=("node",),
        notes="Its copies are moved from it, so it has to be up. One that is not there is let go"
        " with --force alone: its disk counts as lost then, and what only it had is gone.",
    ),
    Subcommand(
        "replace",
        "Have a node that holds no copies take the place of a member.",
        "changing",
        (
            Flag("old", f"who goes: {_NAMED}"),
            Flag("new", f"who takes its place: {_NAMED}"),
            *_CLUSTER,
        ),
        positionals=("old", "new"),
        required=("old", "new"),
        notes="A member that is not there when this is asked counts as lost: nothing of it is"
        " waited for, and should it come back, its copies do not count.",
    ),
    Subcommand(
        "plan",
        "Show what changes of the members would come to; changes nothing.",
        "changing",
        (
            Flag("leave", "who goes, by commas"),
            Flag("replace", "who takes whose place: OLD=NEW, by commas"),
            Flag("weight", "shares of the copies: NODE=2, by commas"),
            Flag("zone", "where nodes are: NODE=b, by commas"),
            Flag("replication", "copies of each key", "as it is"),
            _FORCE,
            *_CLUSTER,
        ),
        notes="Nodes are named by their URL, or their id of 12 digits. Without any of these it"
        " shows what the cluster comes to as it is.",
    ),
    Subcommand(
        "apply",
        "Do what a plan showed; refused if the cluster has changed since.",
        "changing",
        (Flag("hash", "the plan's name, as quorate plan printed it"), *_CLUSTER),
        positionals=("hash",),
        required=("hash",),
        notes="Ask the node that showed it: each keeps the last 16 plans that it showed.",
    ),
    Subcommand(
        "cancel",
        "Move no more copies: every one stays where it is, until another change.",
        "changing",
        _CLUSTER,
    ),
    Subcommand(
        "recover",
        "Go on without members whose disks are lost, where too few are left to decide it.",
        "changing",
        (
            Flag("lost", "who is given up, by commas"),
            Flag("yes", "do not ask: it is meant"),
            *_CLUSTER,
        ),
        positionals=("lost",),
        required=("lost",),
        notes="For a cluster that has lost a majority of the members that vote, and for nothing"
        " else: nobody is asked. What only those given up had is gone; should one of them live,"
        " there are two clusters. Shows what it comes to, and wants the word `recover` typed.",
    ),
    Subcommand(
        "topology",
        "Show each member's share of the copies, what moves, and what waits and why.",
        "changing",
        _CLUSTER,
    ),
    Subcommand(
        "upgrade",
        "Show which releases the nodes are of; `upgrade finish` puts in force what all know.",
        "changing",
        (Flag("step", "finish, once every node is of the new release", "show"), *_CLUSTER),
        positionals=("step",),
        notes="Until it is finished a node can go back to the release before; then never again.",
    ),
    Subcommand("status", "Say whether each node is ready.", "cluster", _CLUSTER),
    Subcommand(
        "doctor",
        "Try every way between the nodes, and from here to each, and say what to open.",
        "doctor",
        _CLUSTER,
        positionals=("target",),
        notes="Each node is asked to reach each other one at its advertised address: does the name"
        " resolve, is the port open, do the two trust each other (TLS, the secret), is it the"
        " same cluster, does a long message pass, do the clocks agree. Ends with 0 if all is"
        " well, with 3 if anything is not.",
    ),
    Subcommand(
        "check",
        "Have each node go through all that it holds, and compare it with its digests.",
        "cluster",
        _CLUSTER,
        notes="Reads the whole disk, slowly; clients are served meanwhile. What differs is counted"
        " anew, and brought together with the other replicas as usual. It begins where none is"
        " under way, and goes on without this command. Ends with 1 if anything was found.",
    ),
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
            _CA,
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
        " skew, hintoverflow, twin, stop, hang, reopen, noread, log, pieces, deaf, files,"
        " join, leave, replace, bury, weight, zone, copies, cancel, apply, behind, gainer, recall,"
        " handover, ruin, upgrade.",
    ),
    Subcommand(
        "secret",
        "Make the secret that is to make some nodes one cluster: quorate secret new [FILE].",
        "secret",
        (Flag("act", "new"), Flag("file", "a file for it, of which there is none yet"), _JSON),
        positionals=("act", "file"),
        required=("act",),
        notes="Printed, or written to a file that only its owner can read. Every node of a cluster"
        " is given the same, by serve's -secret-file or QUORATE_SECRET.",
    ),
    Subcommand(
        "user",
        "Write the file of users who may log in: add, passwd, list, remove, check.",
        "users",
        (
            Flag("act", "add, passwd, list, remove or check"),
            Flag("file", "the users file, as -users of a node names it"),
            Flag("name", "the user, of add, passwd and remove"),
            Flag("roles", "of add: what the user may, of read,write,admin,peer, or none"),
            Flag("keys", "of add: patterns of the keys, by commas, such as app:*", "all keys"),
            Flag("from", "of add: addresses and networks, by commas", "everywhere"),
            Flag("certificate", "of add: a name in a client's certificate that is this user"),
            Flag("no-password", "of add: log in by certificate or token alone"),
            _JSON,
        ),
        positionals=("act", "file", "name"),
        required=("act", "file"),
        notes="The password is asked for at the terminal, or is the first line of standard input."
        " Nodes read the file again when it changes.",
    ),
    Subcommand(
        "token",
        "Print a token: new, for which a joining node is given the cluster's secret; issue, which"
        " stands for a user.",
        "tokens",
        (
            Flag("act", "new or issue"),
            Flag("ttl", "how long it is good, such as 30m or 8h", remedy="write --ttl=8h"),
            Flag("uses", "of new: how many nodes it lets in", "1"),
            Flag("users", "of issue: the users file, whose key signs it; --user is whose it is"),
            *_CLUSTER,
        ),
        positionals=("act",),
        required=("act", "ttl"),
        notes="Write a join token into a file that only its owner can read, and start the new node"
        " with -join=URL -token-file=FILE.\n\nA user's token is shown as `Authorization: Bearer` by"
        " programs. It ends before its time when its user is removed, or the file gets another"
        " token-key.",
    ),
    Subcommand("version", "Print the version.", "serve", (_JSON,)),
)

BY_NAME: Final = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}
