"""Archives: COURSE_DATA first, a download that can be cut off and damaged, and what is said when there is neither. A
small server on this machine plays the release page."""

import dataclasses
import hashlib
import http.server
import io
import os
import threading
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course import doctor
from utils import data
from utils.data import archives, clothing

ROOT = Path(__file__).resolve().parents[2]


def small_archive():
    """An archive laid out as the real one: two photographs a class in train, one in validation and test, of several
    sizes.
    """
    random = np.random.default_rng(0)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clothing_small/README.md", "made by a test")
        for split, count in {"train": 2, "validation": 1, "test": 1}.items():
            for label, name in enumerate(clothing.CLASSES):
                for number in range(count):
                    pixels = np.full((20 + label, 30, 3), 20 * label + 10, np.uint8) + random.integers(
                        0, 9, 3, np.uint8
                    )
                    picture = io.BytesIO()
                    Image.fromarray(pixels).save(picture, "JPEG")
                    archive.writestr(f"clothing_small/{split}/{name}/{number}.jpg", picture.getvalue())
    return file.getvalue()


CONTENT = small_archive()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The archive of `clothing` is CONTENT, to be had from nowhere; the cache is empty."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    small = dataclasses.replace(archives.ARCHIVES["clothing"], bytes=len(CONTENT), sha256=digest)
    monkeypatch.setitem(archives.ARCHIVES, "clothing", small)
    monkeypatch.setattr(clothing, "SPLITS", {"train": 20, "validation": 10, "test": 10})
    monkeypatch.setattr(archives, "RELEASE", "http://127.0.0.1:9")  # the port "discard": nobody listens
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return small


class Release(http.server.ThreadingHTTPServer):
    """Serves CONTENT.

    Attributes:
        content: what is sent.
        cut: bytes after which the connection breaks off, or None.
        ranges: whether a request may begin in the middle.
        requests: the Range header of each request so far.
    """

    content, cut, ranges = CONTENT, None, True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}"
            )
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def release(archive, monkeypatch):
    server = Release()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(archives, "RELEASE", f"http://127.0.0.1:{server.server_port}/data")
    yield server
    server.shutdown()
    server.server_close()


def downloads():
    """What lies in the folder of downloads, besides locks."""
    return sorted(path.name for path in (archives.cache_folder() / "downloads").iterdir() if path.suffix != ".lock")


