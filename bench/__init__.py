# SPDX-License-Identifier: GPL-3.0-or-later
"""Quorate measured beside other stores, in one run on one machine.

`scripts/benchmarks` runs all of it and writes docs/benchmarks.md. `rows` says what is compared with
what, `rounds`, `singles` and `growth` how it is measured, `document` how it is told. Load comes
from `generator.c`, which knows requests as bytes; which ones `quorate.bench` knows. `peers` has a
module for each store, `micro` the parts of Quorate on their own (`pytest bench/micro`).
"""
