# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes to values and back, without sockets: records on disk, frames of peers, RESP."""
