# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions, records, events, messages: the values that cross the borders of a node."""
