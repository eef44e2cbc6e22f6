# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides between the core and the operating system: the turn, the way to the disk, the links.

Plain synchronous code over the few verbs of `system`. `runtime` carries them out with asyncio,
sockets and a thread; `sim` with virtual time. So what runs in the field runs under a seed too.
"""
