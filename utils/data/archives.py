"""The files that some data sets are made from: where they are, where they come from, and whether they are whole.

Their facts stand in `archives.toml`, which `course doctor` reads too.
"""

import hashlib
import http.client
import os
import pathlib
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass

from utils.data.errors import DataUnavailable

TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """One file of the release, or of another host.

    Attributes:
        name: of the data set made from it.
        file: file name.
        bytes: length.
        sha256: hex digits.
        licence, citation: of what is inside.
        instead: the embedded data set that serves when the file cannot be had.
        host: address of the folder that it is downloaded from, if that is not the release.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    citation: str
    instead: str
    host: str | None = None

    @property
    def url(self):
        """Where it is downloaded from."""
        return f"{self.host or RELEASE}/{self.file}"


_TABLE = tomllib.loads((pathlib.Path(__file__).parent / "archives.toml").read_text(encoding="utf-8"))
RELEASE = _TABLE.pop("release")
ARCHIVES = {name: Archive(name=name, **facts) for name, facts in _TABLE.items()}


def cache_folder():
    """Where downloaded and prepared data lives: the folder in the environment's `COURSE_CACHE`, else
    ~/.cache/convnets-for-vision.
    """
    folder = os.environ.get("COURSE_CACHE")
    return pathlib.Path(folder or "~/.cache/convnets-for-vision").expanduser()


def locate(name):
    """The archive of a data set, whole: from the folder in the environment's `COURSE_DATA`, else downloaded before,
    else downloaded now.

    Args:
        name: a key of `ARCHIVES`.

    Returns:
        `pathlib.Path` of a file whose hash is right.

    Raises:
        DataUnavailable: the file is damaged, or it cannot be downloaded. A damaged download is removed, so that the
            next call fetches it again; a file in `COURSE_DATA` is left alone.
    """
    import filelock

    archive = ARCHIVES[name]
    given = os.environ.get("COURSE_DATA")
    if given and (path := pathlib.Path(given).expanduser() / archive.file).is_file():
        if found := wrong_hash(path, archive):
            raise DataUnavailable(damaged(path, archive, found, "replace it, or unset COURSE_DATA to download it"))
        return path
    path = cache_folder() / "downloads" / archive.file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            if not path.is_file():
                download(archive, path)
            elif found := wrong_hash(path, archive):
                path.unlink()
                raise DataUnavailable(damaged(path, archive, found, "it has been removed; run again to download it"))
    except OSError as error:
        reason = error.strerror or error
        raise DataUnavailable(
            f"{archive.file} cannot be kept in {path.parent} ({reason}): set COURSE_CACHE to a folder with room that "
            "can be written, "
            f"or use the data set {archive.instead!r} instead"
        ) from error
    return path


def download(archive, path):
    """Fetches an archive to `path`, going on where an earlier attempt was cut off. `path` appears only when it is
    whole.

    Raises:
        DataUnavailable: no network, a connection that broke off (what came is kept for the next attempt), or the wrong
            bytes (removed).
    """
    part = path.with_name(path.name + ".part")
    start = part.stat().st_size if part.is_file() else 0
    try:
        length = fetch(archive, part, start) if start < archive.bytes else start
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise DataUnavailable(unreachable(archive, getattr(error, "reason", None) or error)) from error
    size = part.stat().st_size
    if size < min(length, archive.bytes):
        raise DataUnavailable(unreachable(archive, f"broke off after {size:,} of {archive.bytes:,} bytes"))
    if found := wrong_hash(part, archive):
        part.unlink()
        raise DataUnavailable(
            damaged(archive.url, archive, found, "what came has been removed; run again to download it")
        )
    os.replace(part, path)


def fetch(archive, part, start):
    """Appends to the file `part` what comes after its first `start` bytes; from the beginning if the server cannot
    start in the middle.

    Returns:
        the length in bytes that `part` has when everything came that the server promised; the archive's if it promised
        nothing.
    """
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        promised = response.headers.get("Content-Length")
        with open(part, "ab" if resumed else "wb") as file:
            while file.tell() <= archive.bytes and (block := response.read(1 << 16)):
                file.write(block)
    return archive.bytes if promised is None else int(promised) + (start if resumed else 0)


def wrong_hash(path, archive):
    """The SHA-256 of a file if it is not the archive's, else None."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == archive.sha256 else found


def damaged(what, archive, found, advice):
    """The message for a file with the wrong bytes."""
    return f"{what} is damaged: expected sha256 {archive.sha256}, found {found}; {advice}"


def unreachable(archive, reason):
    """The message for a file that does not come."""
    return (
        f"{archive.file} could not be downloaded from {archive.url} ({reason}): try again, or put the file into a "
        "folder and set COURSE_DATA "
        f"to that folder, or use the data set {archive.instead!r} instead, which needs no file"
    )
