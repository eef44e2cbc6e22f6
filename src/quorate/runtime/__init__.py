# SPDX-License-Identifier: GPL-3.0-or-later
"""`host` on a real event loop: the verbs of `host.system`, and the process around a node."""
