# SPDX-License-Identifier: GPL-3.0-or-later
"""How people write durations, sizes and nodes' addresses, for the settings and the client alike.

Pure, and cheap to import: `quorate get` pays for it. ValueError always says what to write instead.
"""

from __future__ import annotations

import re
from typing import Final

_DURATION_MS: Final = {
    "ns": 1e-6,
    "us": 1e-3,
    "ms": 1.0,
    "s": 1e3,
    "m": 6e4,
    "h": 3.6e6,
}
_DURATION_PART: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?)(ns|us|ms|s|m|h)")
_DURATION: Final = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) *(?:([kmgt]?)(i?)b)?", re.IGNORECASE)
_URL: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)"
    r"(?::(?P<port>[0-9]{1,5}))?/*",
)


def parse_duration(text: str) -> int:
    """Milliseconds of a duration as Go writes it: `500ms`, `2s`, `1m30s`, `1.5h`."""
    if re.fullmatch(r"[0-9.]+", text):
        raise ValueError(f"{text} has no unit: write {text}s or {text}ms")
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write for example 500ms, 2s or 1m30s")
    total = sum(float(part[1]) * _DURATION_MS[part[2]] for part in _DURATION_PART.finditer(text))
    if 0 < total < 1:
        raise ValueError(f"{text} is shorter than the smallest step, 1ms")
    return bounded(round(total), text, low=0, high=366 * 86_400_000)


def parse_size(text: str) -> int:
    """Bytes of a size: `65536`, `8MB` (millions), `64MiB` (powers of 1024)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size: write bytes, or for example 8MB or 64MiB")
    number, prefix, binary = match[1], (match[2] or "").lower(), match[3]
    scale = (1024 if binary else 1000) ** " kmgt".index(prefix or " ")
    return bounded(round(float(number) * scale), text, low=0, high=1 << 50)


def parse_url(text: str) -> str:
    """A node's URL in its one normal form, `http://host:port`; `host:port` alone is taken too."""
    match = _URL.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no node's URL: write http://host:port")
    scheme, host, port = match["scheme"], match["host"], match["port"]
    if scheme not in (None, "http"):
        raise ValueError(f"{text!r}: only http is spoken here: write http://host:port")
    if port is None and scheme is None:
        raise ValueError(f"{text!r} has no port: write http://{host}:8000")
    return f"http://{_host(host, text)}:{bounded(int(port or 80), text, low=1, high=65535)}"


def _host(host: str, text: str) -> str:
    """`host` with an IP address in its shortest form; refuses what nobody can connect to."""
    if not host.startswith("[") and not re.fullmatch(r"[0-9.]+", host):
        return host
    import ipaddress  # Late: most hosts are names.

    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError(f"{text!r} holds no valid IP address") from None
    if address.is_unspecified:
        raise ValueError(f"{text!r}: others cannot connect to {address}: name one address")
    return f"[{address}]" if address.version == 6 else str(address)


def bounded(value: int, text: str, *, low: int, high: int) -> int:
    """`value`, or ValueError naming the limit that `text` breaks; both limits are allowed."""
    if value < low:
        raise ValueError(f"{text} is too small: the least is {low}")
    if value > high:
        raise ValueError(f"{text} is too large: the most is {high}")
    return value
