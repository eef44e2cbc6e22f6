# SPDX-License-Identifier: GPL-3.0-or-later
"""From a node's settings to what the core needs of them: fields of one name mean the same in both.

The core imports nothing but errors, and so has a class of its own, which holds no defaults.
"""

from __future__ import annotations

import msgspec

from quorate import __version__
from quorate.addresses import cluster_urls, own_url
from quorate.config import KEY_BYTES_MAX, Config
from quorate.core.values.messages import FEATURE_LEVEL
from quorate.core.values.settings import SLICE_MS, Settings


def core_settings(config: Config, *, url: str, nodes: tuple[str, ...], node_id: int) -> Settings:
    """The core's settings. `url` is this node's, and `nodes` calls it that if it names it."""
    values = msgspec.structs.asdict(config)
    shared = {name: values[name] for name in Settings.__struct_fields__ if name in values}
    own = {"url": url, "nodes": nodes, "node_id": node_id}
    release = {"version": __version__, "level": FEATURE_LEVEL}
    fixed = {"key_bytes_max": KEY_BYTES_MAX, "slice_ms": SLICE_MS}
    return Settings(**{**shared, **own, **release, **fixed})


def node_settings(config: Config, *, node_id: int) -> Settings:
    """The core's settings of the node that runs here."""
    url = own_url(config)
    nodes = cluster_urls(config) if config.nodes else ()
    # The list named this node, by whatever name, if taking this node out makes it shorter.
    is_listed = len(nodes) - 1 < len(config.nodes)
    return core_settings(config, url=url, nodes=nodes if is_listed else nodes[1:], node_id=node_id)
