# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interpreter runs this, and whether its build is a fast one: `python -m` prints it."""

from __future__ import annotations

import platform
import sysconfig
from typing import Final

_FLAG: Final = "--enable-optimizations"
_PROFILE_FLAGS: Final = "PGO_PROF_USE_FLAG"


def interpreter(arguments: str | None = None, profile_flags: str | None = None) -> str:
    """Its version, and how it was built: by the `configure` arguments and the compiler's flags for
    profiles, its own if none are given. Where nobody knows, as on Windows, nothing is said of that.

    `configure` always names the flags for profiles. Where they are empty a distribution took them
    out after it had built with them: Debian and Ubuntu do so, and do without `_FLAG`.
    """
    built = arguments or sysconfig.get_config_var("CONFIG_ARGS")
    if profile_flags is None:
        profile_flags = sysconfig.get_config_var(_PROFILE_FLAGS)
    version = f"{platform.python_implementation()} {platform.python_version()}"
    if not built:
        return version
    if _FLAG in built:
        return f"{version}, built with {_FLAG}"
    if profile_flags == "":
        return f"{version}, built by a distribution, with a profile"
    return f"{version}, built without {_FLAG}: about 10 % slower than with it"


if __name__ == "__main__":
    print(interpreter())
