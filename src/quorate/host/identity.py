# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a data directory belongs to: the node id, drawn once and durable before it is used.

Two directories must never share one: a copied directory that is started under another URL is
refused by the node that has the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quorate.core.values.events import Batch
from quorate.storage.engine import Engine

if TYPE_CHECKING:
    from random import Random

NODE_ID_META: Final = b"node_id"
NODE_ID_BYTES: Final = 6


def node_id_of(engine: Engine, random: Random) -> int:
    """The engine's node id, 48 bits; drawn and synced if it has none yet."""
    stored = engine.get_meta(NODE_ID_META)
    if stored is None:
        stored = random.randbytes(NODE_ID_BYTES)
        engine.write(Batch([], [], [(NODE_ID_META, stored)]))
        engine.sync()
    return int.from_bytes(stored, "big")
