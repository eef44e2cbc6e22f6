# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations, sizes and URLs are read as people write them; anything else is refused helpfully."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.notation import (
    URL_CHARS_MAX,
    bounded,
    can_be_looked_up,
    is_loopback,
    is_nowhere,
    is_one_of,
    is_url,
    member_url,
    nearest,
    parse_duration,
    parse_size,
    parse_target,
    parse_url,
    show_bytes,
    show_count,
    show_duration,
    show_size,
    show_utc,
    split_url,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("2s", 2_000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        ("2.5s", 2_500),
        ("0s", 0),
        ("1000us", 1),
        ("1h0m1s", 3_601_000),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@given(st.integers(0, 300_000_000))
def test_a_duration_put_together_from_its_parts_is_their_sum(ms: int) -> None:
    hours, rest = divmod(ms, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    assert parse_duration(f"{hours}h{minutes}m{rest // 1000}s{rest % 1000}ms") == ms


def test_what_is_near_is_found_in_any_case() -> None:
    assert nearest("SYNC", ["sync", "os"]) == "; did you mean sync?"
    assert nearest("w", ["W"], dashes="-") == "; did you mean -W?"


def test_a_bare_number_is_no_duration_and_the_hint_shows_units() -> None:
    with pytest.raises(ValueError, match="5 has no unit: write 5s or 5ms"):
        parse_duration("5")


@pytest.mark.parametrize(
    "text", ["", "s", "-2s", "2 s", "2d", "1e3s", "٣s", "2s!", "9" * 400 + "s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_a_duration_that_would_be_rounded_away_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest step"):
        parse_duration("1us")


def test_a_duration_of_years_is_refused() -> None:
    with pytest.raises(ValueError, match="99999h is too large: the most is 8784h"):
        parse_duration("99999h")
    assert parse_duration("8784h") == 366 * 86_400_000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65_536),
        ("12B", 12),
        ("8MB", 8_000_000),
        ("64MiB", 64 << 20),
        ("64mib", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("2 kB", 2_000),
        ("1KiB", 1024),
    ],
)
def test_a_size_counts_in_thousands_or_with_an_i_in_1024s(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "8M", "8XB", "1e9", "٣", "8MB ", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


def test_a_size_beyond_any_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_size("99999TiB")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("  http://LocalHost:8000/ ", "http://localhost:8000"),
        ("http://kv-1.example.com:8000//", "http://kv-1.example.com:8000"),
        ("localhost:8001", "http://localhost:8001"),
        ("10.0.0.7:8000", "http://10.0.0.7:8000"),
        ("http://kv.example.com", "http://kv.example.com:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("[2001:DB8:0:0::1]:8000", "http://[2001:db8::1]:8000"),
        ("http://node_2:08000", "http://node_2:8000"),
        ("http://[::ffff:10.0.0.7]:8000", "http://10.0.0.7:8000"),
        (f"http://{'a' * 63}.example:8000", f"http://{'a' * 63}.example:8000"),
    ],
)
def test_a_url_comes_out_in_one_normal_form(text: str, url: str) -> None:
    assert parse_url(text) == url
    assert parse_url(url) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no node's URL"),
        ("http://", "is no node's URL"),
        ("http://a:8000/path", "is no node's URL"),
        ("http://a:8000?x=1", "is no node's URL"),
        ("http://user@a:8000", "is no node's URL"),
        ("http://a b:8000", "is no node's URL"),
        ("http://a:http", "is no node's URL"),
        ("http://münchen:8000", "is no node's URL"),
        ("-a:8000", "is no node's URL"),
        ("ftp://a:8000", "only http"),
        ("https://a:8000", "named by http, with TLS too: write http://a:8000"),
        ("alpha", "has no port: write http://alpha:8000"),
        ("a:0", "too small"),
        ("a:65536", "too large"),
        ("http://0.0.0.0:8000", "cannot connect to 0.0.0.0"),
        ("http://[::]:8000", "cannot connect to ::"),
        ("http://1.2.3.256:8000", "no valid IP address"),
        ("http://127.1:8000", "no valid IP address"),
        ("http://[1::2::3]:8000", "no valid IP address"),
        ("http://0xa9fea9fe:80", "no valid IP address"),
        ("http://0x7f.1:6379", "no valid IP address"),
        ("http://node.1:8000", "no valid IP address"),
        ("http://017700000001:8000", "no valid IP address"),
        ("http://10.0.0.0x7:8000", "no valid IP address"),
        ("http://[::ffff:0.0.0.0]:8000", "cannot connect to 0.0.0.0"),
        ("http://a..b:8000", "no host name: 1 to 63 characters between two dots"),
        (f"http://{'a' * 64}:8000", "no host name"),
        (f"{'a' * 64}.example:8000", "no host name"),
    ],
)
def test_what_is_no_nodes_url_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_url(text)


