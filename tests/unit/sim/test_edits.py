# SPDX-License-Identifier: GPL-3.0-or-later
"""What read-modify-writes make of what they find."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Edited
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.sim.edits import OperationEdit
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.tokens import behind, token_of

KEY = b"k"
V = token_of((1, 1, 0), KEY, count=4)
FOUND = Record(pack_version(1, 1), V, 50)
NAME = (2, 7, 0)


def _operation(kind: Kind, *, seen: Record | None = None) -> ClientOperation:
    return ClientOperation(7, 2, 0, kind, KEY, asked_ms=0.0, expires_ms=99, seen=seen)


@pytest.mark.parametrize(
    ("kind", "found", "made"),
    [
        (Kind.APPEND, FOUND, Edited(behind(V, NAME, KEY), 50)),
        (Kind.APPEND, None, Edited(token_of(NAME, KEY))),
        (Kind.INCREMENT, FOUND, Edited(behind(V, NAME, KEY, counts=1), 50)),
        (Kind.INCREMENT, None, Edited(token_of(NAME, KEY, count=1))),
        (Kind.LOCK, FOUND, None),
        (Kind.LOCK, None, Edited(token_of(NAME, KEY), 99)),
        (Kind.EXPIRE, FOUND, Edited(V, 99)),
        (Kind.EXPIRE, None, None),
        (Kind.GETDEL, FOUND, Edited(None)),
        (Kind.GETDEL, None, None),
        (Kind.CAS, FOUND, None),
        (Kind.CAS, None, Edited(token_of(NAME, KEY), 99)),
        (Kind.UNLOCK, FOUND, None),
        (Kind.UNLOCK, None, None),
    ],
)
def test_an_edit_makes_what_its_kind_says(
    kind: Kind, found: Record | None, made: Edited | None
) -> None:
    edit = OperationEdit(_operation(kind))
    assert edit(found) == made
    assert edit(found) == edit(found)
    assert repr(edit) == kind.value


def test_a_client_compares_with_what_it_saw_by_version_or_by_content() -> None:
    other = Record(pack_version(2, 1), V, 50)
    for kind in (Kind.CAS, Kind.UNLOCK):
        op = _operation(kind, seen=FOUND)
        assert OperationEdit(op)(FOUND) is not None
        assert OperationEdit(op)(other) is None
        assert OperationEdit(op)(None) is None
        assert OperationEdit(op, by_version=False)(other) is not None
        assert OperationEdit(op, by_version=False)(Record(b"", V)) is None


def test_an_expiry_is_taken_away_where_there_is_one() -> None:
    op = _operation(Kind.EXPIRE)
    op.expires_ms = 0
    assert OperationEdit(op)(FOUND) == Edited(V)
    assert OperationEdit(op)(Record(b"", V)) is None
