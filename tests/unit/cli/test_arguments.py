# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags with one or two dashes, `=` or a space, anywhere; command lines as people know them."""

from __future__ import annotations

import re

import pytest

from quorate.cli.arguments import CommandLine, Flag, Subcommand, UsageError, needed, read

PUT = Subcommand(
    "put",
    "Write.",
    "data",
    (
        Flag("key", "k"),
        Flag("value", "v", remedy="give it"),
        Flag("W", "w", aliases=("w",)),
        Flag("json", "j"),
    ),
    positionals=("key", "value"),
    required=("key", "value"),
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["put", "--key=foo", "--value=bar"],
        ["put", "-key=foo", "-value=bar"],
        ["put", "--key", "foo", "--value", "bar"],
        ["put", "-key", "foo", "bar"],
        ["put", "foo", "bar"],
        ["--key=foo", "put", "--value=bar"],
        ["-value", "bar", "put", "foo"],
        ["put", "--value=bar", "--", "foo"],
    ],
)
def test_however_it_is_written_it_means_the_same(arguments: list[str]) -> None:
    line = read(arguments)
    assert line.command == "put"
    assert line.given(PUT) == {"key": "foo", "value": "bar"}


def test_bare_flags_are_flags_without_a_command() -> None:
    line = read(
        [
            "-port=8000",
            "-nodes=http://localhost:8000,http://localhost:8001",
            "-replication=2",
            "-W=2",
            "-R=1",
        ]
    )
    assert (line.command, line.positionals) == ("", [])
    assert dict(line.flags) == {
        "port": "8000",
        "nodes": "http://localhost:8000,http://localhost:8001",
        "replication": "2",
        "W": "2",
        "R": "1",
    }


@pytest.mark.parametrize("value", ["", "-x", "--key", "a=b", "two\nlines", "--"])
def test_a_value_may_be_anything(value: str) -> None:
    assert read(["put", "foo", f"--value={value}"]).given(PUT) == {"key": "foo", "value": value}
    assert read(["put", "foo", "--value", value]).given(PUT) == {"key": "foo", "value": value}


def test_what_follows_two_dashes_or_begins_with_no_letter_is_no_flag() -> None:
    assert read(["put", "-", "-5"]).positionals == ["-", "-5"]
    assert read(["put", "--", "--json", "--"]).positionals == ["--json", "--"]


def test_a_switch_takes_no_value_but_may_be_given_one() -> None:
    assert read(["--json", "put", "a"]).flags == [("json", None)]
    assert read(["serve", "-allow-flush=false"]).flags == [("allow-flush", "false")]


def test_some_flags_mean_something_without_a_value_and_take_one_behind_an_equals_sign() -> None:
    line = CommandLine("bench", [("dev", None)], ["url"], {"dev": "--"})
    assert read(["bench", "--dev", "url"]) == line
    assert read(["bench", "--dev=5"]).flags == [("dev", "5")]
    assert needed("dev", None, dashes="--") == "3"
    assert needed("dev", "5", dashes="--") == "5"


def test_h_is_help() -> None:
    assert read(["get", "-h"]).flags == [("help", None)]


def test_aliases_are_given_under_the_main_name_and_the_last_one_counts() -> None:
    assert read(["put", "a", "b", "-w=1", "-W=2", "--json"]).given(PUT) == {
        "key": "a",
        "value": "b",
        "W": "2",
        "json": "true",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b", "--flub"], "no such option: --flub; see quorate put --help"),
        (["a", "b", "--flub=1"], "no such option: --flub; see quorate put --help"),
        (["a", "b", "--valeu=1"], "no such option: --valeu; did you mean --value?"),
        (["a", "b", "--jsno"], "no such option: --jsno; did you mean --json?"),
        (["a", "b", "-valeu=1"], "no such option: -valeu; did you mean -value?"),
        (["a", "-value"], "-value needs a value: write -value=..."),
        (["a", "b", "-json=yes"], "-json takes no value"),
        (["a", "--value"], "--value needs a value: write --value=..."),
        (["a", "b", "--json=yes"], "--json takes no value"),
        (["a", "b", "c"], "put: one argument too many: 'c'; quote what has spaces"),
        (["a"], "put: no value: give it"),
        ([], "put: no key: write quorate put KEY VALUE"),
    ],
)
def test_each_mistake_is_named(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        read(["put", *arguments]).given(PUT)


def test_a_flag_is_there_with_a_value_or_without() -> None:
    line = read(["put", "--json", "-w=1"])
    assert [line.has(name) for name in ("json", "w", "W")] == [True, True, False]
