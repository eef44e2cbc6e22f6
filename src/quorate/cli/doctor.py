# SPDX-License-Identifier: GPL-3.0-or-later
"""`quorate doctor`: who reaches whom at the address that is advertised, and what to open.

Each node is asked to try each other one (`GET /probe`), and this command tries each at the address
that is for clients. Nothing is believed of one node about two others.

What is no fault of the cluster's is told as a note. The node that is asked first tries its
candidates: who may be there is no node of the cluster. And each node tries the others where clients
reach them: behind NAT, or in a container, it need not come through, and a balancer greets nobody.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec

from quorate.bench.interpreter import interpreter
from quorate.cli.arguments import Given
from quorate.cli.asking import ask_all
from quorate.cli.connect import (
    WITHHELD,
    client_at,
    client_of,
    is_withheld,
    timeout_seconds,
    vouched_of,
)
from quorate.cli.output import LOGIN_ADVICE, print_json, print_table
from quorate.client.blocking import Client
from quorate.client.calls import Call, TlsFailed, Unreachable, read_json
from quorate.errors import PeerProtocolError, QuorateError, Unauthenticated
from quorate.notation import is_loopback, is_url, show_text, split_url
from quorate.wire.http import quote

HERE: Final = "this command"
PROBE_SECONDS: Final = 15.0
"""Longer than a node takes for all steps."""
CLIENT_SECONDS: Final = 3.0
AT_ONCE: Final = 16
_UNREACHED: Final = "it cannot be asked from here"
_LET_LONG_PASS: Final = (
    "let ICMP 'fragmentation needed' through, or lower the MTU of the interface (VPN, tunnel)"
)
_SLOW: Final = (
    " If so, look at its load. A TLS handshake fails like that where long packets are lost: "
    + _LET_LONG_PASS
)
CLOCK_MS_MAX: Final = 500
"""Two clocks that differ by more need a look: writes are refused from `-max-clock-skew` on."""


class Way(NamedTuple):
    """From one place to a node."""

    source: str
    """A node's URL, or `HERE`."""
    target: str
    """The node's own URL, whatever address was tried."""
    stage: str
    """The step that failed (`core.values.status.Probe`); `ask` where the source could not be
    asked; empty if all is well."""
    fault: str
    round_trip_ms: float | None = None
    clock_ms: float | None = None
    """How far the source's clock is ahead of this machine's, as near as can be told."""
    tried: str = ""
    """The URL that was tried, where it is not the node's own."""
    counts: bool = True
    """Whether it is a fault if it fails."""


class _Probed(msgspec.Struct):
    """What counts of a node's answer (`core.values.status.Probe`)."""

    stage: str
    fault: str
    round_trip_ms: float | None
    wall_ms: int


def run_doctor(given: Given) -> int:
    """Try every way; 3 if one that counts fails or a clock is off."""
    with client_of(given) as client:
        told = read_json(client.request(Call("GET", "/nodes"), timeout=timeout_seconds(given)))
        members, vouched = _members(told), vouched_of(told)
        found = _candidates(client)
        candidates = {url: why for url, why in found.items() if url not in members}
    urls = list(dict.fromkeys(members))
    places = [members[url] or url for url in urls]
    heard = ask_all(
        places,
        lambda at: _from_here(given, at, vouched),
        lambda at, fault: Way(HERE, at, "connect", fault),
    )
    ways = [
        way._replace(target=url, tried="" if at == url else at)
        for way, url, at in zip(heard, urls, places, strict=True)
    ]
    reached = {way.target: members[way.target] or way.target for way in ways if not way.stage}
    pairs = [(one, other) for one in urls for other in urls if one != other]
    steps = [(one, other, other) for one, other in pairs]
    steps += [(one, at, other) for one, other in pairs if (at := members[other]) not in ("", other)]
    steps += [(own, url, url) for own in _own_urls(told) for url in candidates]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = pool.map(
            lambda step: _between(given, *step, at=reached.get(step[0], ""), vouched=vouched), steps
        )
        # Who is in no cluster has nobody but those that it found.
        is_alone = not any(each.get("member", True) for each in told)
        ways += [_judged(way, candidates, is_alone=is_alone) for way in tried]
    return _tell(given, urls, ways)