@pytest.mark.parametrize(
    ("text", "scheme", "url"),
    [
        ("https://KV.example.com/", "http", "https://kv.example.com:443"),
        ("http://a", "https", "http://a:80"),
        ("a:8000", "https", "https://a:8000"),
        ("a:8000", "http", "http://a:8000"),
        ("https://[2001:DB8:0:0::1]:8443", "http", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_client_may_reach_a_node_through_tls_and_without_a_scheme_as_it_says(
    text: str, scheme: str, url: str
) -> None:
    assert parse_target(text, scheme=scheme) == url
    assert parse_target(url) == url
    assert split_url(url) == split_url(url.replace("https", "http"))


def test_what_a_client_cannot_reach_shows_what_to_write() -> None:
    with pytest.raises(ValueError, match="write https://alpha:8000"):
        parse_target("alpha", scheme="https")
    with pytest.raises(ValueError, match="only http and https are spoken here"):
        parse_target("rediss://alpha:8000")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://localhost:8000", ("localhost", 8000)),
        ("http://[::1]:80", ("::1", 80)),
        ("http://10.0.0.7:65535", ("10.0.0.7", 65535)),
    ],
)
def test_a_url_in_normal_form_is_a_host_and_a_port(url: str, parts: tuple[str, int]) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize("url", ["", "http://a", "http://:80", "http://a:65536", "http://a:+1"])
def test_a_url_without_host_and_port_is_not_split(url: str) -> None:
    with pytest.raises(ValueError, match="no host and port"):
        split_url(url)


@pytest.mark.parametrize(
    ("host", "can_it"),
    [
        ("localhost", True),
        ("localhost.", True),
        ("10.0.0.7", True),
        ("a" * 63, True),
        ("a" * 64, False),
        (f"{'a' * 64}.example", False),
        ("a..b", False),
        (".a", False),
    ],
)
def test_a_host_can_be_looked_up_if_the_systems_look_up_takes_it(host: str, can_it: bool) -> None:
    assert can_be_looked_up(host) is can_it
    try:
        socket.getaddrinfo(host, 1, flags=socket.AI_NUMERICHOST)
    except UnicodeError:
        assert not can_it
    except OSError:
        assert can_it, "it was taken, and is no number"


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("localhost.", True),
        ("n1.localhost", True),
        ("n1.localhost.", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", True),
        ("[::ffff:7f00:1]", True),
        ("localhost.example", False),
        ("mylocalhost", False),
        ("127.example.com", False),
        ("127.1", False),
        ("127.0.0.1.example", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_an_address_or_a_name_by_convention(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("169.254.169.254", True),
        ("::ffff:169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("239.1.1.1", True),
        ("ff02::1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("240.0.0.1", True),
        ("255.255.255.255", True),
        ("64:ff9b::169.254.169.254", True),
        ("64:ff9b::198.51.100.1", False),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("2001:db8::1", False),
        ("metadata.internal", False),
    ],
)
def test_no_node_is_at_an_address_of_a_link_of_many_or_of_none(host: str, is_it: bool) -> None:
    assert is_nowhere(host) is is_it


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_with_one_line(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_url):
        said = ""
        try:
            parse(text)
        except ValueError as fault:
            said = str(fault)
        assert "\n" not in said


def test_both_ends_of_a_range_belong_to_it() -> None:
    assert [bounded(value, "", low=1, high=3) for value in (1, 3)] == [1, 3]
    with pytest.raises(ValueError, match="the least is 1"):
        bounded(0, "0", low=1, high=3)
    with pytest.raises(ValueError, match="the most is 3"):
        bounded(4, "4", low=1, high=3)


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.0 s"),
        (1_234, "1.2 s"),
        (60_000, "1.0 min"),
        (204_000, "3.4 min"),
        (3_600_000, "1.0 h"),
        (360_000_000, "100.0 h"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_fits(ms: int, shown: str) -> None:
    assert show_duration(ms) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (9_600_000, "9.6 MB"),
        (2_500_000_000, "2.5 GB"),
        (7 * 10**15, "7000.0 TB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_fits(size: int, shown: str) -> None:
    assert show_size(size) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"user:7 a", "user:7 a"),
        ("clé".encode(), "clé"),
        (b"\xff\x02", r"\xff\x02"),
        (b"a\n\x1b[2J", r"a\x0a\x1b[2J"),
        ("\u202e".encode(), r"\xe2\x80\xae"),
    ],
)
def test_bytes_are_shown_so_that_no_terminal_obeys_them(raw: bytes, shown: str) -> None:
    assert show_bytes(raw) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes"), (1024, "1,024 nodes")]
)
def test_a_number_of_things_is_shown_in_the_right_number(number: int, shown: str) -> None:
    assert show_count(number, "node") == shown


def test_the_nearest_name_is_asked_after_and_nothing_if_none_is_near() -> None:
    assert nearest("prot", ["cluster", "port"]) == "; did you mean port?"
    assert nearest("prot", iter(["port"]), dashes="--") == "; did you mean --port?"
    assert nearest("xyzzy", ["cluster", "port"]) == ""
    assert nearest("token", ["token-file", "tokens"], dashes="-") == "; did you mean -token-file?"
    assert nearest("tls", ["tls-cert", "tls-key", "tlz"]) == "; did you mean tlz?"


def test_what_opens_a_node_to_everybody_is_never_what_was_meant() -> None:
    assert nearest("insecur", ["insecure", "port"]) == ""


@given(st.binary())
def test_shown_bytes_are_always_printable(raw: bytes) -> None:
    assert show_bytes(raw).isprintable()


# --- which addresses may be members' ---------------------------------------------------------

HERE, THERE = "http://127.0.0.1:8000", "http://10.0.0.1:8000"


@pytest.mark.parametrize("text", ["http://10.0.0.2:8000/", "HTTP://10.0.0.2:8000", "10.0.0.2:8000"])
def test_a_url_has_one_normal_form(text: str) -> None:
    assert member_url(text, own_url=THERE) == "http://10.0.0.2:8000"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost", "[::1]", "127.9.9.9"])
def test_loopback_may_join_only_a_node_on_loopback(host: str) -> None:
    url = f"http://{host}:9000"
    assert member_url(url, own_url=HERE) == url
    with pytest.raises(ValueError, match="loopback"):
        member_url(url, own_url=THERE)


@pytest.mark.parametrize("chars", [URL_CHARS_MAX, URL_CHARS_MAX + 1])
def test_a_members_url_has_a_length_that_a_frame_can_carry(chars: int) -> None:
    url = f"http://{'.'.join(['x' * 50] * 9)}"[: chars - 5] + ":8000"
    assert len(url) == chars
    assert is_url(url) is (chars == URL_CHARS_MAX)
    if is_url(url):
        assert member_url(url, own_url=THERE) == url
    else:
        with pytest.raises(ValueError, match="at most"):
            member_url(url, own_url=THERE)


@pytest.mark.parametrize(
    "text",
    [
        "http://169.254.169.254:80",
        "http://[fe80::1]:8000",
        "http://[::ffff:169.254.169.254]:8000",
        "http://0.0.0.0:8000",
        "http://[::]:8000",
        "http://239.1.1.1:8000",
        "http://[ff02::1]:8000",
        "http://0xa9fea9fe:80",
        "http://0x7f000001:6379",
        "http://0x7f.1:6379",
        "http://2852039166:80",
        "http://10.0.0.2:22",
        "http://10.0.0.2:25",
        "http://10.0.0.2:0",
        "http://user@10.0.0.2:8000",
        "file:///etc/passwd",
        "http://10.0.0.2:8000/x",
        "",
        "x" * 4096,
    ],
)
@pytest.mark.parametrize("own_url", [HERE, THERE])
def test_what_no_node_can_be_is_refused(text: str, own_url: str) -> None:
    with pytest.raises(ValueError, match=r"node|URL|http|IP|connect"):
        member_url(text, own_url=own_url)


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "never"),
        (1_700_000_000_999, "2023-11-14 22:13:20"),
        (1 << 48, "9999-12-31 23:59:59"),
    ],
)
def test_a_time_is_shown_to_the_second_whatever_a_clock_says(ms: int, shown: str) -> None:
    assert show_utc(ms) == shown


@pytest.mark.parametrize(
    ("host", "pattern", "is_one"),
    [
        ("a.nodes.test", "*.nodes.test", True),
        ("A.Nodes.TEST", "*.nodes.test", True),
        ("a.nodes.test", "a.nodes.test", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("nodes.test", "*.nodes.test", False),
        (".nodes.test", "*.nodes.test", False),
        ("a.b.nodes.test", "*.nodes.test", False),
        ("a.nodes.test.evil.test", "*.nodes.test", False),
        ("a.nodes.test", "b.nodes.test", False),
        ("10.1.2.4", "10.1.2.3", False),
        ("10.1.2.3", "*.1.2.3", False),
        ("2001:db8::1", "*", False),
        ("::1", "*", False),
        ("::ffff:10.1.2.3", "*.1.2.3", False),
        ("10.nodes.test", "*.nodes.test", True),
        ("nodes", "*", True),
        ("", "*", False),
    ],
)
def test_a_star_is_one_label(host: str, pattern: str, is_one: bool) -> None:
    assert is_one_of(host, [pattern]) is is_one
    assert is_one_of(host, ["other.test", pattern]) is is_one
    assert not is_one_of(host, [])
