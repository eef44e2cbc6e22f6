# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was given to the settings of a node: defaults < TOML file < environment (`QUORATE_` +
name) < flags. Each is parsed once, and all faults are reported together.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from quorate.config import AUTO, SETTINGS, VARIABLE_PREFIX, Config, ConfigError
from quorate.files import read_file
from quorate.notation import nearest, split_url

_BY_NAME: Final = {name: each for each in SETTINGS for name in (each.name, *each.aliases)}
_BY_VARIABLE: Final = {each.variable: each for each in SETTINGS}
SECRET_VARIABLE: Final = "QUORATE_SECRET"
"""Has the cluster's secret itself, as a flag never does: `ps` shows those."""
_FILE_BYTES_MAX: Final = 1 << 20
_ELSEWHERE: Final = frozenset(
    {
        "QUORATE_CA",
        "QUORATE_CERT",
        "QUORATE_CERT_KEY",
        "QUORATE_COMPILE",
        "QUORATE_PASSWORD",
        "QUORATE_TARGET",
        "QUORATE_TOKEN",
        "QUORATE_USER",
        SECRET_VARIABLE,
    }
)
"""Ours, and no setting of a node: of the command line, of `hatch_build`, and the secret."""
_SERVICE_LINK: Final = re.compile(
    r"QUORATE_(?:\w+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)\w*)?)"
)
"""What Kubernetes sets in each pod for each Service whose name begins with `quorate`. Of one that
is called just that, QUORATE_PORT is `tcp://10.96.0.12:8000`."""


class _GivenText(NamedTuple):
    """What was written for a setting, and where, for the fault that names it."""

    text: str
    source: str


