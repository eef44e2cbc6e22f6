# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator: closed or open loop, many connections, some processes, RESP or HTTP.

It shares the machine with what it measures, so its own cost per request is kept as low as Python
allows: requests from templates, replies counted rather than parsed, one latency count per batch.
`plan` says what to do, `distributions` which keys are asked for, `protocols` knows bytes,
`load` sockets and time, `worker` is one process of it and `measure` runs them all; `result` is what
it adds up to, which `sweep`, `compare`, `rows` and `plot` make something of.
"""
