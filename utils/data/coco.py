"""COCO: photographs with boxes."""

from utils.data.catalogue import register
from utils.data.public import Boxed, Public, described, names

CLASSES = names(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking "
    "meter,bench,bird,cat,dog,horse,"
    "sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports "
    "ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine "
    "glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,"
    "carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining "
    "table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush",
    ",",
)


@register("coco")
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
        classes=CLASSES,
        licence="annotations CC BY 4.0; photographs by Flickr's terms of use",
        citation="T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014",
        note="Crowds (one box around many) are `ignored`, boxes without area left out. Nobody has the truth of COCO's "
        "test images: test is its validation "
        "split, on which papers report; validation is the last 5,000 of its train.",
        targets=("boxes", "labels", "ignored"),
        max_objects=100,
        variants=("coco/2017",),
    )
    return Boxed(public, description, flag="is_crowd", first=0)
