# SPDX-License-Identifier: GPL-3.0-or-later
"""Which join tokens were used, as the cluster keeps it: in the layout.

Whoever comes with a token is let in by a layout that names the token's nonce and the newcomer's
*claim*, a hash of what only the newcomer knows. So two nodes that use one token at once, through
two others, are two proposals for one number, and one of them is decided. The one that was let in
may ask again, as its answer may have been lost: its claim is there already.

Whoever is asked judges by its own clock whether the token has expired. A nonce is kept for KEPT_S
longer: a majority of the voters sees to that, each by its own clock. So a token lets in one more
than it may only if the clock of who is asked is an hour behind, and such a node's writes are
refused long before (`-max-clock-skew`). That it is not over is nothing that a voter may ask: what
another has accepted could never be decided any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from quorate.core.values.wish import TOKEN_USES_MAX, Admission

NONCE_BYTES: Final = 16
CLAIM_BYTES: Final = 16
CLAIMS_MAX: Final = 256
"""That are kept at once, of all tokens."""
KEPT_S: Final = 3_600


class SpentToken(msgspec.Struct, frozen=True, array_like=True):
    """A token by which nodes were let in."""

    nonce: bytes
    expires_s: int
    """Since 1970."""
    uses: int
    claims: tuple[bytes, ...]
    """Of those it let in, ascending; at most `uses`."""

    def is_over(self, now_s: int) -> bool:
        """Whether it may be left out."""
        return now_s > self.expires_s + KEPT_S


Spent = tuple[SpentToken, ...]
"""Ascending by nonce."""


class UsedUp(ValueError):
    """The token has let in all that it may."""


class TooMany(ValueError):
    """So many claims are kept that there is no room for one more."""


def spent_after(before: Spent, asked: Admission, *, now_s: int) -> Spent:
    """What is kept once this newcomer is let in; `before` itself if it was already. UsedUp,
    TooMany."""
    known = {each.nonce: each for each in before}
    token = known.get(asked.nonce) or SpentToken(asked.nonce, asked.expires_s, asked.uses, ())
    if asked.claim in token.claims:
        return before
    if len(token.claims) >= token.uses:
        raise UsedUp
    kept = [each for each in before if each is not token and not each.is_over(now_s)]
    if sum([len(each.claims) for each in kept]) + len(token.claims) >= CLAIMS_MAX:
        raise TooMany
    claims = tuple(sorted([*token.claims, asked.claim]))
    kept.append(msgspec.structs.replace(token, claims=claims))
    return tuple(sorted(kept, key=_nonce))


def is_one_more(before: Spent, after: Spent) -> bool:
    """Whether one newcomer was let in, and nobody else was forgotten than whole tokens."""
    known = {each.nonce: each for each in before}
    added = 0
    for token in after:
        old = known.get(token.nonce, SpentToken(token.nonce, token.expires_s, token.uses, ()))
        if (old.expires_s, old.uses) != (token.expires_s, token.uses):
            return False
        if not set(old.claims) <= set(token.claims):
            return False
        added += len(token.claims) - len(old.claims)
    return added == 1


def is_kept_long_enough(before: Spent, after: Spent, *, now_s: int) -> bool:
    """Whether by this clock all that was left out is over. Once it is so it stays so."""
    kept = {each.nonce for each in after}
    return all([each.is_over(now_s) for each in before if each.nonce not in kept])


def check_spent(spent: Spent) -> None:
    """ValueError unless this can be what a layout keeps."""
    _check_ascending([each.nonce for each in spent], NONCE_BYTES)
    for each in spent:
        _check_ascending(each.claims, CLAIM_BYTES)
        if not 0 < len(each.claims) <= each.uses <= TOKEN_USES_MAX:
            raise ValueError("a token that let in nobody, or more than it may")
    if sum([len(each.claims) for each in spent]) > CLAIMS_MAX:
        raise ValueError("too many claims")


def _check_ascending(names: Iterable[bytes], length: int) -> None:
    listed = list(names)
    is_sorted = all([one < other for one, other in pairwise(listed)])
    if not is_sorted or any([len(each) != length for each in listed]):
        raise ValueError("nonces and claims are of one length, distinct and sorted")


def _nonce(token: SpentToken) -> bytes:
    return token.nonce
