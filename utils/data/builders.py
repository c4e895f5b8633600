"""The builders of TensorFlow Datasets behind the sets that are prepared once, and the lock around their preparation."""

import contextlib
import functools
import hashlib
import io
import json
import shutil
import warnings

import tensorflow_datasets as tfds

from utils.data.archives import cache_folder
from utils.data.errors import DataUnavailable


class CourseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What our builders share. A subclass has a `recipe`."""

    # We check hashes ourselves; looking for a file of checksums would need a package that tfds does not require.
    url_infos = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.recipe.about,
            citation=self.recipe.citation,
            features=tfds.features.FeaturesDict(self.recipe.features(tfds, *self._config())),
            disable_shuffling=self.recipe.in_order,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.recipe.splits}

    def _generate_examples(self, split):
        return self.recipe.examples(split, *self._config())

    def _config(self):
        return [self.builder_config.name] if self.recipe.configs else []


@functools.cache
def builder_class(recipe):
    """The builder of a `Recipe`: a subclass of `CourseBuilder`."""
    configs = [
        tfds.core.BuilderConfig(name=name, description=title, version=recipe.version)
        for name, title in recipe.configs.items()
    ]
    name = "".join(word.capitalize() for word in recipe.name.split("_"))
    own = {
        "name": recipe.name,
        "recipe": recipe,
        "VERSION": tfds.core.Version(recipe.version),
        "BUILDER_CONFIGS": configs,
    }
    return type(CourseBuilder)(name, (CourseBuilder,), own, skip_registration=True)


def prepared(builder_class, config=None, silent=True):
    """A builder whose data is prepared, now or before; `silent` without progress bars.

    TensorFlow Datasets dies when two processes prepare one set, and leaves a folder `incomplete.*` behind when it is
    killed. So one process at a time, for each set and version, looks whether the set is there and whole, clears what a
    killed one left, and prepares it. The lock belongs to the process: it goes when the process goes, however it goes. A
    set whose files were damaged later is prepared again, with a warning.

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
            f"{builder_class.name} cannot be prepared in {folder} ({reason}): set COURSE_CACHE to a folder with room "
            "that can be written"
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
    """Where a set lies below `folder`. A builder reads its files when it is made, and fails on damaged ones: so one is
    made where none are.
    """
    builder = builder_class(data_dir=folder / "nowhere", config=config)
    chosen = [builder.builder_config.name] if builder.builder_config else []
    return folder.joinpath(builder.name, *chosen, str(builder.version))


HASHES = "sha256.json"  # written last: a set of ours without it was not prepared to its end


def is_there(builder_class, place):
    """Whether a set is prepared. Ours, which are small, are hashed each time; of the public ones, up to 25 GB, the
    description is enough.
    """
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
    """Whether TensorFlow Datasets has written a set to the folder to its end: the folder gets its name in one step,
    after its last file.
    """
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
