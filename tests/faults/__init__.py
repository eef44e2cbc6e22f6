# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls of real nodes that fail, stall or come in pieces, one after another."""
