# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree is the architecture: who imports whom, what the core may touch, how long a
thing may be (CONTRIBUTING.md). A limit that no test enforces does not hold."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
SPDX = "# SPDX-License-Identifier: GPL-3.0-or-later"
MODULE_LINES_MAX = 500
BODY_LINES_MAX = 50

_VALUES = {"core.values", "core.topology.layout"}
_EVERYTHING = {""}
ARROWS: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "notation": set(),
    "recurring": set(),
    "files": set(),
    "config": {"notation"},
    "loading": {"config", "files", "notation"},
    "addresses": {"config", "notation"},
    "settings": {"addresses", "config", "core.values"},
    "core": {"errors", "notation"},
    "wire": _VALUES | {"errors", "notation", "config"},
    "storage": _VALUES | {"errors", "wire"},
    "host": {"core", "errors", "notation", "config", "wire", "storage.engine"},
    "security": {"errors", "files", "notation", "config"},
    "runtime": _VALUES
    | {"errors", "files", "notation", "recurring", "host", "security", "wire.stun"},
    "doors": _VALUES
    | {"core.topology.topology"}
    | {"errors", "config", "notation", "recurring", "wire", "host.store", "security"},
    "client": {"errors", "notation", "wire"},
    "bench": {"errors", "config", "notation", "wire", "client"},
    "sim": {"core", "host", "wire", "storage", "errors", "notation", "config", "settings"},
    "starting": {"addresses", "config", "errors", "notation"}
    | {"runtime", "security", "storage.engine"},
    "app": _EVERYTHING,
    "cli": {
        "core.values.record",
        "errors",
        "config",
        "files",
        "loading",
        "notation",
        "addresses",
        "wire",
        "client",
        "bench",
        "sim",
        "security",
        "app",
    },
    "__main__": {"cli"},
}
"""What each part may import of ours, besides itself and the version; a name covers what is under
it. Only `app` puts concrete parts together, and only `cli` imports it."""

_BELOW_EXCHANGES = {
    *("values", "digests", "replica", "horizons", "turn", "topology", "consensus", "votes"),
    "moved_votes",
}
WALLS: dict[str, set[str]] = {
    "values": set(),
    "digests": {"values"},
    "horizons": {"values"},
    "kept_votes": {"values"},
    "replaced": {"values"},
    "replica": {"values", "digests", "horizons", "kept_votes", "replaced"},
    "votes": {"values", "replica", "consensus"},
    "moved_votes": {"values", "replica", "votes"},
    "turn": {"values", "replica", "votes"},
    "topology": {"values", "turn"},
    "consensus": {"values"},
    "exchanges": _BELOW_EXCHANGES,
    "voting": _BELOW_EXCHANGES | {"exchanges"},
    "serving": _BELOW_EXCHANGES | {"exchanges", "voting"},
    "local": _BELOW_EXCHANGES | {"exchanges", "serving"},
    "course": _BELOW_EXCHANGES | {"exchanges"},
    "views": _BELOW_EXCHANGES | {"exchanges", "course"},
    "node": _BELOW_EXCHANGES | {"exchanges", "serving", "local", "views"},
}
"""What each room of the core, and each module beside the rooms, may import of the core besides
itself, be it for a type."""

_BANNED_IN_CORE = {
    *("asyncio", "threading", "multiprocessing", "concurrent", "socket", "ssl", "os", "pathlib"),
    *("time", "datetime", "random", "uuid", "secrets", "logging", "tempfile", "subprocess"),
}


def _files(*roots: str) -> list[Path]:
    return sorted(path for root in roots for path in (ROOT / root).rglob("*.py"))


