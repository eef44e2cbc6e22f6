# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs to the cluster, who answers, and which nodes hold a key."""