def _tell(given: Given, urls: list[str], ways: list[Way]) -> int:
    """Print what was found of the nodes at these URLs, and beside them; the exit code."""
    counted = [way for way in ways if way.counts]
    failed = [way for way in counted if way.stage]
    advice = [advise(way, counted) for way in failed if way.stage != "ask"]
    advice += [*_unasked(counted), *_clocks(counted)]
    notes = _notes([way for way in ways if not way.counts and way.stage not in ("", "ask")])
    if "json" in given:
        shown = [way._asdict() for way in ways]
        told = {"ways": shown, "advice": advice, "notes": notes, "interpreter": interpreter()}
        print_json(told)
    else:
        _print_matrix(urls, counted)
        print("\n".join(map(show_text, [*(advice or ["all is well"]), *notes])))
        if "without" in (built := interpreter()):
            print(f"interpreter: {show_text(built)}")
    return 3 if advice or failed else 0


def _notes(failed: list[Way]) -> list[str]:
    """What came of ways that do not count: a line for each address and fault."""
    sources: dict[tuple[str, str, str], list[str]] = {}
    for way in failed:
        sources.setdefault((way.target, way.tried, way.fault), []).append(way.source)
    return [
        f"{target}: not reached at {tried}, which is for clients, from {', '.join(of)}: {fault}: no"
        " node needs that, but clients there do"
        if tried
        else f"no node of this cluster was found at {target}: {fault}"
        for (target, tried, fault), of in sources.items()
    ]


def _members(told: object) -> dict[str, str]:
    """Where clients reach each node (empty: at its URL), by its URL; without lost disks."""
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise PeerProtocolError("a list of nodes in an unknown form")
    found: dict[str, str] = {}
    for each in told:
        if not each.get("lost"):
            url, client = str(each.get("url")), str(each.get("client") or "")
            if not is_url(url) or (client and not is_url(client)):
                raise PeerProtocolError("a list of nodes in an unknown form")
            found.setdefault(url, client)
    return found


def _candidates(client: Client) -> dict[str, str]:
    """Where others may be by this node's word, and why no link leads there; none of an earlier
    release, which does not say it, nor of an answer that is none."""
    try:
        told = read_json(client.request(Call("GET", "/candidates")))
    except QuorateError:
        return {}
    listed = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    found = {str(each.get("url")): str(each.get("refusal") or "") for each in listed}
    return {url: refusal for url, refusal in found.items() if is_url(url)}


def _judged(way: Way, candidates: dict[str, str], *, is_alone: bool) -> Way:
    """A way between two nodes, and whether it counts."""
    if way.tried:
        if way.stage in ("greet", "tls"):
            # Something takes connections there, and is no node: clients may be served by it.
            way = way._replace(stage="", fault="")
        return way._replace(counts=False)
    refusal = candidates.get(way.target)
    if refusal is None:
        return way
    if refusal and not way.stage:
        # Two clusters of one name: no question of doctor's tells that.
        way = way._replace(stage="cluster", fault=refusal)
    return way._replace(counts=is_alone)


def _own_urls(told: list[dict[str, Any]]) -> list[str]:
    """The URL of the node that lists these; of one, or none if it does not say."""
    return [str(each["url"]) for each in told if each.get("state") == "self"]


def _from_here(given: Given, at: str, vouched: set[str]) -> Way:
    """From this command, at the address for clients."""
    begun = time.monotonic()
    try:
        with client_at(given, at, timeout=CLIENT_SECONDS, vouched=vouched) as client:
            client.request(Call("GET", "/healthz"))
    except TlsFailed as fault:
        return Way(HERE, at, "tls", str(fault))
    except (Unreachable, QuorateError) as fault:
        return Way(HERE, at, "connect", str(fault))
    return Way(HERE, at, "", "", round((time.monotonic() - begun) * 1000, 2))


def _between(
    given: Given, source: str, tried: str, target: str, *, at: str, vouched: set[str]
) -> Way:
    """From one node to the URL `tried` of another; `at` is where the first can be asked, empty if
    nowhere."""
    way = Way(source, target, "ask", _UNREACHED, tried="" if tried == target else tried)
    if not at:
        return way
    begun_ms = time.time() * 1000
    try:
        with client_at(given, at, timeout=PROBE_SECONDS, vouched=vouched) as client:
            told = read_json(client.request(Call("GET", f"/probe?url={quote(tried.encode())}")))
        done_ms = time.time() * 1000
        probe = msgspec.convert(told, _Probed)
        is_late = done_ms - begun_ms > CLOCK_MS_MAX
        ahead_ms = None if is_late else round(probe.wall_ms - done_ms, 1)
        return way._replace(
            stage=probe.stage,
            fault=probe.fault,
            round_trip_ms=probe.round_trip_ms,
            clock_ms=ahead_ms,
        )
    except Unauthenticated as fault:
        if is_withheld(given, at, vouched=vouched):
            return way._replace(fault=WITHHELD)
        return way._replace(fault=f"it does not say: {fault}; {LOGIN_ADVICE}")
    except (Unreachable, QuorateError, msgspec.ValidationError, OverflowError) as fault:
        return way._replace(fault=f"it does not say: {fault}")


