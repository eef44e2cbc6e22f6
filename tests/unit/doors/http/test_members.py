# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses may join."""

from __future__ import annotations

import pytest

from quorate.doors.http.members import checked_member
from quorate.errors import InvalidRequest

HERE, THERE = "http://127.0.0.1:8000", "http://10.0.0.1:8000"


@pytest.mark.parametrize("text", ["http://10.0.0.2:8000/", "HTTP://10.0.0.2:8000", "10.0.0.2:8000"])
def test_a_url_has_one_normal_form(text: str) -> None:
    assert checked_member(text, own_url=THERE) == "http://10.0.0.2:8000"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost", "[::1]", "127.9.9.9"])
def test_loopback_may_join_only_a_node_on_loopback(host: str) -> None:
    url = f"http://{host}:9000"
    assert checked_member(url, own_url=HERE) == url
    with pytest.raises(InvalidRequest, match="loopback"):
        checked_member(url, own_url=THERE)


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
    with pytest.raises(InvalidRequest):
        checked_member(text, own_url=own_url)
