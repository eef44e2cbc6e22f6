# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives a `core.Node` on a real event loop: gathers events, runs effects, timers, group commit."""
