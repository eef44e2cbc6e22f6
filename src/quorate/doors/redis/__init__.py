# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis door: `connection` speaks the protocol, `table` knows the commands."""
