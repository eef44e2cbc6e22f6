# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores that are measured, one module each, started on loopback in a directory of their own.

What the Debian packages are, and how they are installed without starting anything, is `debian`.
"""
