# SPDX-License-Identifier: GPL-3.0-or-later
"""Small changes of meaning that can be made in a source file, one at a time.

Each replaces the text of one node of the syntax tree. Not made are those that cannot matter: in
annotations, docstrings and other texts, `assert`, `__slots__`, `__repr__`, `del name`; and numbers
from 100 on, which are sizes and times that somebody chose. In f-strings Python 3.11 does not know
where an expression stands, so nothing is changed there.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

NUMBER_MAX: Final = 100
"""A number from here on is a matter of taste."""


class Change(msgspec.Struct, frozen=True):
    """One small change of one file."""

    path: str
    """Of the file, from `src/quorate` on."""
    line: int
    function: int
    """The first line of the innermost function around it, decorators included; 0 for none."""
    kind: str
    before: str
    after: str
    start: int
    """In bytes of the file; `end` is behind what is replaced."""
    end: int

    @property
    def name(self) -> str:
        """One line, the same as long as the file is."""
        return f"{self.path}:{self.line}+{self.start} {self.kind}: {self.before} -> {self.after}"


Found = tuple[str, ast.AST, str]
"""A kind, the node, and what is put in its place."""


def changes_of(path: str, source: bytes) -> list[Change]:
    """All changes that can be made in a file, in the order of its text."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    changes = {}
    for function, (kind, node, after) in _walk(ast.parse(source), 0):
        assert isinstance(node, (ast.expr, ast.stmt))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = lines[node.lineno - 1] + node.col_offset
        end = lines[node.end_lineno - 1] + node.end_col_offset
        before = " ".join(source[start:end].decode().split())
        change = Change(path, node.lineno, function, kind, before, after, start, end)
        if after not in (before, ast.unparse(node)):
            changes[start, end, after] = change
    return sorted(changes.values(), key=lambda change: (change.start, change.end))


def changed(source: bytes, change: Change) -> bytes:
    """The file with the change made."""
    return source[: change.start] + change.after.encode() + source[change.end :]


def first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The line at which the code of a function begins, as Python counts it."""
    return min([node.lineno, *[each.lineno for each in node.decorator_list]])


def _walk(node: ast.AST, function: int) -> Iterator[tuple[int, Found]]:
    """What can be changed at the node and below it."""
    if _cannot_matter(node):
        return
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        function = first_line(node)
    rule = _RULES.get(type(node))
    if rule is not None:
        for found in rule(node):
            yield function, found
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, function)


_TEXT_ONLY: Final = ("__repr__", "__str__")


def _cannot_matter(node: ast.AST) -> bool:
    if isinstance(node, (ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name in _TEXT_ONLY
    if isinstance(node, ast.Assign):
        return any(isinstance(to, ast.Name) and to.id == "__slots__" for to in node.targets)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.keyword):
        return node.arg in ("frozen", "strict")  # mypy sees to the one, the other is an assertion.
    if isinstance(node, ast.Delete):
        return all([isinstance(each, ast.Name) for each in node.targets])
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _text(node: ast.AST) -> str:
    return ast.unparse(node)


def _copy(node: Any, **fields: Any) -> str:
    """The node as text, with other fields."""
    values = {name: getattr(node, name) for name in node._fields} | fields
    return f"({_text(ast.fix_missing_locations(type(node)(**values)))})"


# --- expressions -------------------------------------------------------------------------------

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TELLING: Final = ("debug", "info", "warning", "error", "critical", "note", "note_rarely", "zip")
"""What these are given besides is text for people, or more of the same."""


def _compare(node: ast.Compare) -> Iterator[Found]:
    for index, op in enumerate(node.ops):
        ops = [*node.ops]
        ops[index] = _COMPARED[type(op)]()
        yield "compare", node, _copy(node, ops=ops)


def _bool_op(node: ast.BoolOp) -> Iterator[Found]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or", node, _copy(node, op=other)
    for index in range(len(node.values)):
        values = node.values[:index] + node.values[index + 1 :]
        left = values[0] if len(values) == 1 else ast.BoolOp(node.op, values)
        yield "dropped term", node, f"({_text(left)})"


def _not(node: ast.UnaryOp) -> Iterator[Found]:
    if isinstance(node.op, ast.Not):
        yield "not", node, f"bool({_text(node.operand)})"


def _bin_op(node: ast.BinOp) -> Iterator[Found]:
    sides = (node.left, node.right)
    is_of_text = any(
        isinstance(each, ast.JoinedStr)
        or (isinstance(each, ast.Constant) and isinstance(each.value, str))
        for each in sides
    )
    is_size = all(isinstance(each, ast.Constant) for each in sides)  # 64 << 20, say.
    other = _COMPUTED.get(type(node.op))
    if other is not None and not is_of_text and not is_size:
        yield "operator", node, _copy(node, op=other())


def _constant(node: ast.Constant) -> Iterator[Found]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", node, str(not value)
    elif isinstance(value, (int, float)) and abs(value) < NUMBER_MAX:
        yield "constant", node, repr(value + 1)


def _call(node: ast.Call) -> Iterator[Found]:
    if isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        yield "call", node, _copy(node, func=ast.Name(_CALLED[node.func.id]))
    args = node.args
    if len(args) == 2 and not any(
        [isinstance(each, (ast.Starred, ast.JoinedStr)) for each in args]
    ):
        is_text = any([isinstance(a, ast.Constant) and isinstance(a.value, str) for a in args])
        is_same = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")
        if not is_text and not is_same:
            yield "swapped arguments", node, _copy(node, args=args[::-1])
        if is_same:
            for each in args:
                yield "one of two", node, f"({_text(each)})"
    yield from _dropped_arguments(node)


def _dropped_arguments(node: ast.Call) -> Iterator[Found]:
    """One argument less: what stands there by default is in force then, and where nothing does the
    first test notices."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else _text(node.func)
    if name in _TELLING:
        return
    for index, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "strict"):
            keywords = node.keywords[:index] + node.keywords[index + 1 :]
            yield "dropped argument", node, _copy(node, keywords=keywords)
    args = node.args
    if len(args) > 2 and not isinstance(args[-1], ast.Starred):
        yield "dropped argument", node, _copy(node, args=args[:-1])


