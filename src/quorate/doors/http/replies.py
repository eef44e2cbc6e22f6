# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer before it is written."""

from __future__ import annotations


class Reply:
    """Status, header lines and body. `lines`: each ended by CRLF, without the Content-Length, Date
    and Cache-Control that the lanes add: the fast lane writes them as they are, the full service
    takes them apart again."""

    __slots__ = ("body", "lines", "status")

    def __init__(self, status: int, lines: bytes, body: bytes) -> None:
        self.status = status
        self.lines = lines
        self.body = body

    def saying(self, more: bytes) -> Reply:
        """The same with more lines."""
        return Reply(self.status, self.lines + more, self.body)
