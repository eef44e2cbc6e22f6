# SPDX-License-Identifier: GPL-3.0-or-later
"""The core gets each setting under its own name."""

from __future__ import annotations

import msgspec

from quorate import __version__
from quorate import config as product
from quorate.config import KEY_BYTES_MAX, Config
from quorate.core.topology.layout import WEIGHT_MAX
from quorate.core.values.messages import FEATURE_LEVEL
from quorate.core.values.settings import FOUNDERS_MAX, REPLICATION_MAX, SLICE_MS, Settings
from quorate.settings import core_settings

OWN = {
    "url": "http://a:1",
    "nodes": ("http://a:1", "http://b:1"),
    "node_id": 7,
    "version": __version__,
    "level": FEATURE_LEVEL,
    "key_bytes_max": KEY_BYTES_MAX,
    "slice_ms": SLICE_MS,
}
"""What the core needs and people do not write, or not so: `nodes` under this node's own URL."""


def test_every_setting_that_the_core_needs_is_the_one_of_that_name() -> None:
    """No two alike, so that one put for another shows."""
    numbers = {
        name: 1000 + number
        for number, name in enumerate(Config.__struct_fields__)
        if isinstance(getattr(Config(), name), int)
    }
    config = msgspec.structs.replace(Config(cluster="blue", nodes=("http://x:1",)), **numbers)
    made = core_settings(config, url="http://a:1", nodes=("http://a:1", "http://b:1"), node_id=7)
    for name in Settings.__struct_fields__:
        expected = OWN[name] if name in OWN else getattr(config, name)
        assert getattr(made, name) == expected, name


def test_what_may_be_configured_is_what_the_core_takes() -> None:
    """`config` imports nothing of the core, nor the core of `config`."""
    assert product.REPLICATION_MAX == REPLICATION_MAX
    assert product.FOUNDERS_MAX == FOUNDERS_MAX
    assert product.WEIGHT_MAX == WEIGHT_MAX
