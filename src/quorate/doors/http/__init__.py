# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP door: a fast lane for canonical requests of `/kv` and `/incr`, aiohttp for all else.

`fast` serves what one of two strict expressions matches and hands every other connection to
aiohttp, byte for byte; it stays there. `kv` and `problems` decide what is answered, for both lanes
alike, so that only the parsing exists twice.
"""
