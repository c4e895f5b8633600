"""The files that some data sets are made from: where they are, where they come from, and whether they are whole.

Neither TensorFlow nor course.toml is needed here: `course doctor` reads the table below as text, and on Colab there is no course.toml
(a test holds RELEASE against it).
"""

import hashlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request
from dataclasses import dataclass

from utils.data.errors import DataUnavailable

RELEASE = "https://github.com/convnets-for-vision/course/releases/download/data-1"
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


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive(
            name="clothing",
            file="clothing_small.zip",
            bytes=6756389,
            sha256="acfc1559c81c222aeafc94dfd607d49d8c1c5149620100d6c3f35f07acc40c76",
            licence="CC0 1.0",
            citation="Alexey Grigorev and contributors, Clothing dataset, 2020, github.com/alexeygrigorev/clothing-dataset",
            instead="digits",
        ),
        Archive(
            name="bccd",
            file="bccd.zip",
            bytes=4326739,
            sha256="351d6b1eafac1a761f87e9e5f75c32268a8670cad37fdffd5f3ddbc0c37804af",
            licence="MIT",
            citation="Shenggan et al., BCCD Dataset, 2017, github.com/Shenggan/BCCD_Dataset; images and annotations by cosmicad and "
            "akshaylamba",
            instead="shapes",
        ),
        Archive(
            name="nuclei",
            file="nuclei.zip",
            bytes=4783985,
            sha256="7fc31bef1c27e29157d90fec706c96ff2150d320c083f01779f9b8ec3d67fccd",
            licence="CC0 1.0",
            citation="J. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, Nature Methods 16, "
            "2019 (BBBC038)",
            instead="shapes",
        ),
        Archive(
            name="photos",
            file="photos.zip",
            bytes=448675,
            sha256="c9df3e2c6203b05b5345d65d5577cbbcc3fedc4a8ce9496887baa83a93d68ab4",
            licence="Apache 2.0",
            citation="Google Coral, test_data, github.com/google-coral/test_data",
            instead="skimage_photos",
        ),
        Archive(
            name="voc_segmentation",
            file="VOCtrainval_11-May-2012.tar",
            bytes=1999639040,
            sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            licence="Flickr's terms of use",
            citation="M. Everingham et al., The PASCAL Visual Object Classes Challenge 2012",
            instead="shapes",
            host="http://host.robots.ox.ac.uk/pascal/VOC/voc2012",
        ),
    )
}


def cache_folder():
    """Where downloaded and prepared data lives: the folder in the environment's `COURSE_CACHE`, else ~/.cache/convnets-for-vision."""
    folder = os.environ.get("COURSE_CACHE")
    return pathlib.Path(folder or "~/.cache/convnets-for-vision").expanduser()


def locate(name):
    """The archive of a data set, whole: from the folder in the environment's `COURSE_DATA`, else downloaded before, else downloaded now.

    Args:
        name: a key of `ARCHIVES`.

    Returns:
        `pathlib.Path` of a file whose hash is right.

    Raises:
        DataUnavailable: the file is damaged, or it cannot be downloaded. A damaged download is removed, so that the next call fetches it
            again; a file in `COURSE_DATA` is left alone.
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
            f"{archive.file} cannot be kept in {path.parent} ({reason}): set COURSE_CACHE to a folder with room that can be written, "
            f"or use the data set {archive.instead!r} instead"
        ) from error
    return path


def download(archive, path):
    """Fetches an archive to `path`, going on where an earlier attempt was cut off. `path` appears only when it is whole.

    Raises:
        DataUnavailable: no network, a connection that broke off (what came is kept for the next attempt), or the wrong bytes (removed).
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
    """Appends to the file `part` what comes after its first `start` bytes; from the beginning if the server cannot start in the middle.

    Returns:
        the length in bytes that `part` has when everything came that the server promised; the archive's if it promised nothing.
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
        f"{archive.file} could not be downloaded from {archive.url} ({reason}): try again, or put the file into a folder and set COURSE_DATA "
        f"to that folder, or use the data set {archive.instead!r} instead, which needs no file"
    )
