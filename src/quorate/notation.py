# SPDX-License-Identifier: GPL-3.0-or-later
"""How people write and read durations, sizes, bytes and nodes' addresses, everywhere alike.

Pure, and cheap to import: `quorate get` pays for it. ValueError always says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_DURATION_MS: Final = {
    "ns": 1e-6,
    "us": 1e-3,
    "ms": 1.0,
    "s": 1e3,
    "m": 6e4,
    "h": 3.6e6,
}
_DURATION_MS_MAX: Final = 366 * 86_400_000
_DURATION_PART: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?)(ns|us|ms|s|m|h)")
_DURATION: Final = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) *(?:([kmgt]?)(i?)b)?", re.IGNORECASE)
URL_CHARS_MAX: Final = 300
"""A host name has at most 253."""
_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999."""
_WEB_PORTS: Final = (80, 443)
_SCHEMES: Final = {"http": 80, "https": 443}
"""What a client speaks, and where if no port is given."""
_PRIVILEGED_PORT_MAX: Final = 1023
_NEVER_MEANT: Final = frozenset({"insecure"})
"""What no mistake is answered with: it opens the node to everybody."""
_NODE_ID: Final = re.compile("[0-9a-f]{12}")
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
    if total > _DURATION_MS_MAX:
        raise ValueError(f"{text} is too large: the most is 8784h, a year")
    return round(total)


def parse_size(text: str) -> int:
    """Bytes of a size: `65536`, `8MB` (millions), `64MiB` (powers of 1024)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size: write bytes, or for example 8MB or 64MiB")
    number, prefix, binary = match[1], (match[2] or "").lower(), match[3]
    scale = (1024 if binary else 1000) ** " kmgt".index(prefix or " ")
    return bounded(round(float(number) * scale), text, low=0, high=1 << 50)


def parse_url(text: str) -> str:
    """A node's URL in its one normal form, `http://host:port`; `host:port` alone is taken too.

    It says where the node is, with TLS or without; who it is says its id."""
    url = parse_target(text)
    if url.startswith("https:"):
        name = url.replace("https:", "http:", 1)
        raise ValueError(f"{text!r}: nodes are named by http, with TLS too: write {name}")
    return url


def parse_target(text: str, *, scheme: str = "http") -> str:
    """Where a client finds a node, in normal form: `http://host:port`, or `https://host:port` where
    it is reached through TLS. `host:port` alone has `scheme`. ValueError."""
    match = _URL.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no node's URL: write {scheme}://host:port")
    given, host, port = match["scheme"], match["host"], match["port"]
    if given not in (None, *_SCHEMES):
        raise ValueError(f"{text!r}: only http and https are spoken here: write http://host:port")
    if port is None and given is None:
        raise ValueError(f"{text!r} has no port: write {scheme}://{host}:8000")
    number = int(port) if port else _SCHEMES[given]
    shown = bounded(number, text, low=1, high=65535)
    return f"{given or scheme}://{_host(host, text)}:{shown}"


def _host(host: str, text: str) -> str:
    """`host` with an IP address in its shortest form; refuses what nobody can connect to.

    A name whose last label is a number is an IPv4 address to whoever resolves it, in one of many
    spellings (WHATWG URL, "ends in a number"): only the plain one is taken.
    """
    last = host.rpartition(".")[2]
    if not host.startswith("[") and not last.isdigit() and not last.startswith("0x"):
        if not can_be_looked_up(host):
            raise ValueError(f"{text!r} holds no host name: 1 to 63 characters between two dots")
        return host
    address = address_of(host)
    if address is None:
        raise ValueError(f"{text!r} holds no valid IP address")
    if address.is_unspecified:
        raise ValueError(f"{text!r}: others cannot connect to {address}: name one address")
    return f"[{address}]" if address.version == 6 else str(address)


def can_be_looked_up(host: str) -> bool:
    """Whether `socket.getaddrinfo` takes `host` at all. For `a..b` and for a label of 64 characters
    it raises UnicodeError, which is no OSError."""
    try:
        host.encode("idna")  # As getaddrinfo does.
    except UnicodeError:
        return False
    return True


def split_url(url: str) -> tuple[str, int]:
    """Host (IPv6 without brackets) and port of a URL in normal form. ValueError for another."""
    host, _, port = url.removeprefix("http://").removeprefix("https://").rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{url!r} has no host and port")
    return host.strip("[]"), int(port)


def member_url(text: str, *, own_url: str) -> str:
    """The URL of a node in its normal form, if the node at `own_url` may connect to it because
    others say so. ValueError.

    Whoever makes it a member makes every node connect there, so it must not name what only this
    machine can see (loopback, unless this node is there too), a cloud's metadata service
    (link-local), or the port of some other service. What a name resolves to is judged when it is
    dialled.
    """
    url = parse_url(text)
    host, port = split_url(url)
    if len(url) > URL_CHARS_MAX:
        raise ValueError(f"a node's URL has at most {URL_CHARS_MAX} characters")
    if port <= _PRIVILEGED_PORT_MAX and port not in _WEB_PORTS:
        raise ValueError(f"{url}: a node does not listen on a privileged port")
    if is_loopback(host) and not is_loopback(split_url(own_url)[0]):
        raise ValueError(f"{url}: a loopback address means another machine on every node")
    if is_nowhere(host):
        raise ValueError(f"{url}: no node can be reached at this address")
    return url


def parse_node(text: str) -> str:
    """A node as an operator names it: by its id, 12 hexadecimal digits, or by its URL, in normal
    form. ValueError."""
    name = text.strip().lower()
    if _NODE_ID.fullmatch(name):
        return name
    try:
        return parse_url(name)
    except ValueError as fault:
        raise ValueError(f"{fault}; or a node's id, 12 hexadecimal digits") from None


def is_url(text: str) -> bool:
    """Whether `text` is a node's URL in normal form, and no longer than one may be."""
    try:
        return len(text) <= URL_CHARS_MAX and parse_url(text) == text
    except ValueError:
        return False


