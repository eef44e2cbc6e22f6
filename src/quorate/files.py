# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that are named to a node: settings, secrets, certificates, users, tokens.

What is at such a path is opened without waiting: a pipe that nobody writes to would hold up the
node for ever. And no more of it is read than there may be.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

IS_POSIX: Final = hasattr(os, "geteuid")
"""Whether this is Linux, macOS or their kin, where a file has an owner and a mode. On Windows it
has an access list, at which nobody here looks."""
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def is_open(status: os.stat_result) -> bool:
    """Whether others than a file's owner may read or change it. Of one that is root's, and that
    another user was handed, root's group may: so systemd and Kubernetes hand files to a service."""
    if not IS_POSIX:
        return False
    is_handed_over = status.st_uid == 0 != os.geteuid()
    return bool(stat.S_IMODE(status.st_mode) & (0o037 if is_handed_over else 0o077))


def read_file(path: Path, *, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """What is in a file, and what the system says of it. OSError, whose `strerror` says why not:
    also for what is no regular file, and for more than `bytes_max`."""
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"it has more than {bytes_max} bytes", str(path))
    return data, status
