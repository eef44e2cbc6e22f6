# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything else, where aiohttp's parser does not refuse it first; all of the
rest is in `tests/conformance`."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.problems import Refused
from quorate.doors.http.strict import check
from tests.principals import open_principals
from tests.unit.doors.redis.turns import ManualTimers


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "other"]])
def test_anything_but_one_host_is_a_bad_request(hosts: list[str]) -> None:
    policy = HostPolicy(
        open_principals(ManualTimers()), is_on_loopback=True, own_url="http://localhost:8000"
    )
    request = make_mocked_request(
        "GET", "/nodes", headers=CIMultiDict([("Host", host) for host in hosts])
    )
    with pytest.raises(Refused, match="exactly one Host") as refused:
        check(request, policy.at(None))
    assert (refused.value.status, refused.value.code) == (400, "bad_request")
    assert refused.value.is_final
