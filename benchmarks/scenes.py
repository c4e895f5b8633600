"""How fast scenes are drawn on one core, with all their ground truth, beside Pillow drawing the same outlines.

    python benchmarks/scenes.py [--scenes 400] [--repeats 5]

The peer draws the same objects at the same places, filled and outlined, four times as large, and reduces the picture:
on a plain ground, without texture or noise. For the truth it draws every object's outline once more as a mask. Each
repeat draws all scenes both ways, one after the other; the ratio is the median over the repeats.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.data import shapes
from utils.data.shapes import outlines

LARGER = 4


def corners(label, points, scale):
    """The outline of an object as a list of corners, from its keypoints."""
    present = points[[shapes.KEYPOINTS.index(name) for name in outlines.NAMES[outlines.FOLDS[label]]], :2]
    middle = points[0, :2]
    name = shapes.CLASSES[label]
    spokes = present - middle
    if name == "star":
        inner = -(np.roll(spokes, -3, axis=0)) * outlines.NOTCH  # opposite each tip is a notch
        spokes = np.stack([spokes, inner], axis=1).reshape(-1, 2)
    elif name == "cross":
        side = np.roll(spokes, -1, axis=0) * outlines.ARM
        spokes = np.stack([spokes - side, spokes + side, spokes * outlines.ARM + side], axis=1).reshape(-1, 2)
    return [tuple(point) for point in ((middle + spokes) * scale).tolist()]


def draw_with_pillow(scene):
    """The objects of a scene by Pillow: the picture (96, 96, 3) and the masks (N, 96, 96) of their visible parts."""
    from PIL import Image, ImageDraw

    height, width = scene.image.shape[:2]
    picture = Image.new("RGB", (width * LARGER, height * LARGER), (200, 200, 200))
    instances = Image.new("L", (width, height))
    for target, scale in ((picture, LARGER), (instances, 1)):
        pen = ImageDraw.Draw(target)
        for number, (label, points) in enumerate(zip(scene.labels, scene.keypoints), 1):
            fill, line = ((220, 60, 40), (120, 30, 20)) if target is picture else (number, None)
            if shapes.CLASSES[label] in ("circle", "ring"):
                radius = math.dist(points[0, :2], points[1, :2])
                x, y = points[0, :2]
                box = [(x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale]
                if shapes.CLASSES[label] == "ring":
                    pen.ellipse(box, outline=fill, width=max(1, round((1 - outlines.HOLE) * radius * scale)))
                else:
                    pen.ellipse(box, fill=fill, outline=line)
            else:
                pen.polygon(corners(label, points, scale), fill=fill, outline=line)
    numbers = np.arange(1, len(scene.labels) + 1, dtype=np.uint8)[:, None, None]
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX)), np.asarray(instances) == numbers


def seconds(action, count):
    """CPU seconds for each of `count` calls."""
    start = time.process_time()
    for index in range(count):
        action(index)
    return (time.process_time() - start) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=400, help="scenes in each repeat (400)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats (5)")
    options = parser.parse_args()
    print(f"{'configuration':<16}{'scenes/s':>10}{'Pillow/s':>10}{'ratio':>8}{'agreement':>11}")
    for config in shapes.CONFIGS:
        drawn = shapes.scenes(options.scenes, config=config)
        agreement = np.mean(
            [
                (masks & (scene.masks == 1)).sum() / (masks | (scene.masks == 1)).sum()
                for scene, (_, masks) in ((scene, draw_with_pillow(scene)) for scene in drawn[:50])
            ]
        )
        ours, peers = [], []
        for _ in range(options.repeats):
            ours.append(seconds(lambda index, config=config: shapes.scene(index, config=config), options.scenes))
            peers.append(seconds(lambda index, drawn=drawn: draw_with_pillow(drawn[index]), options.scenes))
        ratio = statistics.median(ours[i] / peers[i] for i in range(options.repeats))
        rates = 1 / statistics.median(ours), 1 / statistics.median(peers)
        print(f"{config:<16}{rates[0]:>10.0f}{rates[1]:>10.0f}{ratio:>8.2f}{agreement:>11.2f}", flush=True)
    print("ratio: our time by Pillow's; agreement: mean IoU of the masks of both")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
