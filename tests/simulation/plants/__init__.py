# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults to plant in the store, each a small and obviously wrong variant of one or two methods."""