def _name(path: Path) -> str:
    """Dotted, without `quorate.`: `core.node`."""
    parts = path.relative_to(SRC / "quorate").with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(node: ast.AST, *, with_types: bool = True) -> Iterator[str]:
    """Every absolute import below a node, `from x import y` as `x.y`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif with_types or not _is_for_types(child):
            yield from _imports(child, with_types=with_types)


def _is_for_types(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def _ours(path: Path, *, with_types: bool = True) -> Iterator[str]:
    """What a module imports of ours, without `quorate.`."""
    for name in _imports(_parse(path), with_types=with_types):
        if name.split(".")[0] == "quorate":
            yield name.partition(".")[2]


SOURCES = {_name(path): path for path in _files("src")}


def test_a_module_imports_only_what_its_place_allows() -> None:
    for name, path in SOURCES.items():
        place = name.split(".")[0]
        allowed = ARROWS[place] | {place, "__version__"}
        for imported in _ours(path):
            assert any(
                prefix == "" or imported == prefix or imported.startswith(f"{prefix}.")
                for prefix in allowed
            ), f"{name} must not import {imported}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {_module_of(imported) for imported in _ours(path)} - {name}
        for name, path in SOURCES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' -> '.join([*trail, name])}"
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _module_of(imported: str) -> str:
    """The module that an imported name is, or is in."""
    while imported not in SOURCES:
        imported, _, last = imported.rpartition(".")
        if not last:
            return "__init__"
    return imported


# --- names --------------------------------------------------------------------------------------


def test_a_name_of_a_class_or_alias_means_one_thing() -> None:
    """In what is shipped and in `bench/`; type variables, which only their module has, aside."""
    modules: dict[str, set[Path]] = {}
    for path in _files("src", "bench"):
        for name in _types_of(_parse(path)):
            modules.setdefault(name, set()).add(path.relative_to(ROOT))
    assert {"Row", "Machine", "BenchRow", "_Asked"} <= modules.keys()
    shared = {name: where for name, where in modules.items() if len(where) > 1}
    assert shared == {}


def _types_of(module: ast.Module) -> Iterator[str]:
    """The names of classes at any depth, and of type aliases: `Row = tuple[int, ...]`."""
    yield from (node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef))
    for node in module.body:
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):
            names = [each.id for each in node.targets if isinstance(each, ast.Name)]
            yield from (name for name in names if _looks_like_a_type(name))


def _looks_like_a_type(name: str) -> bool:
    """`Row` and `_Row`; no constant is, `ROWS`, and no variable, `row`."""
    return name.lstrip("_")[:1].isupper() and not name.isupper()


# --- both worlds --------------------------------------------------------------------------------

RUN_LINES: Final = 6


def test_no_run_of_six_equal_lines_stands_in_both_sim_and_host() -> None:
    """The simulator drives what decides, and has no copy of it."""
    in_host = {run: where for path in _files("src/quorate/host") for where, run in _runs(path)}
    assert in_host
    both = [
        f"{where} and {in_host[run]}"
        for path in _files("src/quorate/sim")
        for where, run in _runs(path)
        if run in in_host
    ]
    assert both == []


def _runs(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where each run of lines begins, and its lines, without imports, blanks and indentation."""
    imported = {
        number
        for node in ast.walk(_parse(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [
        (number, line.strip())
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip() and number not in imported
    ]
    for first in range(len(lines) - RUN_LINES + 1):
        run = lines[first : first + RUN_LINES]
        yield f"{path.relative_to(ROOT)}:{run[0][0]}", tuple(line for _, line in run)


# --- the core ----------------------------------------------------------------------------------

CORE = [name for name in SOURCES if name.startswith("core.")]
SEEDED = [name for name in SOURCES if name.startswith(("core.", "host."))]
"""The core and what decides between it and the operating system: both run under a seed."""


def test_who_inherits_from_a_compiled_class_is_compiled() -> None:
    """Nothing else can, which plain modules do not show."""
    script = _parse(ROOT / "hatch_build.py")
    (listed,) = [
        each.value
        for each in script.body
        if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "COMPILED"
    ]
    assert listed is not None
    compiled = eval(ast.unparse(listed))
    bases = {
        each.name
        for name in compiled
        for each in ast.walk(_parse(ROOT / "src" / "quorate" / name))
        if isinstance(each, ast.ClassDef)
        # These are no protocols, structs or tuples, which anything may inherit from.
        and not {"Protocol", "Struct", "NamedTuple"} & set(_names_of(each.bases))
    }
    assert "Judge" in bases
    wrong = [
        f"{path.relative_to(ROOT)}: {each.name}"
        for path in _files("src")
        if str(path.relative_to(ROOT / "src" / "quorate")) not in compiled
        for each in ast.walk(_parse(path))
        if isinstance(each, ast.ClassDef) and bases & set(_names_of(each.bases))
    ]
    assert wrong == []


def _names_of(bases: list[ast.expr]) -> Iterator[str]:
    """The last words of what classes are built on: `Exchange[Op, Answer]` is `Exchange`."""
    for base in bases:
        while isinstance(base, ast.Subscript):
            base = base.value
        yield ast.unparse(base).rpartition(".")[2]


def test_a_room_of_the_core_imports_only_rooms_below_it() -> None:
    for name in CORE:
        room = name.split(".")[1]
        for imported in _ours(SOURCES[name]):
            place, _, rest = imported.partition(".")
            is_allowed = place != "core" or rest.split(".")[0] in WALLS[room] | {room}
            assert is_allowed, f"{name} must not import {imported}"


def test_the_core_reads_no_clock_socket_file_thread_or_chance() -> None:
    """P8: all of these come in as arguments. Third parties: msgspec."""
    known = {"quorate", "msgspec", *sys.stdlib_module_names} - _BANNED_IN_CORE
    for name in SEEDED:
        for imported in _imports(_parse(SOURCES[name]), with_types=False):
            assert imported.split(".")[0] in known, f"{name} imports {imported}"


def test_the_core_awaits_nothing_and_hashes_nothing_by_the_process() -> None:
    """Built-in `hash` is salted: what it places or orders differs from run to run."""
    waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    banned = {"hash", "id", "open", "print", "input"}
    for name in SEEDED:
        for node in ast.walk(_parse(SOURCES[name])):
            assert not isinstance(node, waiting), f"{name}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in banned, f"{name}:{node.lineno} calls {node.func.id}"


_POSSESSIVE_GROUP: Final = re.compile(r"(?<!\\)\)(?:[*+?]|\{[^{}]*\})\+")


@pytest.mark.parametrize(
    ("pattern", "is_one"),
    [
        *(("(?:ab?c)*+d", True), ("(a){1,64}+", True), ("(?:a){1,%d}+", True)),
        *(("(?>(?:a)*)b++", False), (r"\)*+", False)),
    ],
)
def test_a_group_that_is_repeated_and_kept_is_told(pattern: str, is_one: bool) -> None:
    assert bool(_POSSESSIVE_GROUP.search(pattern)) is is_one


def test_no_expression_repeats_a_group_and_keeps_it_by_the_shorter_notation() -> None:
    """`(?:...)*+` takes part of what does not match, before Python 3.11.5 (Debian 12 has 3.11.2);
    `(?>(?:...)*)` does not."""
    for path in _files("src"):
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                assert not _POSSESSIVE_GROUP.search(text), f"{path}:{node.lineno}"


# --- sizes -------------------------------------------------------------------------------------

EVERY_FILE = _files("src", "tests", "bench", "scripts")


def test_a_file_is_short_has_short_functions_and_names_its_licence() -> None:
    for path in EVERY_FILE:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines, f"{path} is empty and has no licence line"
        assert lines[0] == SPDX, path
        assert len(lines) <= MODULE_LINES_MAX, f"{path} has {len(lines)} lines"
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = _body_lines(node)
                assert length <= BODY_LINES_MAX, f"{path}: {node.name} has {length} lines"


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, its docstring not counted."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if not body:
        return 0
    end = body[-1].end_lineno
    assert end is not None
    return end - body[0].lineno + 1


def test_a_module_says_what_it_is_for() -> None:
    for name, path in SOURCES.items():
        assert ast.get_docstring(_parse(path)), f"{name} has no docstring"
