"""Public sets that TensorFlow Datasets can download and prepare, their examples put into the form of all the others."""

import functools
import os
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass

import numpy as np

from utils.data import voc_segmentation
from utils.data.archives import cache_folder
from utils.data.description import Description
from utils.data.errors import DataUnavailable
from utils.data.prepared import Prepared

TIMEOUT = 10  # seconds for a first answer


@dataclass(frozen=True)
class Public:
    """What is known of a public set before it is there.

    Attributes:
        dataset, config: what TensorFlow Datasets calls it.
        counts: images by its own splits.
        parts: our splits: (its split, first image, last image + 1).
        instead: the embedded set that serves when it cannot be had.
    """

    dataset: str
    config: str | None
    counts: dict[str, int]
    parts: dict[str, tuple[str, int, int]]
    instead: str

    @property
    def name(self):
        """Name and configuration, as `load` takes them."""
        return f"{self.dataset}/{self.config}" if self.config else self.dataset

    def splits(self):
        """Number of images by our splits."""
        return {split: stop - start for split, (_, start, stop) in self.parts.items()}


class Labelled(Prepared):
    """A public set with one label an image, too large to be kept in memory.

    Args:
        public: a `Public`.
        description: a `Description`.
    """

    def __init__(self, public, description):
        super().__init__(description, None)
        self.public = public

    @functools.cached_property
    def builder(self):
        builder = prepared(self.public)
        found = {split: info.num_examples for split, info in builder.info.splits.items()}
        if found and any(found.get(split) != count for split, count in self.public.counts.items()):
            raise DataUnavailable(
                f"{builder.data_dir} holds {found}, not {self.public.counts}: delete it and run again"
            )
        return builder

    def records(self, split, start, stop, decoders=None):
        import tensorflow_datasets as tfds

        theirs, first, _ = self.public.parts[split]
        decoders = decoders or {name: tfds.decode.SkipDecoding() for name in self.pictures}
        read = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)  # one reader: a fixed order
        return self.builder.as_dataset(
            split=f"{theirs}[{first + start}:{first + stop}]", decoders=decoders, read_config=read
        )

    def labels(self, split):
        import tensorflow_datasets as tfds

        alone = tfds.decode.PartialDecoding({"label": True})
        records = self.records(split, 0, self.description.splits[split], alone)
        return np.array([record["label"] for record in records.as_numpy_iterator()], np.int32)

    def images(self, split, indices):
        import tensorflow as tf

        indices = np.asarray(indices)
        wanted, first = set(indices.tolist()), int(indices.min())
        records = self.records(split, first, int(indices.max()) + 1).as_numpy_iterator()
        encoded = {index: record["image"] for index, record in enumerate(records, first) if index in wanted}
        with tf.device("CPU"):
            for index in indices.tolist():
                yield self.picture({"image": encoded[index]}).numpy()


class Pets(Labelled):
    """The trimap says pet, background or border; the border, where people could not tell, is ignored."""

    pictures = ("image", "segmentation_mask")

    def decode(self, record):
        import tensorflow as tf

        trimap = self.picture(record, "segmentation_mask")[..., 0]
        return {
            "image": self.picture(record),
            "label": tf.cast(record["label"], tf.int32),
            "mask": tf.gather(tf.constant([255, 1, 0, 255], tf.uint8), tf.minimum(tf.cast(trimap, tf.int32), 3)),
        }


class Boxed(Labelled):
    """A set with boxes; those flagged as difficult or as a crowd are `ignored`, those without area are left out.

    Args:
        public, description: as for `Labelled`.
        flag: name of the feature that flags them.
        first: number of the first pixel, from which the set counts; 1 in VOC, whose boxes begin with their first pixel's number.
    """

    def __init__(self, public, description, flag, first):
        super().__init__(public, description)
        self.flag, self.first = flag, first

    def decode(self, record):
        import tensorflow as tf

        image, objects = self.picture(record), record["objects"]
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        top, left, bottom, right = tf.unstack(objects["bbox"] * tf.stack([height, width, height, width]), axis=-1)
        boxes = tf.stack([left - self.first, top - self.first, right, bottom], axis=-1)
        boxes = tf.clip_by_value(boxes, 0, tf.stack([width, height, width, height]))
        # Here and not in `utils.boxes`: what runs in tf.data is TensorFlow's under every backend.
        keep = tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=-1) > 0
        return {
            "image": image,
            "boxes": tf.ensure_shape(tf.boolean_mask(boxes, keep), (None, 4)),
            "labels": tf.cast(tf.boolean_mask(objects["label"], keep), tf.int32),
            "ignored": tf.boolean_mask(objects[self.flag], keep),
        }


