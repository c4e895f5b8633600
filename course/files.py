"""How files are written: whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from course.errors import CourseError


def write_atomically(path: str | Path, content: bytes | str, root: str | Path | None = None) -> None:
    """Write the file with its folder: whole, or not at all.

    What is there and is no regular file (a device, a pipe) is written to; a link is followed.

    Args:
        content: a text is written as UTF-8, its line ends as they are.
        root: a message names the path below this folder, if it lies there.

    Raises:
        CourseError: it cannot be written; one line that names the path.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            with open(target, "wb") as device:
                device.write(data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        where = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
        raise CourseError(f"{where}: cannot be written: {error.strerror or error}") from None


def check_writable(path: str | Path, root: str | Path | None = None) -> None:
    """CourseError now for a file that could not be written later; its folder is made, and nothing else is changed."""
    path = Path(path)
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(target, os.W_OK):  # opening a pipe and closing it would end its reader
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except (OSError, ValueError) as error:
        where = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CourseError(f"{where}: cannot be written: {reason or error}") from None


def _umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask
