"""The builders of TensorFlow Datasets behind the sets that are prepared once, and the lock around their preparation."""

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import warnings

import numpy as np
import tensorflow_datasets as tfds

from utils.data import archives, bccd, clothing, glyphs, nuclei, photos, shapes, voc_segmentation
from utils.data.archives import cache_folder
from utils.data.errors import DataUnavailable


class GlyphsConfig(tfds.core.BuilderConfig):
    """One alphabet of `utils.data.glyphs`."""

    def __init__(self, alphabet):
        super().__init__(name=alphabet.name, description=alphabet.title, version=glyphs.VERSION)


class CourseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What our builders share."""

    url_infos = None  # we check hashes ourselves; looking for a file of checksums would need a package that tfds does not require


class Glyphs(CourseBuilder):
    """Printed characters, drawn; examples stand in the order of their indices."""

    VERSION = tfds.core.Version(glyphs.VERSION)
    BUILDER_CONFIGS = [GlyphsConfig(alphabet) for alphabet in glyphs.ALPHABETS.values()]  # noqa: RUF012

    def _info(self):
        alphabet = glyphs.ALPHABETS[self.builder_config.name]
        shape = (glyphs.SIZE, glyphs.SIZE, 1)
        return tfds.core.DatasetInfo(
            builder=self,
            description=glyphs.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=alphabet.characters),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in glyphs.SPLITS}

    def _generate_examples(self, split):
        name = self.builder_config.name
        for index, label in enumerate(glyphs.labels(name, split)):
            yield index, {"image": encoded(glyphs.draw(name, split, [index])[0, ..., 0]), "label": int(label)}


class ShapesConfig(tfds.core.BuilderConfig):
    """One configuration of `utils.data.shapes`."""

    def __init__(self, config):
        super().__init__(name=config.name, description=config.title, version=shapes.VERSION)


class Shapes(CourseBuilder):
    """Scenes, drawn, in the order of their indices; `instances` is 0 for ground and n for the n-th object."""

    VERSION = tfds.core.Version(shapes.VERSION)
    BUILDER_CONFIGS = [ShapesConfig(config) for config in shapes.CONFIGS.values()]  # noqa: RUF012

    def _info(self):
        size = shapes.CONFIGS[self.builder_config.name].size
        return tfds.core.DatasetInfo(
            builder=self,
            description=shapes.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "instances": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),
                    "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                    "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=shapes.CLASSES)),
                    "keypoints": tfds.features.Tensor(shape=(None, len(shapes.KEYPOINTS), 3), dtype=np.float32),
                    "caption": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in shapes.SPLITS}

    def _generate_examples(self, split):
        config = shapes.CONFIGS[self.builder_config.name]
        for index in range(config.splits[split]):
            scene = shapes.scene(index, split, config=config)
            numbers = np.arange(1, len(scene.labels) + 1, dtype=np.uint8)[:, None, None]
            yield (
                index,
                {
                    "image": encoded(scene.image),
                    "instances": encoded((scene.masks * numbers).max(axis=0)),
                    "boxes": scene.boxes,
                    "labels": scene.labels.tolist(),
                    "keypoints": scene.keypoints,
                    "caption": scene.caption,
                },
            )


def encoded(image):
    """An (H, W) or (H, W, 3) uint8 image as the bytes of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


class FromArchive(CourseBuilder):
    """A set made from one archive.

    A subclass has `module` (with `VERSION` and `SPLITS`), `truth()` (its features), and `in_order` if the examples stand in the order in
    which they are generated, not in one that their names decide.
    """

    in_order = False

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.module.__doc__,
            citation=archives.ARCHIVES[self.name].citation,
            features=tfds.features.FeaturesDict(self.truth()),
            disable_shuffling=self.in_order,
        )

    def _split_generators(self, dl_manager):
        path = archives.locate(self.name)
        return {split: self._generate_examples(path, split) for split in self.module.SPLITS}


class Clothing(FromArchive):
    """Photographs of clothes."""

    VERSION = tfds.core.Version(clothing.VERSION)
    module = clothing

    def truth(self):
        return {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=clothing.CLASSES),
        }

    def _generate_examples(self, path, split):
        for name, image, label in clothing.photographs(path, split):
            yield name, {"image": image, "label": label}


class Bccd(FromArchive):
    """Blood cells with boxes, in pixels, not in shares of the image as `BBoxFeature` has them: halves of pixels stay what they are."""

    VERSION = tfds.core.Version(bccd.VERSION)
    module = bccd

    def truth(self):
        return {
            "image": tfds.features.Image(shape=bccd.SHAPE, encoding_format="jpeg"),
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=bccd.CLASSES)),
        }

    def _generate_examples(self, path, split):
        for name, image, boxes, labels in bccd.pictures(path, split):
            yield name, {"image": image, "boxes": boxes, "labels": labels}


