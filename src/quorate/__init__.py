# SPDX-License-Identifier: GPL-3.0-or-later
"""Quorate: a leaderless, replicated, durable key-value store.

`from quorate.client import Client, AsyncClient` talks to a cluster without the server's packages.
"""

__version__ = "0.1.0"
