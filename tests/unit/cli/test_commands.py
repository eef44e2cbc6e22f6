# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of commands is sound: every row leads somewhere, and no name means two things."""

from __future__ import annotations

import importlib
from collections import Counter

import pytest

from quorate.cli.arguments import SWITCHES, Subcommand
from quorate.cli.commands import COMMANDS
from quorate.config import SETTINGS


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_function_and_names_that_are_flags(command: Subcommand) -> None:
    assert callable(
        getattr(importlib.import_module(f"quorate.cli.{command.module}"), f"run_{command.name}")
    )
    names = {flag.name for flag in command.flags}
    assert {*command.positionals, *command.required} <= names


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_no_flag_is_declared_twice_and_a_switch_has_no_default(command: Subcommand) -> None:
    names = Counter(name for flag in command.flags for name in (flag.name, *flag.aliases))
    assert set(names.values()) <= {1}
    assert not [flag for flag in command.flags if flag.name in SWITCHES and flag.default]


def test_the_settings_that_need_no_value_are_those_that_are_on_or_off() -> None:
    """The command line is read before the settings are imported, which takes longer than a get."""
    on_or_off = {each.name for each in SETTINGS if each.default in ("true", "false")}
    assert {each.name for each in SETTINGS} & SWITCHES == on_or_off


def test_no_command_is_named_twice() -> None:
    names = Counter(name for command in COMMANDS for name in (command.name, *command.aliases))
    assert set(names.values()) == {1}


def test_every_command_has_json() -> None:
    without = {
        command.name for command in COMMANDS if "json" not in {flag.name for flag in command.flags}
    }
    assert without == set()
