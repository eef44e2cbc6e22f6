# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of real nodes in virtual time, every fault drawn from one seed."""
