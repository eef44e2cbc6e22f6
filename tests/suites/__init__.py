# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests that libraries publish, run against nodes (`scripts/suites`)."""
