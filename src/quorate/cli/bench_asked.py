# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to what `quorate bench` is to measure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from quorate.bench.plan import SCENARIOS, LoadPlan, with_scenario
from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import DEV_NODES_MAX, node_urls, parsed, whole_number
from quorate.client.access import context_of
from quorate.config import VALUE_BYTES_MOST
from quorate.notation import nearest, parse_duration, parse_size, split_url

FAULTS: Final = ("kill", "restart", "pause")
_DEV_FLAGS: Final = ("churn", "durability")
_COUNTS: Final = ("connections", "workers", "pipeline")
_KEYS_MAX: Final = 10**9
_REPLICAS_MAX: Final = 9
_CHOICES: Final = {
    "protocol": ("resp", "http"),
    "writes": ("update", "insert", "modify"),
    "distribution": ("uniform", "zipfian", "latest", "once"),
    "durability": ("sync", "os"),
    "preload": ("yes", "no"),
    "route": ("yes", "no"),
}
_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([km]?)", re.IGNORECASE)
_TIMES: Final = {"": 1, "k": 1000, "m": 1_000_000}


class SweepAsked(NamedTuple):
    """`--sweep`: what is varied, and its values in order."""

    of: Literal["connections", "rate"]
    values: list[float]
    """Empty for `rate=auto`: the sweep finds them."""


class BenchAsked(NamedTuple):
    """What a command line asks to measure. (`bench compare` measures nothing.)"""

    plan: LoadPlan
    """Without targets if `dev`: they are known once the nodes are started."""
    rounds: int
    sweep: SweepAsked | None
    dev: int
    """Nodes to start on this machine; 0: the targets are running."""
    serve: list[str]
    """More flags for the nodes to start."""
    churn: tuple[str, ...]
    csv: Path | None
    plot: Path | None


def asked_of(given: Given) -> BenchAsked:
    """Everything that was asked for; UsageError for what makes no sense."""
    dev = _dev(given)
    plan = _plan(given, dev)
    sweep = _sweep(given)
    if sweep is not None and sweep.of in given:
        raise UsageError(f"--sweep goes through {sweep.of}: leave --{sweep.of} out")
    serve = [f"--{name}={given[name]}" for name in ("durability", "W", "R") if name in given]
    return BenchAsked(
        plan=plan,
        rounds=whole_number(given, "rounds", low=1) or 1,
        sweep=sweep,
        dev=dev,
        serve=serve,
        churn=tuple(
            _one_of("churn", part.strip(), FAULTS)
            for part in given.get("churn", "").split(",")
            if part.strip()
        ),
        csv=_path(given, "csv"),
        plot=_path(given, "plot"),
    )


def _plan(given: Given, dev: int) -> LoadPlan:
    urls = [] if dev else node_urls(given, is_tls="ca" in given)
    plan = LoadPlan(targets=tuple(split_url(url) for url in urls), **_tls(given, urls))
    if "scenario" in given:
        plan = with_scenario(plan, _one_of("scenario", given["scenario"], SCENARIOS))
    plan = msgspec.structs.replace(plan, **_numbers(given), **_choices(given))
    if plan.protocol == "http" and plan.wait:
        raise UsageError("--wait: only Redis has WAIT: use it with --protocol=resp")
    if plan.protocol == "resp" and not dev and (plan.w or plan.r):
        name = "W" if plan.w else "R"
        raise UsageError(
            f"--{name}: the Redis protocol cannot ask for it: use --protocol=http, or start the"
            f" nodes with --{name}"
        )
    if plan.route and plan.tls:
        raise UsageError("--route: who holds which key is asked without TLS alone")
    if plan.route and plan.writes == "insert":
        raise UsageError("--route: new keys are written wherever a connection leads")
    if plan.workers > plan.connections:
        raise UsageError(f"--workers: there are only {plan.connections} connections for them")
    return plan


def _tls(given: Given, urls: list[str]) -> dict[str, Any]:
    """The plan's fields that say whether there is TLS."""
    plain = [url for url in urls if not url.startswith("https:")]
    if ("ca" in given or len(plain) < len(urls)) and (plain or not urls):
        name = plain[0] if plain else "--dev"
        raise UsageError(f"--target: {name} is without TLS: write https:// for all or for none")
    if plain or not urls:
        return {}
    try:
        context_of(ca=given.get("ca"))
    except ValueError as fault:
        raise UsageError(f"--ca: {fault}") from None
    return {"tls": True, "ca": given.get("ca", "")}