def advise(way: Way, ways: list[Way]) -> str:
    """What is wrong with a way, and what to open or to change, in one line."""
    host, port = split_url(way.tried or way.target)
    flag = "-advertise-client" if way.tried else "-advertise"
    said = f"{way.source} -> {way.target}: {way.fault}: "
    match way.stage:
        case "tls":
            # Whoever shook hands knows what is wrong, and says with it what to change.
            return said.removesuffix(": ")
        case "resolve":
            return f"{said}make {host} known there (DNS, /etc/hosts), or {flag} an address"
        case "greet":
            is_slow = "in time" in way.fault
            return f"{said}is it a node that listens at {host}:{port}?{_SLOW if is_slow else ''}"
        case "cluster" if way.fault.startswith("no protocol"):
            return f"{said}releases that are not adjacent: upgrade the older by each one between"
        case "cluster":
            return f"{said}another cluster is at {host}:{port}: look at -cluster, and at {flag}"
        case "large":
            return said + _LET_LONG_PASS
    return said + _what_to_open(way, ways, host=host, port=port, flag=flag)


def _what_to_open(way: Way, ways: list[Way], *, host: str, port: int, flag: str) -> str:
    """Of a port that takes no connection."""
    reaching = [each.source for each in ways if each.target == way.target and not each.stage]
    if is_loopback(host) and way.source != HERE and not is_loopback(split_url(way.source)[0]):
        return f"{host} is another machine to each node: {flag} an address that others reach"
    hairpin = (
        "if both are behind one NAT, it has to lead back inside (hairpin), or -advertise the inner"
        " address and -advertise-client the outer one"
    )
    if "refused" in way.fault.lower():
        if reaching:
            # It listens. A NAT that does not lead back inside answers for itself.
            return (
                f"others reach it ({reaching[0]}): {hairpin}; else let a firewall on the way accept"
                f" TCP {port} from {way.source}, or look whether its -listen has {host}"
            )
        return (
            f"that machine answers and nothing listens on TCP {port} there: start the node, or"
            f" look at its -listen; in a container or behind NAT forward {port} to it"
        )
    if not reaching:
        return (
            f"nobody reaches it: start the node, open TCP {port} inwards in its firewall, forward"
            f" {port} to it where it is behind NAT, or {flag} the right address"
        )
    return (
        f"others reach it ({reaching[0]}): open TCP {port} from {way.source} to {host} in the"
        f" firewalls between; {hairpin}"
    )


def _unasked(ways: list[Way]) -> list[str]:
    """A line for each reason why nodes that are reached do not say whom they reach."""
    silent: dict[str, dict[str, None]] = {}
    for way in ways:
        if way.stage == "ask" and way.fault != _UNREACHED:
            silent.setdefault(way.fault, {})[way.source] = None
    return [f"not asked whom they reach: {', '.join(of)}: {fault}" for fault, of in silent.items()]


def _clocks(ways: list[Way]) -> list[str]:
    """A line for each node whose clock is far from what most have."""
    ahead: dict[str, float] = {}
    for way in ways:
        if way.clock_ms is not None and abs(way.clock_ms) < abs(ahead.get(way.source, 1e18)):
            ahead[way.source] = way.clock_ms
    if not ahead:
        return []
    usual = sorted(ahead.values())[len(ahead) // 2]
    return [
        f"{url}: its clock is {abs(ms - usual):.0f} ms {'ahead of' if ms > usual else 'behind'} the"
        " others': keep it by NTP"
        for url, ms in ahead.items()
        if abs(ms - usual) > CLOCK_MS_MAX
    ]


def _print_matrix(urls: list[str], ways: list[Way]) -> None:
    numbers = {url: number for number, url in enumerate(urls, 1)}
    cells: dict[tuple[str, str], str] = {(way.source, way.target): _cell(way) for way in ways}
    rows: list[list[Any]] = []
    for source in (HERE, *urls):
        name = f"{numbers[source]} {source}" if source in numbers else source
        rows.append([name, *(cells.get((source, url), "-") for url in urls)])
    print_table(["from / to", *(str(numbers[url]) for url in urls)], rows)


def _cell(way: Way) -> str:
    if way.stage:
        return "not asked" if way.stage == "ask" else f"x {way.stage}"
    return "ok" if way.round_trip_ms is None else f"ok {way.round_trip_ms:.1f} ms"
