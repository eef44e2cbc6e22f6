# SPDX-License-Identifier: GPL-3.0-or-later
"""Quorate measured beside other stores, in one run on one machine.

`scripts/benchmarks` runs all of it and writes docs/benchmarks.md. `rows` says what is compared with
what, `rounds` how, `document` how it is told; `peers` has a module for each store, `limits` what no
store could beat here, `micro` the parts of Quorate on their own (`pytest bench/micro`).
"""
