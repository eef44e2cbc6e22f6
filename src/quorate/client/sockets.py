# SPDX-License-Identifier: GPL-3.0-or-later
"""What both clients ask of sockets."""

from __future__ import annotations

import os
import socket


def is_stale(idle: socket.socket) -> bool:
    """Whether the other side closed an idle, non-blocking socket, or sent what nobody asked for.

    Asked before a connection is used again: a write that is sent into a closed one is UNKNOWN.
    """
    try:
        idle.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def reason_of(fault: OSError) -> str:
    """A connection's failure in a few words, the same from every library."""
    if isinstance(fault, TimeoutError):
        return "no answer in time"
    # A failed look-up has a negative number of its own, and a text.
    if fault.errno is not None and fault.errno > 0:
        return os.strerror(fault.errno)
    return fault.strerror or str(fault)
