"""Make the shipped weights: `python -m utils.pretrained.train glyphs` (or shapes; about three minutes each on two
cores).

Writes NAME.npz (the weights as float16) and NAME.json (its card: SHA-256, command, seed, score, ...) beside this file.
"""

import argparse
import hashlib
import io
import json
import platform
import sys
from pathlib import Path

import keras
import numpy as np
from scipy import ndimage

from utils import data, session
from utils.pretrained import FOLDER, backbone
from utils.training import WarmupHoldDecay, compile_classifier

RECIPES = {
    "glyphs": {
        "data": "glyphs",
        "network": "pooled",
        "epochs": 6,
        "batch_size": 64,
        "peak": 2e-3,
        "weight_decay": 1e-3,
        "zoom": [0.8, 1.7],
    },
    "shapes": {
        "data": "shapes_crops",
        "network": "strided",
        "epochs": 12,
        "batch_size": 48,
        "peak": 2e-3,
        "weight_decay": 1e-3,
        "flip": True,
    },
}


def augmented(images, recipe, rng):
    """The images as a recipe wants them: warped where it names a zoom, half of them mirrored where it says flip.

    Args:
        images: (N, H, W, C) uint8.
        recipe: a value of `RECIPES`.
        rng: numpy.random.Generator.

    Returns:
        (N, H, W, C) uint8.
    """
    if "zoom" in recipe:
        images = warped(images, recipe["zoom"], rng)
    if recipe.get("flip"):
        mirrored = rng.random(len(images)) < 0.5
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return images


def warped(images, zoom, rng):
    """Each image under an affine map of its own, its edge repeated: the augmentation of the recipe.

    Letters as small and as upright as they are drawn teach features that fail on digits which fill the picture. So each
    image is zoomed by a factor from `zoom`, 8 % more or less along each axis, turned and sheared by up to .2 rad and
    moved by up to 2 pixels.

    Args:
        images: (N, H, W, 1) uint8.
        zoom: (smallest, largest) factor.
        rng: numpy.random.Generator.

    Returns:
        (N, H, W, 1) uint8.
    """
    middle = (np.array(images.shape[1:3]) - 1) / 2
    result = np.empty_like(images)
    for image, out in zip(images, result):
        factors = np.exp(rng.uniform(*np.log(zoom)) + rng.normal(0, 0.08, 2))
        angle, shear = rng.uniform(-0.2, 0.2, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ [[1, 0], [shear, 1]] @ np.diag(1 / factors)
        offset = middle - matrix @ middle + rng.uniform(-2, 2, 2)
        ndimage.affine_transform(image[..., 0], matrix, offset, output=out[..., 0], order=1, mode="nearest")
    return result


def train(name, seed=0, epochs=None):
    """Train the backbone with its top on the recipe's data.

    Args:
        name: key of RECIPES.
        seed: of the initial weights, the order of the images and their augmentation.
        epochs: passes over the training images, if not the recipe's.

    Returns:
        keras.Model giving logits.
    """
    recipe = RECIPES[name]
    images, labels = data.arrays(recipe["data"], "train")
    steps = len(images) // recipe["batch_size"]
    epochs = epochs or recipe["epochs"]
    model = backbone(images.shape[1:], len(np.unique(labels)), include_top=True, network=recipe["network"], name=name)
    rate = WarmupHoldDecay(recipe["peak"], steps * epochs, warmup=min(100, steps * epochs // 2), decay=0.4)
    compile_classifier(model, keras.optimizers.AdamW(rate, weight_decay=recipe["weight_decay"]))
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(images))[: steps * recipe["batch_size"]]
        batch = augmented(images[order], recipe, rng)
        history = model.fit(batch, labels[order], batch_size=recipe["batch_size"], shuffle=False, verbose=0).history
        print(
            f"epoch {epoch + 1} of {epochs}: loss {history['loss'][0]:.3f}, accuracy {history['accuracy'][0]:.3f}",
            flush=True,
        )
    return model


def accuracy(model, images, labels):
    """Share of images whose largest logit is the right one."""
    return float(np.mean(model.predict(images, batch_size=104, verbose=0).argmax(axis=1) == labels))


def pack(model):
    """The weights of a model as the bytes of an .npz file of float16 arrays, and the model set to those rounded
    weights.
    """
    weights = {v.path.removeprefix(f"{model.name}/"): np.asarray(v).astype("float16") for v in model.weights}
    for variable, rounded in zip(model.weights, weights.values()):
        variable.assign(rounded.astype("float32"))
    buffer = io.BytesIO()
    np.savez(buffer, **weights)
    return buffer.getvalue()


def main(arguments=None):
    """Train, measure on the test split with the weights as shipped, write the two files."""
    parser = argparse.ArgumentParser(prog="python -m utils.pretrained.train", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="passes over the training images, if not the recipe's")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write the two files")
    options = parser.parse_args(arguments)
    session.start(options.seed)
    recipe = RECIPES[options.name]
    model = train(options.name, options.seed, options.epochs)
    content = pack(model)
    images, labels = data.arrays(recipe["data"], "test")
    classes = list(data.describe(recipe["data"]).classes)
    command = f"python -m utils.pretrained.train {options.name} --seed {options.seed}"
    card = {
        "name": options.name,
        "network": recipe["network"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "command": command + (f" --epochs {options.epochs}" if options.epochs else ""),
        "seed": options.seed,
        "score": {
            "metric": "accuracy on the test split",
            "accuracy": round(accuracy(model, images, labels), 4),
            "images": len(images),
            "chance": round(1 / len(classes), 4),
        },
        "parameters": model.count_params(),
        "dtype": "float16",
        "training": {**recipe, "epochs": options.epochs or recipe["epochs"], "optimizer": "AdamW"},
        "classes": classes,
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            keras.backend.backend(): _version(),
        },
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / f"{options.name}.npz").write_bytes(content)
    (options.folder / f"{options.name}.json").write_text(json.dumps(card, indent=1) + "\n")
    print(
        f"{options.name}: accuracy {card['score']['accuracy']:.4f} on {len(images)} images, {len(content) / 1000:.0f} "
        "kB"
    )


def _version():
    return sys.modules[keras.backend.backend()].__version__


if __name__ == "__main__":
    main()
