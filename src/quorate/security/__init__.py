# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets, certificates, users and tokens: who somebody is, and what proves it."""