def load(*, flags: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Config:
    """The valid settings of a node.

    Raises ConfigError with every fault there is. Empty variables count as not set.
    """
    faults: list[str] = []
    given: dict[str, _GivenText] = {}
    given.update(_of_file(file, faults))
    given.update(_of_environment(environment, faults))
    given.update(_of_flags(flags, faults))
    values = _parsed(given, faults)
    _reconcile(values, given, faults)
    _reconcile_joining(values, given, environment, faults)
    _reconcile_tls(values, given, has_secret=bool(environment.get(SECRET_VARIABLE)), faults=faults)
    if faults:
        raise ConfigError(faults)
    return msgspec.convert(values, Config)


def file_of(*, flags: Mapping[str, str], environment: Mapping[str, str]) -> Path | None:
    """The TOML file that the flags or the environment name, if any."""
    name = flags.get("config") or environment.get("QUORATE_CONFIG")
    return Path(name) if name else None


def _of_flags(flags: Mapping[str, str], faults: list[str]) -> dict[str, _GivenText]:
    found: dict[str, _GivenText] = {}
    for name, text in flags.items():
        setting = _BY_NAME.get(name)
        if setting is None:
            # Perhaps as it was typed, with its dashes.
            bare = name.lstrip("-")
            dashes = name[: len(name) - len(bare)] or "-"
            hint = nearest(bare, _BY_NAME, dashes=dashes)
            faults.append(f"{dashes}{bare}: no such flag{hint}")
        elif setting.field:
            found[setting.field] = _GivenText(text, f"-{name}")
    return found


def _of_environment(environment: Mapping[str, str], faults: list[str]) -> dict[str, _GivenText]:
    found: dict[str, _GivenText] = {}
    unused = ignored(environment).keys() | _ELSEWHERE
    for variable, text in environment.items():
        if not text or not variable.startswith(VARIABLE_PREFIX) or variable in unused:
            continue
        setting = _BY_VARIABLE.get(variable)
        if setting is None:
            faults.append(f"{variable}: no such setting{_near_variable(variable)}")
        elif setting.field:
            found[setting.field] = _GivenText(text, variable)
    return found


def ignored(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that are named as ours and mean nothing to `load`, each with the reason. One that
    is nearly a setting's is none of these: it is mistyped, which is a fault."""
    reasons: dict[str, str] = {}
    for variable, text in environment.items():
        if not text or not variable.startswith(VARIABLE_PREFIX) or variable in _ELSEWHERE:
            continue
        if _SERVICE_LINK.fullmatch(variable) and (
            variable != "QUORATE_PORT" or text.startswith(("tcp://", "udp://", "sctp://"))
        ):
            reasons[variable] = "set by Kubernetes for a Service"
        elif variable not in _BY_VARIABLE and not _near_variable(variable):
            reasons[variable] = "no such setting"
    return reasons


def _near_variable(variable: str) -> str:
    names = [each.removeprefix(VARIABLE_PREFIX) for each in _BY_VARIABLE]
    return nearest(variable.removeprefix(VARIABLE_PREFIX), names, dashes=VARIABLE_PREFIX)


def _of_file(file: Path | None, faults: list[str]) -> dict[str, _GivenText]:
    if file is None:
        return {}
    try:
        data, _ = read_file(file, bytes_max=_FILE_BYTES_MAX)
        table = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        faults.append(f"-config {file}: it is nested too deeply")
        return {}
    except (OSError, ValueError) as fault:
        faults.append(f"-config {file}: {getattr(fault, 'strerror', None) or fault}")
        return {}
    found: dict[str, _GivenText] = {}
    for name, value in table.items():
        setting, text = _BY_NAME.get(name), _toml_text(value)
        if setting is None or not setting.field:
            faults.append(f"{file}: {name}: no such setting{nearest(name, _BY_NAME)}")
        elif text is None:
            faults.append(f"{file}: {name}: write a string, a whole number, true or false")
        else:
            found[setting.field] = _GivenText(text, f"{file}: {name}")
    return found


def _toml_text(value: object) -> str | None:
    """A TOML value as the text that a flag would have; None if no flag could mean it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case list() if all(isinstance(item, str) for item in value):
            return ",".join(value)
    return None


def _parsed(given: Mapping[str, _GivenText], faults: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for setting in SETTINGS:
        if setting.field not in given:
            continue
        text, source = given[setting.field]
        try:
            values[setting.field] = setting.parse(text)
        except ValueError as fault:
            faults.append(f"{source}: {fault}")
    return values


def _reconcile(
    values: dict[str, object], given: Mapping[str, _GivenText], faults: list[str]
) -> None:
    """Check the settings against each other; `port` follows `listen` where only that is given, and
    who names a STUN server wants to be told its address."""
    copies = values.get("replication", None if "replication" in given else Config().replication)
    for name in ("w", "r"):
        asked = values.get(name)
        if isinstance(asked, int) and isinstance(copies, int) and asked > copies:
            faults.append(
                f"{given[name].source}: {asked} replicas can never answer where each key has"
                f" {copies}: lower it, or raise -replication"
            )
    if values.get("stun") and values.setdefault("advertise", AUTO) != AUTO:
        faults.append(
            f"{given['stun'].source}: -advertise={values['advertise']} leaves nothing to ask: give"
            " one of the two"
        )
    if values.get("expect") and (values.get("nodes") or not values.get("discover")):
        advice = "give -discover too"
        if values.get("nodes"):
            advice = f"{given['nodes'].source} says who founds: give one"
        faults.append(f"{given['expect'].source}: it is for nodes that find each other: {advice}")
    if "listen" in values:
        _, port = split_url(str(values["listen"]))
        if values.setdefault("port", port) != port:
            faults.append(
                f"{given['listen'].source}: port {port} is not -port {values['port']}: give one"
            )


def _reconcile_joining(
    values: dict[str, object],
    given: Mapping[str, _GivenText],
    environment: Mapping[str, str],
    faults: list[str],
) -> None:
    """Check what is said of joining a cluster; `nodes` is whom it is joined by."""
    has = {name for name, value in values.items() if value}
    if "join" in has and "nodes" in has:
        nodes = given["nodes"].source
        faults.append(f"-join: {nodes} is the list that founds a cluster: give one of the two")
    if "token_file" in has:
        if "join" not in has:
            faults.append("-token-file: it needs -join, a node of the cluster that gave the token")
        if "secret_file" in has or environment.get(SECRET_VARIABLE):
            secret = given["secret_file"].source if "secret_file" in has else SECRET_VARIABLE
            faults.append(
                f"-token-file: a token is for who has no secret, and {secret} names one: give one"
                " of the two"
            )
        if values.get("engine") == "memory":
            faults.append("-token-file: -engine=memory has no directory to keep the secret in")
    values.setdefault("nodes", values.get("join", ()))


def _reconcile_tls(
    values: dict[str, object],
    given: Mapping[str, _GivenText],
    *,
    has_secret: bool,
    faults: list[str],
) -> None:
    """Check what is said of TLS: each line says what is missing."""
    has = {name for name, value in values.items() if value}
    # A flag goes before a variable; of two variables nobody can say which is meant.
    if has_secret and "secret_file" in has and not given["secret_file"].source.startswith("-"):
        source = given["secret_file"].source
        faults.append(f"{source}: {SECRET_VARIABLE} has a secret too: give one of the two")
    has_secret = has_secret or "secret_file" in has
    if ("tls_cert" in has) != ("tls_key" in has):
        there, missing = ("cert", "key") if "tls_cert" in has else ("key", "cert")
        faults.append(f"-tls-{there}: it needs -tls-{missing}: the two belong together")
    if "peer_names" in has and "tls_ca" not in has:
        faults.append("-peer-names: it needs -tls-ca, the authority of those names")
    if has_secret:
        return
    if values.get("tls") in ("optional", "required") and "tls_cert" not in has:
        faults.append(f"-tls={values['tls']}: it needs -tls-cert and -tls-key, or a -secret-file")
    if "tls_ca" in has and not has >= {"peer_names", "tls_cert"}:
        faults.append(
            "-tls-ca: without a secret nodes are known by it: give -peer-names, -tls-cert and"
            " -tls-key too, or a -secret-file"
        )