def message(action, *arguments):
    with pytest.raises(data.DataUnavailable) as error:
        action(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_release_is_that_of_the_course():
    assert tomllib.loads((ROOT / "course.toml").read_text())["course"]["data"] == archives.RELEASE
    assert archives.ARCHIVES["clothing"].url == archives.RELEASE + "/clothing_small.zip"


def test_doctor_reads_the_same_table():
    read = {
        (archive.name, archive.file, archive.bytes, archive.sha256, archive.url)
        for archive in doctor.read_archives(Path(archives.__file__).with_suffix(".toml"))
    }
    assert read == {
        (archive.name, archive.file, archive.bytes, archive.sha256, archive.url)
        for archive in archives.ARCHIVES.values()
    }
    assert {archive.instead for archive in archives.ARCHIVES.values()} <= set(data.names())


def test_course_data_comes_first(release, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "clothing_small.zip").write_bytes(CONTENT)
    assert archives.locate("clothing") == tmp_path / "clothing_small.zip"
    assert release.requests == []


def test_course_data_without_the_file_is_no_hindrance(release, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert archives.locate("clothing").read_bytes() == CONTENT


def test_damaged_file_in_course_data_is_told_and_left_alone(release, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    damaged = CONTENT[:100] + bytes([CONTENT[100] ^ 1]) + CONTENT[101:]
    path = tmp_path / "clothing_small.zip"
    path.write_bytes(damaged)
    text = message(archives.locate, "clothing")
    assert text.startswith(f"{path} is damaged: expected sha256 {archives.ARCHIVES['clothing'].sha256}")
    assert hashlib.sha256(damaged).hexdigest() in text and path.read_bytes() == damaged


def test_download_happens_once(release):
    path = archives.locate("clothing")
    assert path.read_bytes() == CONTENT and downloads() == ["clothing_small.zip"]
    assert archives.locate("clothing") == path and release.requests == [None]


def test_damaged_download_is_removed_and_the_next_one_works(release):
    release.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    text = message(archives.locate, "clothing")
    for part in (
        "clothing_small.zip is damaged",
        archives.ARCHIVES["clothing"].sha256,
        hashlib.sha256(release.content).hexdigest(),
    ):
        assert part in text
    assert downloads() == []
    release.content = CONTENT
    assert archives.locate("clothing").read_bytes() == CONTENT


def test_download_that_went_bad_in_the_cache(release):
    path = archives.locate("clothing")
    path.write_bytes(b"moth-eaten")
    assert "clothing_small.zip is damaged" in message(archives.locate, "clothing") and downloads() == []
    assert archives.locate("clothing").read_bytes() == CONTENT


def test_download_goes_on_where_it_was_cut_off(release):
    release.cut = 1000
    assert f"broke off after 1,000 of {len(CONTENT):,} bytes" in message(archives.locate, "clothing")
    assert downloads() == ["clothing_small.zip.part"]
    release.cut = None
    assert archives.locate("clothing").read_bytes() == CONTENT
    assert release.requests == [None, "bytes=1000-"] and downloads() == ["clothing_small.zip"]


def test_download_begins_anew_where_it_cannot_go_on(release):
    release.cut, release.ranges = 1000, False
    message(archives.locate, "clothing")
    release.cut = None
    assert archives.locate("clothing").read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [CONTENT + b"more", b"<html>please log in</html>"])
def test_another_file_is_not_taken(release, answer):
    release.content = answer
    assert "damaged" in message(archives.locate, "clothing") and downloads() == []
    release.content = CONTENT
    assert archives.locate("clothing").read_bytes() == CONTENT


def test_file_that_is_gone_from_the_server(release, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send_error(404))
    text = message(archives.locate, "clothing")
    assert "Not Found" in text and "COURSE_DATA" in text and downloads() == []


def test_no_network_and_no_copy(archive):
    for action in (lambda: data.load("clothing", "train"), lambda: data.arrays("clothing", "train", image_size=8)):
        text = message(action)
        for part in (
            "clothing_small.zip could not be downloaded",
            "set COURSE_DATA to that folder",
            "'digits'",
            "127.0.0.1:9",
        ):
            assert part in text
    assert downloads() == []


def test_cache_that_cannot_be_written(archive, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    assert "set COURSE_CACHE" in message(archives.locate, "clothing")
    assert "set COURSE_CACHE" in message(data.load, "glyphs/numerals", "train")


def test_clothing_from_an_archive(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / archive.file).write_bytes(CONTENT)
    images, labels = data.arrays("clothing", "train", image_size=16)
    assert images.shape == (20, 16, 16, 3) and np.bincount(labels).tolist() == [2] * 10
    brightness = images.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, 20 * labels + 14, atol=6)  # each picture has its class's shade
    for size, (pictures, truth) in {16: (images, labels), 24: data.arrays("clothing", "train", image_size=24)}.items():
        batches = list(
            data.load("clothing", "train", image_size=size, batch_size=5, target="label").as_numpy_iterator()
        )
        np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), pictures)
        np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), truth)
    shapes = {example["image"].shape for example in data.load("clothing", "train").as_numpy_iterator()}
    assert shapes == {(20 + label, 30, 3) for label in range(10)}
    for function, options in ((data.load, {"batch_size": 2}), (data.arrays, {})):
        with pytest.raises(ValueError, match="the images of clothing differ in size: give image_size"):
            function("clothing", "train", **options)
    assert not (archives.cache_folder() / "downloads").exists()  # read where it lies


def test_prepared_set_with_other_counts_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / archive.file).write_bytes(CONTENT)
    monkeypatch.setattr(clothing, "SPLITS", {"train": 21, "validation": 10, "test": 10})
    assert "delete it and run again" in message(data.load, "clothing", "train")


REAL = Path(os.environ.get("COURSE_DATA", ""), "clothing_small.zip") if os.environ.get("COURSE_DATA") else None


@pytest.mark.skipif(
    REAL is None or not REAL.is_file(),
    reason="the archive of clothing is not here: COURSE_DATA names no folder that holds it",
)
def test_the_real_archive(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(REAL.parent))
    assert data.describe("clothing").splits == {"train": 1000, "validation": 186, "test": 179}
    seen = set()
    for split, counts in {
        "train": [100] * 10,
        "validation": [20, 14, 20, 20, 20, 20, 20, 20, 12, 20],
        "test": [15, 12, 20, 20, 20, 20, 20, 20, 12, 20],
    }.items():
        images, labels = data.arrays("clothing", split, image_size=32)
        assert np.bincount(labels).tolist() == counts
        pictures = {image.tobytes() for image in images}
        assert len(pictures) == len(images) and not pictures & seen
        seen |= pictures
