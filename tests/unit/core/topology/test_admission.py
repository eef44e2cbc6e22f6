# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster keeps of join tokens that were used."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.topology.admission import (
    CLAIMS_MAX,
    KEPT_S,
    Spent,
    SpentToken,
    UsedUp,
    check_spent,
    is_kept_long_enough,
    is_one_more,
    spent_after,
)
from quorate.core.values.wish import TOKEN_USES_MAX, Admission

NOW_S = 1_700_000_000
ONE = SpentToken(b"n" * 16, NOW_S, 2, (b"a" * 16,))


def _token(**fields: Any) -> SpentToken:
    return msgspec.structs.replace(ONE, **fields)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30))
def test_no_token_lets_in_more_than_it_may(asked: list[tuple[int, int]]) -> None:
    """However often it is asked for, and by whom."""
    spent: Spent = ()
    let_in: dict[int, set[int]] = {}
    for nonce, claim in asked:
        admission = Admission(
            nonce=bytes([nonce]) * 16,
            expires_s=NOW_S + (nonce + 1) * 10,
            uses=nonce + 1,
            claim=bytes([claim]) * 16,
        )
        try:
            after = spent_after(spent, admission, now_s=NOW_S)
        except UsedUp:
            assert len(let_in[nonce]) == nonce + 1
            assert claim not in let_in[nonce]
            continue
        assert (after is spent) == (claim in let_in.get(nonce, set()))
        assert after is spent or is_one_more(spent, after)
        check_spent(after)
        let_in.setdefault(nonce, set()).add(claim)
        spent = after
    assert all([len(claims) <= nonce + 1 for nonce, claims in let_in.items()])


@pytest.mark.parametrize(("late_s", "may"), [(0, False), (KEPT_S, False), (KEPT_S + 1, True)])
def test_a_nonce_is_forgotten_an_hour_after_its_token_expired(late_s: int, may: bool) -> None:
    assert is_kept_long_enough((ONE,), (), now_s=NOW_S + late_s) is may
    assert is_kept_long_enough((ONE,), (ONE,), now_s=NOW_S)


@pytest.mark.parametrize(
    "spent",
    [
        (_token(nonce=b"short"),),
        (_token(claims=()),),
        (_token(claims=(b"short",)),),
        (_token(uses=0),),
        (_token(uses=TOKEN_USES_MAX + 1),),
        (_token(claims=(b"b" * 16, b"a" * 16)),),
        (_token(claims=(b"a" * 16, b"a" * 16)),),
        (_token(claims=(b"a" * 16, b"b" * 16, b"c" * 16)),),
        (ONE, ONE),
        (ONE, _token(nonce=b"m" * 16)),
        tuple(
            _token(
                nonce=bytes([number]) * 16,
                uses=TOKEN_USES_MAX,
                claims=tuple([each.to_bytes(16, "big") for each in range(TOKEN_USES_MAX)]),
            )
            for number in range(CLAIMS_MAX // TOKEN_USES_MAX + 1)
        ),
    ],
)
def test_what_no_layout_can_keep_is_refused(spent: Spent) -> None:
    with pytest.raises(ValueError):
        check_spent(spent)
