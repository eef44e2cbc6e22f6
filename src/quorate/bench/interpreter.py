# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interpreter runs this, and whether its build is a fast one: `python -m` prints it."""

from __future__ import annotations

import platform
import sysconfig
from typing import Final

_FLAG: Final = "--enable-optimizations"


def interpreter(arguments: str | None = None) -> str:
    """Its version, and how it was built; `arguments` are its `configure`'s if given. Where nobody
    knows, as on Windows, nothing is said of that."""
    built = arguments or sysconfig.get_config_var("CONFIG_ARGS")
    version = f"{platform.python_implementation()} {platform.python_version()}"
    if not built:
        return version
    if _FLAG in built:
        return f"{version}, built with {_FLAG}"
    return f"{version}, built without {_FLAG}: about 10 % slower than with it"


if __name__ == "__main__":
    print(interpreter())