def is_one_of(host: str, patterns: Iterable[str]) -> bool:
    """Whether a host, a name or an address, is one that these mean. Of a name `*` may be the first
    label, and is exactly one (RFC 6125, 6.4.3); of an address it is nothing."""
    is_name = address_of(host) is None
    label, _, behind = host.lower().partition(".")
    for each in patterns:
        first, _, rest = each.lower().partition(".")
        if behind == rest and label and (first == label or (first == "*" and is_name)):
            return True
    return False


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is the machine that asks.

    A name is judged by its letters, not looked up (RFC 6761, 6.3): `localhost` and `n1.localhost`
    are loopback, `127.example.com` is a name like any other.
    """
    address = address_of(host)
    if address is not None:
        return address.is_loopback
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


_NAT64: Final = 0x64FF9B << 64
"""The first 96 bits of an IPv6 address that leads to an IPv4 one (RFC 6052)."""


def is_nowhere(host: str) -> bool:
    """Whether a host is an address at which no node can be: one of a link only (where clouds keep
    their metadata), of many machines, of none, or of the future (240.0.0.0/4)."""
    address = address_of(host)
    if address is None:
        return False
    if address.version == 6 and int(address) >> 32 == _NAT64:
        from ipaddress import IPv4Address  # Late, as below.

        return is_nowhere(str(IPv4Address(int(address) & 0xFFFFFFFF)))
    is_of_future = address.version == 4 and address.is_reserved
    is_of_none = address.is_unspecified or is_of_future
    return address.is_link_local or address.is_multicast or is_of_none


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host`, with or without brackets, is; None if it is a name.

    In the spellings that `ipaddress` takes: `127.1` is none of them, and no URL may hold it.
    `::ffff:127.0.0.1` connects to 127.0.0.1, and is that address.
    """
    import ipaddress  # Late: most hosts are names.

    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def one_source(address: str) -> str:
    """What counts as one source with this address: itself, or, as one host has them all, the 64
    bits of network of an IPv6 address."""
    found = address_of(address)
    if found is None or found.version == 4:
        return address
    return str(int(found) >> 64)


def show_duration(duration_ms: int) -> str:
    """A duration for a glance: `850 ms`, `1.2 s`, `3.4 min`, `5.6 h`."""
    if duration_ms < 1000:
        return f"{duration_ms} ms"
    for unit, unit_ms, below_ms in (("s", 1e3, 6e4), ("min", 6e4, 3.6e6)):
        if duration_ms < below_ms:
            return f"{duration_ms / unit_ms:.1f} {unit}"
    return f"{duration_ms / 3.6e6:.1f} h"


def show_size(size: int) -> str:
    """A size for a glance, in thousands: `512 B`, `1.5 kB`, `9.6 MB`."""
    if size < 1000:
        return f"{size} B"
    number = size / 1000
    for unit in ("kB", "MB", "GB"):
        # What would be shown as 1000.0 belongs to the next unit.
        if number < 999.95:
            return f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def show_count(number: int, noun: str) -> str:
    """A number of things: `1 node`, `1,024 nodes`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def nearest(name: str, names: Iterable[str], *, dashes: str = "") -> str:
    """`; did you mean --nodes?`, to follow a fault; empty if no name is like `name`. A name that
    begins with it, as `secret-file` with `secret`, is nearer than one that looks like it, if it is
    the only one."""
    import difflib  # Late: only mistakes need it.

    lower = name.lower()
    by_lower = {each.lower(): each for each in names if each.lower() not in _NEVER_MEANT}
    found = [each for each in by_lower if each.startswith((f"{lower}-", f"{lower}_"))]
    if len(found) != 1:
        found = difflib.get_close_matches(lower, list(by_lower), n=1)
    return f"; did you mean {dashes}{by_lower[found[0]]}?" if found else ""


def show_bytes(raw: bytes) -> str:
    """Bytes as text that no terminal obeys: what is no printable UTF-8 becomes `\\xNN`."""
    return show_text(raw.decode(errors="backslashreplace"))


def show_utc(ms: int) -> str:
    """A time since 1970 as people read it; `never` for 0."""
    from datetime import UTC, datetime  # Late: it takes as long to import as all else here.

    if not ms:
        return "never"
    return f"{datetime.fromtimestamp(min(ms, _MS_MAX) // 1000, UTC):%Y-%m-%d %H:%M:%S}"


def show_text(text: str) -> str:
    """Text from elsewhere as text that no terminal obeys: what cannot be printed is `\\xNN`."""
    return "".join([each if each.isprintable() else _escaped(each) for each in text])


def _escaped(character: str) -> str:
    return "".join([f"\\x{byte:02x}" for byte in character.encode(errors="surrogatepass")])


def bounded(value: int, text: str, *, low: int, high: int) -> int:
    """`value`, or ValueError naming the limit that `text` breaks; both limits are allowed."""
    if value < low:
        raise ValueError(f"{text} is too small: the least is {low}")
    if value > high:
        raise ValueError(f"{text} is too large: the most is {high}")
    return value
