# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes bytes of strangers, before anybody has logged in, against any bytes."""