def prepared(public):
    """The builder of a public set: prepared in COURSE_DATA, in TensorFlow Datasets' own folder or in our cache before, else prepared now.

    Raises:
        DataUnavailable: it is not there and cannot be downloaded.
    """
    import pathlib

    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    from utils.data import builders

    builder_class = tfds.builder_cls(public.dataset)
    given = os.environ.get("COURSE_DATA")
    for folder in filter(None, (given, tfds.core.constants.DATA_DIR, cache_folder() / "tfds")):
        folder = pathlib.Path(folder).expanduser()
        place = builders.place_of(builder_class, folder, public.config)
        if builders.is_prepared(place):
            return opened(builder_class, folder, public.config, place)
    builder = builder_class(data_dir=folder, config=public.config)  # nothing is there, so it reads nothing
    try:
        reach(list(builder.url_infos or ()))
        return builders.prepared(builder_class, public.config, silent=False)
    except (OSError, DataUnavailable, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        reason = " ".join(str(error).split())
        place = f"{public.name}/{builder.version}"
        raise DataUnavailable(
            f"{public.name} could not be downloaded and prepared ({reason}): try again, or prepare it on another machine with "
            f"tensorflow_datasets.load({public.name!r}), put the folder {place} that this makes into a folder and set COURSE_DATA to that "
            f"folder, or use the data set {public.instead!r} instead, which needs no file"
        ) from error


def opened(builder_class, folder, config, place):
    """The builder of a set that was prepared before.

    Raises:
        DataUnavailable: its description is damaged, or files are missing.
    """
    try:
        builder = builder_class(data_dir=folder, config=config)
        missing = [path for split in builder.info.splits.values() for path in split.filepaths if not path.exists()]
    except Exception as error:  # damaged files make protobuf, json and tfds raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataUnavailable(f"{place} is damaged ({reason}): delete it and run again") from error
    if missing:
        raise DataUnavailable(f"{place} is damaged ({missing[0].name} is not there): delete it and run again")
    return builder


def reach(urls):
    """Raises OSError if none of the hosts of these addresses is known here. TensorFlow Datasets would try for minutes before it says so."""
    if urllib.request.getproxies():
        return  # then it is the proxy that knows hosts
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls}
    error = None
    for host in sorted(filter(None, hosts)):
        try:
            socket.getaddrinfo(host, 443)
            return
        except OSError as failure:
            error = OSError(f"{host}: {failure.strerror or failure}")
    if error is not None:
        raise error


def described(public, size, note="", **facts):
    """The `Description` of a public set; `size` is what is downloaded."""
    return Description(
        name=public.name,
        splits=public.splits(),
        image_shape=(None, None, 3),
        source=f"tensorflow_datasets.load({public.name!r}): downloads {size}",
        note=note,
        **facts,
    )


def names(text, separator=None):
    """The names in a text, as a tuple."""
    return tuple(text.split(separator))


def cats_vs_dogs():
    """Photographs of cats and dogs."""
    public = Public(
        "cats_vs_dogs",
        None,
        counts={"train": 23262},
        parts={"train": ("train", 0, 18610), "validation": ("train", 18610, 20936), "test": ("train", 20936, 23262)},
        instead="shapes_crops",
    )
    description = described(
        public,
        ".8 GB",
        title="Photographs of cats and dogs",
        classes=("cat", "dog"),
        licence="not stated (Microsoft Research and Petfinder)",
        citation="J. Elson et al., Asirra: A CAPTCHA that Exploits Interest-Aligned Manual Image Categorization, CCS 2007",
        note="Split here, 80 / 10 / 10 %: it comes in one piece.",
    )
    return Labelled(public, description)


def tf_flowers():
    """Photographs of flowers."""
    public = Public(
        "tf_flowers",
        None,
        counts={"train": 3670},
        parts={"train": ("train", 0, 2570), "validation": ("train", 2570, 3120), "test": ("train", 3120, 3670)},
        instead="shapes_crops",
    )
    description = described(
        public,
        ".2 GB",
        title="Photographs of flowers",
        classes=("dandelion", "daisy", "tulips", "sunflowers", "roses"),
        licence="CC BY 2.0, by many photographers, named in the archive",
        citation="The TensorFlow Team, Flowers, 2019",
        note="Split here, 70 / 15 / 15 %: it comes in one piece.",
    )
    return Labelled(public, description)


