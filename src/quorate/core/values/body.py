# SPDX-License-Identifier: GPL-3.0-or-later
"""A record in a message, or in what is stored beside records: to the reader a `Record`, to msgspec
the bytes that it travels as.

Whoever decodes makes records of them (`record.unpack`). Of a type that msgspec does not know, it
would build whatever a peer sends in its place, before anybody can refuse that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.core.values.record import Record

if TYPE_CHECKING:
    Body = Record
else:
    Body = bytes
