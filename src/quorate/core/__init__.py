# SPDX-License-Identifier: GPL-3.0-or-later
"""The node as a function from a batch of events to a batch of effects; pure, see `core.node`."""
