# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a node keeps its records, hints and meta entries: `storage.engine` is the contract."""