def _slice(node: ast.Slice) -> Iterator[Found]:
    for name in ("lower", "upper"):
        bound = getattr(node, name)
        if isinstance(bound, ast.expr) and not isinstance(bound, ast.Constant):
            yield "boundary", bound, f"{_text(bound)} + 1"


def _if_exp(node: ast.IfExp) -> Iterator[Found]:
    yield "condition", node.test, f"not ({_text(node.test)})"


# --- statements --------------------------------------------------------------------------------


def _if(node: ast.If | ast.While) -> Iterator[Found]:
    is_plain = isinstance(node.test, (ast.Name, ast.Attribute, ast.Call))
    if is_plain:
        yield "condition", node.test, f"not {_text(node.test)}"
    if isinstance(node, ast.If):
        yield "condition", node.test, "False"
        yield "condition", node.test, "True"


def _expression(node: ast.Expr) -> Iterator[Found]:
    if isinstance(node.value, ast.Await):
        yield "dropped await", node.value, _text(node.value.value)
    if isinstance(node.value, (ast.Call, ast.Await)):
        yield "removed call", node, "pass"


def _assign(node: ast.Assign | ast.AnnAssign) -> Iterator[Found]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    # Without a name's only assignment nothing runs at all; that is no test of the tests.
    stored = [each for to in targets for each in ast.walk(to) if isinstance(each, ast.Name)]
    if not any([isinstance(each.ctx, ast.Store) for each in stored]):
        yield "removed assignment", node, "pass"


def _aug_assign(node: ast.AugAssign) -> Iterator[Found]:
    yield "removed assignment", node, "pass"
    yield "plain assignment", node, f"{_text(node.target)} = {_text(node.value)}"
    other = _COMPUTED.get(type(node.op))
    if other is not None:
        yield "operator", node, _copy(node, op=other())[1:-1]


def _removed(node: ast.stmt) -> Iterator[Found]:
    yield "removed statement", node, "pass"


def _continue(node: ast.Continue) -> Iterator[Found]:
    yield "continue/break", node, "break"


def _break(node: ast.Break) -> Iterator[Found]:
    yield "continue/break", node, "continue"


_EMPTY: Final = {
    "bool": ("True", "False"),
    "int": ("0", "1"),
    "float": ("0.0",),
    "str": ("''",),
    "bytes": ("b''",),
}


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Found]:
    """Each of its returns, replaced by a plain value of its type."""
    type_ = "" if node.returns is None else _text(node.returns)
    values = _EMPTY.get(type_, ())
    if type_.endswith("| None"):
        values = ("None",)
    elif type_.startswith("list["):
        values = ("[]",)
    elif type_.startswith(("dict[", "set[")):
        values = (f"{type_[: type_.index('[')]}()",)
    for each in _returns(node):
        if each.value is None:
            yield "removed statement", each, "pass"
            continue
        for value in values:
            yield "returned", each.value, value


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """Those of the function itself."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _returns(child)


_RULES: Final[dict[type[ast.AST], Callable[[Any], Iterator[Found]]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _bool_op,
    ast.UnaryOp: _not,
    ast.BinOp: _bin_op,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.Slice: _slice,
    ast.IfExp: _if_exp,
    ast.If: _if,
    ast.While: _if,
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _assign,
    ast.AugAssign: _aug_assign,
    ast.Delete: _removed,
    ast.Raise: _removed,
    ast.Continue: _continue,
    ast.Break: _break,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
}
