# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests a change is put to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.changes import Change, changes_of
from tests.mutation.reach import SECONDS_MAX, TESTS_MAX, Reach, Test

SOURCE = """\
A = 1


def outer():
    def inner():
        return 2

    return [3 for _ in inner()]


@property
def decorated():
    return 4
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text(SOURCE)
    return tmp_path


def _change(number: int) -> Change:
    (found,) = [
        each
        for each in changes_of("core/a.py", SOURCE.encode())
        if (each.kind, each.before) == ("constant", str(number))
    ]
    return found


def test_a_change_is_put_to_the_tests_that_call_its_function_cheapest_first(package: Path) -> None:
    reach = Reach(
        [
            Test("t/test_b.py::slow", 2.0, ["core/a.py:4", "core/a.py:5"]),
            Test("t/test_b.py::quick", 1.0, ["core/a.py:5"]),
            Test("t/test_b.py::comprehension", 1.5, ["core/a.py:8"]),
            Test("t/test_a.py::own", 3.0, ["core/a.py:11"]),
        ],
        package,
    )
    assert reach.tests_of(_change(2)) == ["t/test_b.py::quick", "t/test_b.py::slow"]
    assert reach.tests_of(_change(3)) == ["t/test_b.py::comprehension", "t/test_b.py::slow"]
    assert reach.tests_of(_change(4)) == ["t/test_a.py::own"]
    everyone = reach.tests_of(_change(1))
    assert everyone[0] == "t/test_a.py::own", "its own module's tests come first"
    assert len(everyone) == 4


def test_no_more_tests_are_chosen_than_there_is_time_for(package: Path) -> None:
    tests = [Test(f"t/test_b.py::{i}", SECONDS_MAX / 4, ["core/a.py:5"]) for i in range(9)]
    assert len(Reach(tests, package).tests_of(_change(2))) == 4


def test_where_many_call_a_function_one_is_chosen_for_each_other_of_its_file(package: Path) -> None:
    """Of a class whose `__init__` all call, a rare method's test may be the only one that sees."""
    tests = [Test(f"t/test_b.py::{i}", 0.01, ["core/a.py:5"]) for i in range(TESTS_MAX)]
    tests.append(Test("t/test_b.py::rare", 9.0, ["core/a.py:5", "core/a.py:11"]))
    chosen = Reach(tests, package).tests_of(_change(2))
    assert len(chosen) == TESTS_MAX
    assert chosen[-1] == "t/test_b.py::rare", "last, for it is slow"
    tests[-1] = Test("t/test_b.py::rare", SECONDS_MAX * 0.9, tests[-1].functions)
    chosen = Reach(tests, package).tests_of(_change(2))
    assert chosen == [test.name for test in tests[:TESTS_MAX]], (
        "too slow to leave others their time"
    )


def test_what_whole_nodes_run_has_tests_beside(package: Path) -> None:
    reach = Reach([], package)
    change = _change(2)
    assert reach.tests_of(change) == []
    assert reach.is_simulated(change)
    assert reach.beside(change) == []
