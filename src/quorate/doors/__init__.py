# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients talk to: one port, the HTTP and RESP doors behind it, one table of answers."""