def _numbers(given: Given) -> dict[str, Any]:
    """The plan's fields that flags set to a number."""
    found: dict[str, Any] = {
        "wait": whole_number(given, "wait", low=0),
        "w": whole_number(given, "W", low=1, high=_REPLICAS_MAX),
        "r": whole_number(given, "R", low=1, high=_REPLICAS_MAX),
        "keys": whole_number(given, "keys", low=1, high=_KEYS_MAX),
        "value_bytes": parsed(given, "value-bytes", _value_bytes),
        "reads": parsed(given, "reads", _share),
        "rate": parsed(given, "rate", parse_rate),
        "seconds": parsed(given, "duration", lambda text: _span_ms(text, 1, 3_600_000) / 1000),
        "timeline_ms": parsed(given, "timeline", lambda text: _span_ms(text, 10, 60_000)),
        **{name: whole_number(given, name, low=1) for name in _COUNTS},
    }
    return {name: value for name, value in found.items() if value is not None}


def _choices(given: Given) -> dict[str, Any]:
    """The plan's fields that flags set to a word."""
    chosen = {
        name: _one_of(name, given[name], words) for name, words in _CHOICES.items() if name in given
    }
    chosen.pop("durability", None)
    found: dict[str, Any] = dict(chosen)
    for name in {"preload", "route"} & found.keys():
        found[name] = found[name] == "yes"
    return found


def _one_of(name: str, text: str, words: Iterable[str]) -> str:
    words = list(words)
    if text in words:
        return text
    if len(words) == 2:
        raise UsageError(f"--{name}: {text!r} is neither {words[0]} nor {words[1]}")
    hint = nearest(text, words) or ";"
    raise UsageError(f"--{name}: {text!r} is unknown{hint} there are: {', '.join(words)}")


def _span_ms(text: str, low: int, high: int) -> int:
    duration_ms = parse_duration(text)
    if not low <= duration_ms <= high:
        raise ValueError(f"from {low}ms to {high // 60_000}m")
    return duration_ms


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share from 0 to 1: write 0.5 for half")
    return share


def _value_bytes(text: str) -> int:
    if parse_size(text) > VALUE_BYTES_MOST:
        raise ValueError(f"{text} is too large: the most is {VALUE_BYTES_MOST >> 20}MiB")
    return parse_size(text)


def parse_rate(text: str) -> float:
    """Requests per second: `2500`, `20k`, `1.5M`."""
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) * _TIMES[match[2].lower()] if match else 0.0
    if rate <= 0:
        raise ValueError(f"{text!r} is no rate: write for example 2500 or 20k")
    return rate


def _sweep(given: Given) -> SweepAsked | None:
    if "sweep" not in given:
        return None
    of, _, text = given["sweep"].partition("=")
    if of == "rate" and text == "auto":
        return SweepAsked("rate", [])
    parts = [part for part in text.split(",") if part.strip()]
    if of not in ("connections", "rate") or not parts:
        raise UsageError(
            f"--sweep: {given['sweep']!r}: write for example connections=1,4,16, rate=5k,10k or"
            " rate=auto"
        )
    if of == "rate":
        rates = [parsed({"sweep": part}, "sweep", parse_rate) for part in parts]
        return SweepAsked("rate", [rate or 0.0 for rate in rates])
    numbers = [whole_number({"sweep": part.strip()}, "sweep", low=1) for part in parts]
    return SweepAsked("connections", [float(number or 0) for number in numbers])


def _dev(given: Given) -> int:
    """How many nodes to start."""
    count = whole_number(given, "dev", low=1, high=DEV_NODES_MAX)
    if count is None:
        for name in _DEV_FLAGS:
            if name in given:
                raise UsageError(f"--{name}: only for nodes that bench starts: add --dev=3")
        return 0
    if "target" in given:
        raise UsageError(f"--dev starts the nodes: leave the target {given['target']!r} out")
    return count


def _path(given: Given, name: str) -> Path | None:
    """A file to write, which must have a directory: better now than after the run."""
    if name not in given:
        return None
    path = Path(given[name])
    if not path.parent.is_dir():
        raise UsageError(f"--{name}: there is no directory {path.parent}")
    return path
