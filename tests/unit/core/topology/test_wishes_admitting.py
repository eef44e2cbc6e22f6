# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in by a join token, and who is not."""

from __future__ import annotations

import pytest

from quorate.core.topology.admission import CLAIMS_MAX, KEPT_S, SpentToken
from quorate.core.topology.layout import Course, Layout, decode_layout
from quorate.core.topology.steps import follows
from quorate.core.topology.wishes import wished
from quorate.core.values.wish import TOKEN_USES_MAX, Admission, Wish
from quorate.errors import Conflict, InvalidRequest, Unauthenticated
from tests.unit.core.alone import Alone
from tests.unit.core.moving import hear, node, replace, stable

OLD = stable(4, course=Course.REST)
NOW_S = 1_700_000_000


def _node(layout: Layout = OLD) -> Alone:
    return node(layout_of=layout)


def _wished(alone: Alone, wish: Wish) -> Layout | None:
    return wished(alone.node.membership, wish, now_s=NOW_S)


def _grant(alone: Alone, wish: Wish) -> Layout:
    """What follows, which is in force from now on. The same wish once more changes nothing."""
    before, fresh = alone.node.membership.layout, _wished(alone, wish)
    assert before is not None
    assert fresh is not None
    assert follows(before, fresh)
    assert decode_layout(fresh.encode()) == fresh
    hear(alone, fresh)
    assert _wished(alone, wish) is None
    return fresh


def _admission(*, nonce: int = 1, claim: int = 1, uses: int = 1, expires_s: int = NOW_S) -> Wish:
    asked = Admission(
        nonce=bytes([nonce]) * 16, expires_s=expires_s, uses=uses, claim=bytes([claim]) * 16
    )
    return Wish(admits=asked)


def test_a_token_for_one_lets_in_one_who_may_ask_again() -> None:
    alone = _node()
    fresh = _grant(alone, _admission())
    assert [(each.uses, len(each.claims)) for each in fresh.spent] == [(1, 1)]
    with pytest.raises(Unauthenticated, match="used up"):
        _wished(alone, _admission(claim=2))


def test_a_token_for_two_lets_in_two() -> None:
    alone = _node()
    _grant(alone, _admission(uses=2, claim=9))
    _grant(alone, _admission(uses=2))
    with pytest.raises(Unauthenticated):
        _wished(alone, _admission(uses=2, claim=3))


def test_what_a_token_let_in_is_kept_for_an_hour_after_it_expired() -> None:
    alone = _node()
    _grant(alone, _admission(expires_s=NOW_S - KEPT_S - 1))
    _grant(alone, _admission(nonce=2, expires_s=NOW_S - KEPT_S))
    fresh = _grant(alone, _admission(nonce=3))
    assert [each.nonce[0] for each in fresh.spent] == [2, 3]


def test_more_than_can_be_kept_are_let_in_later() -> None:
    alone = _node()
    most = tuple([number.to_bytes(16, "big") for number in range(TOKEN_USES_MAX)])
    spent = [SpentToken(bytes([each]) * 16, NOW_S, TOKEN_USES_MAX, most) for each in (1, 2)]
    rest = most[: CLAIMS_MAX - 2 * TOKEN_USES_MAX]
    spent.append(SpentToken(bytes([3]) * 16, NOW_S, TOKEN_USES_MAX, rest))
    alone = _node(replace(OLD, spent=tuple(spent)))
    with pytest.raises(Conflict, match="in an hour"):
        _wished(alone, _admission(nonce=4))


def test_nothing_else_goes_with_an_admission() -> None:
    wish = replace(_admission(), stops=True)
    with pytest.raises(InvalidRequest, match="nothing else"):
        _wished(_node(), wish)
