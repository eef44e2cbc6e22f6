# SPDX-License-Identifier: GPL-3.0-or-later
"""Small wrong changes of the sources, and whether the tests notice them: `scripts/mutation`."""
