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


def read_file(path: Path, *, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """What is in a file, and what the system says of it. OSError, whose `strerror` says why not:
    also for what is no regular file, and for more than `bytes_max`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
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
