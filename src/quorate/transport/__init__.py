# SPDX-License-Identifier: GPL-3.0-or-later
"""Links between nodes over asyncio: `links` dials out, `acceptor` takes in."""
