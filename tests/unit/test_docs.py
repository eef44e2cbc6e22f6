# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages and code agree: what is cited exists, links lead somewhere, and flags are flags."""

from __future__ import annotations

import ast
import functools
import io
import json
import re
import shlex
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from quorate.cli.commands import COMMANDS
from quorate.config import KEY_BYTES_MAX, SETTINGS, Config
from quorate.core.exchanges.outbox import STEP_BYTES_MAX, UNANSWERED_BYTES_MAX
from quorate.core.topology.roster import HEARSAY_MAX
from quorate.core.values.settings import MEMBERS_MAX
from quorate.doors.handshakes import ADDRESS_MAX, HANDSHAKE_SECONDS, HANDSHAKES_MAX
from quorate.doors.limits import IDLE_SECONDS, PROGRESS_BYTES, REQUEST_SECONDS
from quorate.doors.logins import CHECKS_MAX, SOURCE_CHECKS_MAX
from quorate.doors.port import UNDECIDED_SECONDS
from quorate.doors.redis import table
from quorate.host.acceptor import UNPROVEN_MAX
from quorate.host.links import OUTBOX_BYTES_MAX
from quorate.loading import load
from quorate.sim.faults import FAULTS
from quorate.wire.frames import FRAME_BYTES_MAX

ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = ROOT / "src" / "quorate"
_TEXT: Final = {"", ".py", ".md", ".toml", ".yml", ".yaml", ".service", ".json", ".txt", ".ps1"}
_FOREIGN: Final = {"LICENSE", "tests/unit/test_docs.py"}
"""Another's text, and this file, which has to say what it looks for."""

_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_PAGE: Final = re.compile(r"(?<![\w/.-])([\w./-]*\w\.md)(#[\w-]+)?(?![\w/])")
_SPAN: Final = re.compile(r"`([\w.-]+(?:/[\w.*-]*)*)`")
_SUFFIXES: Final = (".py", ".json", ".txt")
_NUMBER: Final = re.compile(r"\b[PI][0-9]{1,2}\b")
_ELSEWHERE: Final = re.compile(
    r"\b[SN][0-9]{1,2}\b|\btest_(?:[a-z][0-9]{1,2}|rows?_[0-9]+)_|\b[Rr]ows? [0-9]+\b(?! %)"
    r"|\b(?:DESIGN|HOUSE_STYLE|RELIABILITY|FEATURES|PERFORMANCE|MEMBERSHIP|SECURITY)\b(?!\.md)"
    r"|(?<!\w, )\b[Ss]ections? [0-9]"
)
"""Numbers of lists that are not here, names of pages that are not, sections of neither a page nor a
paper that is named before."""
_FLAG: Final = re.compile(r"(?:^|(?<=[\s,]))--?([RW]\b|[A-Za-z][\w-]+)")


def _texts() -> Iterator[Path]:
    roots = (".ci", ".github", "bench", "deploy", "docs", "scripts", "src", "tests")
    inside = (path for root in roots for path in (ROOT / root).rglob("*"))
    for path in sorted([*inside, *ROOT.glob("*.*"), ROOT / "LICENSE"]):
        if path.is_file() and path.suffix in _TEXT and _name(path) not in _FOREIGN:
            yield path


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FILES: Final = list(_texts())
PAGES: Final = [path for path in FILES if path.suffix == ".md"]
NAMES: Final = frozenset(_name(path) for path in FILES)
"""A test goes through all of them: a test for each, by thousands, took longer than what they do."""


@functools.cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def _prose(path: Path) -> str:
    """What a file says to people: of Python its comments and docstrings."""
    if path.suffix != ".py":
        return _read(path)
    said: list[str] = []
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(_read(path)).readline):
        is_statement = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and is_statement):
            said.append(token.string)
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type
    return "\n".join(said)


