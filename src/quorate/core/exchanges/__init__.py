# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says to its peers and waits to be answered: writes, reads, scans, hints."""
