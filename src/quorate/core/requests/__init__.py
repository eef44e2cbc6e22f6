# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients asked and is not answered yet: bounds, waiting, deadlines."""