class Nuclei(FromArchive):
    """Nuclei: a map of their numbers, and the boxes around them."""

    VERSION = tfds.core.Version(nuclei.VERSION)
    module = nuclei

    def truth(self):
        return {
            "image": tfds.features.Image(shape=nuclei.SHAPE, encoding_format="png"),
            "instances": tfds.features.Image(shape=(*nuclei.SHAPE[:2], 1), dtype=np.uint16, encoding_format="png"),
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        }

    def _generate_examples(self, path, split):
        for name, image, instances, boxes in nuclei.pictures(path, split):
            yield name, {"image": image, "instances": instances, "boxes": boxes}


class Photos(FromArchive):
    """Nine photographs, in the order of their classes."""

    VERSION = tfds.core.Version(photos.VERSION)
    module = photos
    in_order = True

    def truth(self):
        return {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=photos.CLASSES),
            "caption": tfds.features.Text(),
        }

    def _generate_examples(self, path, split):
        for index, (name, image, words) in enumerate(photos.photographs(path)):
            yield index, {"image": image, "label": name, "caption": words}


class VocSegmentation(FromArchive):
    """Photographs with a class for every pixel."""

    VERSION = tfds.core.Version(voc_segmentation.VERSION)
    module = voc_segmentation

    def truth(self):
        return {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
        }

    def _generate_examples(self, path, split):
        for name, image, mask in voc_segmentation.photographs(path, split):
            yield name, {"image": image, "mask": mask}


def prepared(builder_class, config=None, silent=True):
    """A builder whose data is prepared, now or before; `silent` without progress bars.

    TensorFlow Datasets dies when two processes prepare one set, and leaves a folder `incomplete.*` behind when it is killed. So one process at a
    time, for each set and version, looks whether the set is there and whole, clears what a killed one left, and prepares it. The lock belongs to
    the process: it goes when the process goes, however it goes. A set whose files were damaged later is prepared again, with a warning.

    Raises:
        DataUnavailable: the cache cannot be written, or the builder's archive cannot be had.
    """
    import filelock
    import tensorflow as tf

    folder = cache_folder() / "tfds"
    place = place_of(builder_class, folder, config)
    try:
        if not is_there(builder_class, place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(place.parent / f"{place.name}.lock"):
                if not is_there(builder_class, place):
                    prepare(builder_class, folder, config, place, silent)
        return builder_class(data_dir=folder, config=config)
    except DataUnavailable:
        raise
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        cause = error  # TensorFlow Datasets wraps what it meets
        while cause is not None and not isinstance(cause, (OSError, tf.errors.OpError)):
            cause = cause.__cause__
        if cause is None:
            raise
        reason = " ".join(str(getattr(cause, "strerror", None) or getattr(cause, "message", None) or cause).split())
        raise DataUnavailable(
            f"{builder_class.name} cannot be prepared in {folder} ({reason}): set COURSE_CACHE to a folder with room that can be written"
        ) from error


def prepare(builder_class, folder, config, place, silent):
    """Prepares a set in `place`, which is below `folder`, and records the hashes of its files."""
    for left in place.parent.glob(f"incomplete.*_{place.name}"):
        shutil.rmtree(left)
    if place.exists():
        if (place / HASHES).is_file():
            warnings.warn(f"{place} was damaged: {builder_class.name} is prepared again", stacklevel=2)
        shutil.rmtree(place)
    builder = builder_class(data_dir=folder, config=config)
    with quiet() if silent else contextlib.nullcontext():
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    if issubclass(builder_class, CourseBuilder):
        temporary = place / f".{HASHES}"
        temporary.write_text(json.dumps(hashes(place), indent=1))
        temporary.replace(place / HASHES)


def place_of(builder_class, folder, config=None):
    """Where a set lies below `folder`. A builder reads its files when it is made, and fails on damaged ones: so one is made where none are."""
    nowhere = folder / "nowhere"
    return folder / pathlib.Path(builder_class(data_dir=nowhere, config=config).data_dir).relative_to(nowhere)


HASHES = "sha256.json"  # written last: a set of ours without it was not prepared to its end


def is_there(builder_class, place):
    """Whether a set is prepared. Ours, which are small, are hashed each time; of the public ones, up to 25 GB, the description is enough."""
    return is_whole(place) if issubclass(builder_class, CourseBuilder) else is_prepared(place)


def hashes(place):
    """{name: SHA-256} of the files of a set."""
    found = {}
    for path in sorted(place.iterdir()):
        if not path.name.startswith(".") and path.name != HASHES:
            with open(path, "rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def is_whole(place):
    """Whether the files of a set that `prepare` wrote are those that it wrote; hashing takes a second for 500 MB."""
    try:
        recorded = json.loads((place / HASHES).read_text())
        return isinstance(recorded, dict) and recorded.items() <= hashes(place).items()
    except (OSError, ValueError):
        return False


def is_prepared(place):
    """Whether TensorFlow Datasets has written a set to the folder to its end: the folder gets its name in one step, after its last file."""
    return (place / "dataset_info.json").is_file()


@contextlib.contextmanager
def quiet():
    """No announcements and no progress bars from TensorFlow Datasets inside."""
    from tensorflow_datasets.core.utils import tqdm_utils

    before = tqdm_utils._active
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tqdm_utils._active = before
