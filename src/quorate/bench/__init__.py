# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator: closed loop, many connections, one process, RESP or HTTP.

It shares the machine with what it measures, so its own cost per request is kept as low as Python
allows: requests from templates, replies counted rather than parsed, one latency count per batch.
`protocols` knows bytes, `load` sockets and time, `report` what it adds up to.
"""
