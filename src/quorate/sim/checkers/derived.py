# SPDX-License-Identifier: GPL-3.0-or-later
"""A derived write undoes nothing (P2): what was written after the version that it carries on wins.

Say a client reads version 5 and writes it again with another expiry, as version 7. Then no
acknowledged put or delete has version 6. Other derived writes may, as two may carry on one version.
So a derived write is never stamped again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from quorate.core.values.events import PutResult
from quorate.sim.history import Evidence, History, Violation


def check(history: History, _evidence: Evidence) -> Iterator[Violation]:
    """Derived writes that win over an acknowledged write which they did not read."""
    for key, operations in history.by_key().items():
        acked = [op for op in operations if isinstance(op.result, PutResult)]
        others = [op for op in acked if op.derived_from is None]
        for op, other in itertools.product(acked, others):
            if op.derived_from is not None and op.derived_from < other.version < op.version:
                yield Violation("P2", key, f"{op} undoes {other}")
