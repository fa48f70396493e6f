"""Local media: opened only under the allowed folders, step by step, so that no link leads out of them."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workers.media.refusals import Refusal

STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO for reading would wait for its writer.
LAST = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_local(path: str, roots: Sequence[Path]) -> int:
    """Open the regular file at the absolute `path`; gives a descriptor, which the caller closes."""
    if not roots:
        raise Refusal("media_files_disabled")
    if "\0" in path:
        raise Refusal("media_forbidden")
    # No link is followed below a root, so the words of the path alone say where it leads.
    wanted = Path(os.path.normpath(path))
    for root in roots:
        with suppress(ValueError):
            return _walk(root, wanted.relative_to(root).parts)
    raise Refusal("media_forbidden")


def _walk(root: Path, names: Sequence[str]) -> int:
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise Refusal("media_unavailable") from None
    if not names:
        os.close(fd)
        raise Refusal("media_not_a_file")
    for depth, name in enumerate(names, start=1):
        above = fd
        try:
            fd = _step(name, above, LAST if depth == len(names) else STEP)
        finally:
            os.close(above)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Refusal("media_not_a_file")
    return fd


def _step(name: str, above: int, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=above)
    except OSError:
        with suppress(OSError):
            if stat.S_ISLNK(os.lstat(name, dir_fd=above).st_mode):
                raise Refusal("media_symlink") from None
        raise Refusal("media_unavailable") from None
