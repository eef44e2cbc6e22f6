# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import platform

from quorate.bench.interpreter import interpreter

FLAGS = "-fprofile-use -fprofile-correction"


def test_an_interpreter_that_was_not_optimised_is_told_with_what_that_costs() -> None:
    said = interpreter("'--prefix=/usr' '--with-lto'", FLAGS)
    assert said.startswith(f"{platform.python_implementation()} {platform.python_version()}, ")
    assert said.endswith("built without --enable-optimizations: about 10 % slower than with it")


def test_one_that_was_is_told_so() -> None:
    said = interpreter("'--enable-optimizations' '--with-lto'", FLAGS)
    assert said.endswith(", built with --enable-optimizations")


def test_a_distributions_is_not_called_slow() -> None:
    """Debian builds with a profile, without that argument, and takes the flags out afterwards."""
    said = interpreter("'--enable-shared' '--prefix=/usr' '--without-ensurepip'", "")
    assert said.endswith(", built by a distribution, with a profile")
