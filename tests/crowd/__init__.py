# SPDX-License-Identifier: GPL-3.0-or-later
"""A crowd that harms a node with little memory (`scripts/crowd`)."""