BREEDS = names(
    "Abyssinian american_bulldog american_pit_bull_terrier basset_hound beagle Bengal Birman Bombay boxer British_Shorthair chihuahua "
    "Egyptian_Mau english_cocker_spaniel english_setter german_shorthaired great_pyrenees havanese japanese_chin keeshond leonberger "
    "Maine_Coon miniature_pinscher newfoundland Persian pomeranian pug Ragdoll Russian_Blue saint_bernard samoyed scottish_terrier "
    "shiba_inu Siamese Sphynx staffordshire_bull_terrier wheaten_terrier yorkshire_terrier"
)


def oxford_iiit_pet():
    """Photographs of cats and dogs by breed, with a mask."""
    public = Public(
        "oxford_iiit_pet",
        None,
        counts={"train": 3680, "test": 3669},
        parts={"train": ("train", 0, 3128), "validation": ("train", 3128, 3680), "test": ("test", 0, 3669)},
        instead="shapes",
    )
    description = described(
        public,
        ".8 GB",
        title="Cats and dogs of 37 breeds, with a mask of the animal",
        classes=BREEDS,
        licence="CC BY-SA 4.0",
        citation="O. Parkhi, A. Vedaldi, A. Zisserman, C. Jawahar, Cats and Dogs, CVPR 2012",
        note="The mask has two classes whatever the breed: 1 is the animal, 0 the background; the border between them, which the authors' trimap "
        "marks as such, is ignored (255). Validation is the last 15 % of the authors' training images.",
        targets=("label", "mask"),
        mask_classes=("background", "pet"),
    )
    return Pets(public, description)


VOC_NOTE = (
    "It has boxes; masks are in voc_segmentation. Objects that VOC marks as difficult are `ignored`: VOC's own evaluation counts them neither as "
    "found nor as missed. VOC counts pixels from 1; "
    "here a box begins at the edge of its first pixel. "
)


def voc(year="2007"):
    """Pascal VOC: photographs with boxes."""
    public = {
        "2007": Public(
            "voc",
            "2007",
            counts={"train": 2501, "validation": 2510, "test": 4952},
            parts={"train": ("train", 0, 2501), "validation": ("validation", 0, 2510), "test": ("test", 0, 4952)},
            instead="shapes",
        ),
        "2012": Public(
            "voc",
            "2012",
            counts={"train": 5717, "validation": 5823},
            parts={"train": ("train", 0, 5145), "validation": ("train", 5145, 5717), "test": ("validation", 0, 5823)},
            instead="shapes",
        ),
    }[year]
    description = described(
        public,
        {"2007": ".9 GB", "2012": "3.6 GB"}[year],
        title=f"Pascal VOC {year}: photographs with boxes",
        classes=voc_segmentation.CLASSES,
        licence="Flickr's terms of use",
        citation=f"M. Everingham et al., The PASCAL Visual Object Classes Challenge {year}",
        note=VOC_NOTE
        + {
            "2007": "Split as the challenge did.",
            "2012": "Nobody has the truth of the challenge's test images: test is its validation split, validation the last tenth of its train.",
        }[year],
        targets=("boxes", "labels", "ignored"),
        max_objects=100,
        variants=("voc/2007", "voc/2012"),
    )
    return Boxed(public, description, flag="is_difficult", first=1)


COCO = names(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,bird,cat,dog,horse,"
    "sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,"
    "carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush",
    ",",
)


def coco(year="2017"):
    """COCO: photographs with boxes."""
    public = Public(
        "coco",
        year,
        counts={"train": 118287, "validation": 5000},
        parts={"train": ("train", 0, 113287), "validation": ("train", 113287, 118287), "test": ("validation", 0, 5000)},
        instead="shapes",
    )
    description = described(
        public,
        "25 GB",
        title=f"COCO {year}: photographs with boxes",
        classes=COCO,
        licence="annotations CC BY 4.0; photographs by Flickr's terms of use",
        citation="T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014",
        note="Crowds (one box around many) are `ignored`, boxes without area left out. Nobody has the truth of COCO's test images: test is its validation "
        "split, on which papers report; validation is the last 5,000 of its train.",
        targets=("boxes", "labels", "ignored"),
        max_objects=100,
        variants=("coco/2017",),
    )
    return Boxed(public, description, flag="is_crowd", first=0)
