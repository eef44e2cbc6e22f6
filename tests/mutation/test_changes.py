# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed in a file, and what is left alone."""

from __future__ import annotations

import ast

import pytest

from tests.mutation.__main__ import all_changes, drawn
from tests.mutation.changes import NUMBER_MAX, Change, changed, changes_of
from tests.mutation.trial import ROOT

ASYNC = "async def f() -> None:\n    "
BOOL = "def f() -> bool: return "


def _made(source: str, kind: str = "") -> list[str]:
    """The file with each of its changes of a kind, or any."""
    return [
        changed(source.encode(), change).decode()
        for change in changes_of("a.py", source.encode())
        if kind in ("", change.kind)
    ]


@pytest.mark.parametrize(
    ("kind", "source", "after"),
    [
        ("compare", "x = a < b", ["x = (a <= b)"]),
        ("compare", "x = a < b == c", ["x = (a <= b == c)", "x = (a < b != c)"]),
        ("compare", "x = a is not None", ["x = (a is None)"]),
        ("compare", "x = a not in b", ["x = (a in b)"]),
        ("and/or", "x = a and b", ["x = (a or b)"]),
        ("dropped term", "x = a and b", ["x = (b)", "x = (a)"]),
        ("not", "x = not a", ["x = bool(a)"]),
        ("operator", "x = a + b", ["x = (a - b)"]),
        ("operator", "x += b", ["x -= b"]),
        ("operator", "x = a + 'b'", []),
        ("operator", "x = 64 << 20", []),
        ("constant", "x = True", ["x = False"]),
        ("constant", "def f(x: int = 3) -> None: ...", ["def f(x: int = 4) -> None: ..."]),
        ("constant", f"x = {NUMBER_MAX}", []),
        ("call", "x = min(a)", ["x = (max(a))"]),
        ("call", "x = all(a)", ["x = (any(a))"]),
        ("swapped arguments", "f(a, b)", ["(f(b, a))"]),
        ("swapped arguments", "f(a, b, c)", []),
        ("swapped arguments", "min(a, b)", []),
        ("one of two", "x = max(a, b)", ["x = (a)", "x = (b)"]),
        ("one of two", "x = min(a, b, c)", []),
        ("dropped argument", "f(a, b=c, d=e)", ["(f(a, d=e))", "(f(a, b=c))"]),
        ("dropped argument", "f(a, b, c)", ["(f(a, b))"]),
        ("dropped argument", "f(a, b, *c)", []),
        ("dropped argument", "log.warning('a', b=c)", []),
        ("plain assignment", "a.b |= c", ["a.b = c"]),
        ("boundary", "x = a[b:c]", ["x = a[b + 1:c]", "x = a[b:c + 1]"]),
        ("condition", "x = a if b else c", ["x = a if not (b) else c"]),
        ("condition", "if a < b: f()", ["if False: f()", "if True: f()"]),
        ("removed call", "f(a)", ["pass"]),
        ("removed call", ASYNC + "await g()", [ASYNC + "pass"]),
        ("dropped await", ASYNC + "await g()", [ASYNC + "g()"]),
        ("removed assignment", "a.b = c", ["pass"]),
        ("removed assignment", "a = c", []),
        ("removed assignment", "a, *b = c", []),
        ("removed assignment", "a[b] = c", ["pass"]),
        ("removed statement", "raise A", ["pass"]),
        ("removed statement", "del a[b]", ["pass"]),
        ("continue/break", "for a in b: continue", ["for a in b: break"]),
        ("continue/break", "while a: break", ["while a: continue"]),
        ("returned", BOOL + "a", [BOOL + "True", BOOL + "False"]),
        ("returned", 'def f() -> str: return ""', []),
        ("returned", 'def f() -> bytes: return b""', []),
        ("returned", "def f() -> A | None: return a", ["def f() -> A | None: return None"]),
        ("returned", "def f() -> set[int]: return a", ["def f() -> set[int]: return set()"]),
    ],
)  # fmt: skip
def test_each_kind_of_change(kind: str, source: str, after: list[str]) -> None:
    assert sorted(_made(source, kind)) == sorted(after)


@pytest.mark.parametrize(
    "source",
    [
        '"""A module with 3 words."""',
        "assert a < b, 'no'",
        "class A:\n    __slots__ = ('a', 'b')",
        "def __repr__(self) -> str:\n    return 'a' if self.b else 'c'",
        "if TYPE_CHECKING:\n    a = 1",
        "a: Annotated[int, 1]",
        "def f(a: A[1]) -> B[2]: ...",
        "@cache(1)\ndef f() -> None: ...",
        "x = f'{a + 1}'",
        "x = 'text'",
        "class A(B, frozen=True):\n    a: int",
        "zip(a, b, c, strict=True).d",
        "def f(a):\n    del a",
        "from a import b",
    ],
)
def test_what_cannot_matter_is_left_alone(source: str) -> None:
    assert _made(source) == []


def test_a_change_replaces_its_own_text_alone_whatever_stands_before_it() -> None:
    source = "x = 'äöü', (  # ß\n    1,\n    a <\n    b)\n"
    assert _made(source, "compare") == ["x = 'äöü', (  # ß\n    1,\n    (a <= b))\n"]


def test_a_change_knows_the_innermost_function_that_it_is_in() -> None:
    source = "a = 1\n@b\n@c\ndef f():\n    def g():\n        return 2\n    return [3 for _ in d]\n"
    numbers = [each for each in changes_of("a.py", source.encode()) if each.kind == "constant"]
    assert [(each.before, each.function) for each in numbers] == [("1", 0), ("2", 5), ("3", 2)]


@pytest.fixture(scope="module")
def everything() -> list[Change]:
    return all_changes(["core/exchanges/", "host/"])


def test_every_change_of_our_own_sources_can_be_compiled(everything: list[Change]) -> None:
    sources = {each.path: (ROOT / "src/quorate" / each.path).read_bytes() for each in everything}
    for change in everything[::40]:
        after = changed(sources[change.path], change)
        assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(sources[change.path])), change.name


def test_a_seed_draws_the_same_changes_each_once(everything: list[Change]) -> None:
    first = drawn(everything, count=300, seed=7)
    assert first == drawn(everything, count=300, seed=7)
    assert len({change.name for change in first}) == 300
    assert first != drawn(everything, count=300, seed=8)
    assert first[:100] == drawn(everything, count=100, seed=7)
    assert len({change.kind for change in first}) > 10


def test_more_than_there_are_is_all_of_them(everything: list[Change]) -> None:
    few = everything[:50]
    assert sorted(each.name for each in drawn(few, count=99, seed=1)) == sorted(
        each.name for each in few
    )