@functools.cache
def _anchors(page: Path) -> frozenset[str]:
    """What a page can be entered at: its headings, and what it names itself."""
    text = re.sub(r"^```.*?^```", "", _read(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return frozenset([*slugs, *re.findall(r'<a id="([\w-]+)">', text)])


def _ids(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=_name(path)) for path in paths]


# --- citations ---------------------------------------------------------------------------------


def test_nothing_is_cited_that_is_not_in_the_tree() -> None:
    cited = [(_name(path), each) for path in FILES for each in _ELSEWHERE.findall(_read(path))]
    assert cited == []


def test_each_promise_and_invariant_that_is_cited_is_in_the_design() -> None:
    anchors = _anchors(ROOT / "docs" / "design.md")
    cited = [(_name(path), each) for path in FILES for each in _NUMBER.findall(_read(path))]
    assert [each for each in cited if each[1].lower() not in anchors] == []


def test_the_design_has_each_promise_and_invariant_once() -> None:
    numbers = re.findall(r'<a id="([pi][0-9]+)">', _read(ROOT / "docs" / "design.md"))
    assert numbers == [f"p{n}" for n in range(1, 9)] + [f"i{n}" for n in range(1, 35)]


def test_each_page_that_is_named_exists_and_has_the_anchor() -> None:
    for path in FILES:
        for name, anchor in _PAGE.findall(_prose(path)):
            places = [base / name for base in (path.parent, ROOT, ROOT / "docs")]
            page = next((place for place in places if place.is_file()), None)
            assert page is not None, f"{_name(path)}: {name} does not exist"
            assert not anchor or anchor[1:] in _anchors(page), (
                f"{_name(path)}: {name} has no {anchor}"
            )


@pytest.mark.parametrize("page", _ids(PAGES))
def test_each_link_between_pages_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(_read(page)):
        if "://" not in link:
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in _anchors(target), link


def test_each_module_and_file_that_is_named_by_its_path_exists() -> None:
    named = [(_name(path), each) for path in FILES for each in _SPAN.findall(_prose(path))]
    assert [each for each in named if _is_path(each[1]) and not _exists(each[1])] == []


def _is_path(name: str) -> bool:
    top, slash, _ = name.partition("/")
    if not slash or name != name.lower():  # `seedN.json` stands for many.
        return name.endswith(".py")
    if top == "build":  # Made when it is needed.
        return False
    return name.endswith(_SUFFIXES) or any((base / top).is_dir() for base in (ROOT, _SOURCES))


@functools.cache
def _exists(name: str) -> bool:
    """`core/node.py`, `core/node`, `core/node.step`, `test_node.py`, `core/`, `tests/*.py`."""
    stem = name.rpartition(".")[0]
    spelled = [name.rstrip("/"), f"{name}.py", f"{stem}.py"]
    return any(
        any(base.glob(each)) or any(known.endswith(f"/{each}") for known in NAMES)
        for each in spelled
        for base in (ROOT, _SOURCES)
    )


# --- tables ------------------------------------------------------------------------------------


def _section(page: str, heading: str) -> str:
    """What stands under a heading."""
    _, _, rest = _read(ROOT / "docs" / page).partition(f"\n## {heading}\n")
    assert rest, f"{page} has no {heading!r}"
    return rest.partition("\n## ")[0]


def _rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    lines = [line for line in _section(page, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_each_fault_is_planned_for() -> None:
    cells = [cells[1] for cells in _rows("design.md", "Faults that are planned for")]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(FAULTS)


def test_each_checker_asks_for_an_invariant() -> None:
    modules = {path.stem for path in (_SOURCES / "sim" / "checkers").glob("[a-z]*.py")}
    cells = [cells[2] for cells in _rows("design.md", "The invariants")]
    named = set(re.findall(r"`(\w+)`", _section("design.md", "The invariants")))
    assert modules - {"violation", "watch"} - named == set()
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) - {"EXPIRE", "GETDEL"} - modules == set()


def test_each_planted_fault_is_told_with_its_seed() -> None:
    seeds = json.loads(_read(ROOT / "tests" / "simulation" / "plants" / "seeds.json"))
    told = {cells[0]: cells[1:3] for cells in _rows("simulation.md", "Proof that it bites")}
    assert told == {
        name: [", ".join(notice["broken"]), str(notice["seed"])] for name, notice in seeds.items()
    }


def test_each_flag_of_the_simulator_is_told() -> None:
    cells = [cells[0] for cells in _rows("simulation.md", "Flags")]
    (command,) = (each for each in COMMANDS if each.name == "sim")
    assert set(_FLAG.findall(" ".join(cells).replace("`", " "))) == {
        flag.name for flag in command.flags
    }


def test_each_redis_command_is_told() -> None:
    words = set(re.findall(r"[A-Z]+(?:\.[A-Z]+)?", _read(ROOT / "docs" / "redis.md")))
    assert [name.decode() for name in table.COMMANDS if name.decode() not in words] == []


def test_each_limit_is_told_with_its_default() -> None:
    defaults = {f"-{each.name}": each.default for each in SETTINGS}
    known = {
        "a key": f"{KEY_BYTES_MAX:,} bytes",
        "members": f"{MEMBERS_MAX:,}; of these {HEARSAY_MAX} ",
        "silence of a client before its first command": (
            f"{REQUEST_SECONDS:g} s, and {UNDECIDED_SECONDS:g} s"
        ),
        "silence of an HTTP client between requests": f"{IDLE_SECONDS:g} s",
        "TLS handshakes at once": (
            f"{HANDSHAKES_MAX}, of one address {ADDRESS_MAX}, {HANDSHAKE_SECONDS:g} s each"
        ),
        "half a request": (
            f"{REQUEST_SECONDS:g} s, of an HTTP body for each {PROGRESS_BYTES >> 10} KiB"
        ),
        "a client that takes none of its replies": f"{REQUEST_SECONDS:g} s",
        "logins that wait to be checked": f"{CHECKS_MAX}, and {SOURCE_CHECKS_MAX} of one address",
        "links of peers": f"one for each, both ways; {UNPROVEN_MAX} more ",
        "answers to one peer": f"{STEP_BYTES_MAX >> 20} MiB ",
        "what a peer has not answered": f"{UNANSWERED_BYTES_MAX >> 20} MiB",
        "what a peer has not read": f"{OUTBOX_BYTES_MAX >> 20} MiB",
        "a frame of a peer": f"{FRAME_BYTES_MAX >> 20} MiB",
    }
    for what, setting, told, _ in _rows("operations.md", "Limits"):
        flag = re.match("`([^`]+)`", setting)
        assert told == defaults[flag[1]] if flag else told.startswith(known.pop(what)), what
    assert known == {}


def _logged() -> set[str]:
    """The event of each line that a node may log."""
    events: set[str] = set()
    for path in _SOURCES.rglob("*.py"):
        if path.relative_to(_SOURCES).parts[0] in ("sim", "cli", "bench", "client"):
            continue
        for node in ast.walk(ast.parse(_read(path))):
            if not isinstance(node, ast.Call):
                continue
            events |= set(_event(node))
    return events


_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def _event(call: ast.Call) -> Iterator[str]:
    attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if attribute in ("note", "note_rarely") or ast.unparse(call.func) in ("Note", "log.log"):
        names = call.args[1:2]
    elif attribute == "fault" or (
        attribute in _LEVELS and ast.unparse(call.func).startswith(("log.", "_log."))
    ):
        names = call.args[:1]
    else:
        return
    for name in names:
        yield from re.findall(r"'(\w+)'", ast.unparse(name))


def test_each_event_of_the_log_is_told() -> None:
    told = re.findall(
        r"`([a-z_]+)`", " ".join(cells[0] for cells in _rows("operations.md", "The log"))
    )
    assert sorted(_logged() - set(told)) == []
    assert sorted(set(told) - _logged()) == []


# --- examples ----------------------------------------------------------------------------------


def _examples(kind: str) -> list[str]:
    """The blocks of that language on the page for operators."""
    text = _read(ROOT / "docs" / "operations.md")
    found = re.findall(rf"^ *```{kind}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    assert found, kind
    return found


def test_the_settings_of_an_example_are_settings(tmp_path: Path) -> None:
    for number, text in enumerate(_examples("toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        assert load(flags={}, environment={}, file=file) != Config()


def test_the_commands_of_examples_can_be_read_by_a_shell() -> None:
    for text in _examples("sh"):
        done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_each_node_of_the_page_about_networks_would_start() -> None:
    """With the secret in the variable, as the page says."""
    text = _read(ROOT / "docs" / "networking.md").replace("\\\n", " ").replace("$POD", "q-0")
    assert "export QUORATE_SECRET_FILE=" in text
    lines = re.findall(r"^quorate serve (.*)$", text, re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        flags = dict(
            word.lstrip("-").partition("=")[::2] for word in shlex.split(line, comments=True)
        )
        config = load(flags=flags, environment={"QUORATE_SECRET_FILE": "quorate.secret"}, file=None)
        assert config.secret_file == "quorate.secret", line


# --- flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", _ids(PAGES))
def test_each_flag_that_a_page_names_is_one(page: Path) -> None:
    known = {name for each in SETTINGS for name in (each.name, *each.aliases)}
    for command in COMMANDS:
        known |= {name for flag in command.flags for name in (flag.name, *flag.aliases)}
    text = _read(page)
    spans = re.findall(r"`(--?[A-Za-z][^`\n]*)`", text)
    lines = re.findall(r"(?:^|`)quorate ([^`#\n]*)", text, re.MULTILINE)
    named = {name for each in (*spans, *lines) for name in _FLAG.findall(each)}
    assert sorted(named - known - {"help"}) == []
