"""Our U-Net beside the same U-Net written in PyTorch, a training step and inference; the confusion matrix beside
scikit-learn's.

    python benchmarks/segmentation.py [--widths 24 48 96 128] [--batch 16] [--size 96] [--steps 6] [--rounds 4]

PyTorch is not among the course's packages: without it, only the confusion matrix is measured. Both nets have the same
weights, which is checked by their logits and by the loss of a first step, the same AdamW and the same batches of uint8
images in NumPy. PyTorch runs in both of its memory formats; the ratio is to the better of the two.

One thread, unless OMP_NUM_THREADS says more: PyTorch's threads wait for one another by spinning, and on a machine with
other work a run with two would measure that.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from utils.segmentation import losses, metrics, unet

try:
    import torch
except ImportError:
    torch = None

CLASSES = 7
RATE = 1e-3


def batch_of(count, size):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, 3), np.uint8)
    masks = random.integers(0, CLASSES, (count, size, size)).astype(np.uint8)
    masks[random.random(masks.shape) < 0.05] = 255
    return images, masks


# The peer


def torch_unet(widths):
    """The net of `unet(..., widths, stem_stride=2)`, as one writes it in PyTorch."""
    nn = torch.nn

    def unit(inside, outside, stride=1):
        convolution = nn.Conv2d(inside, outside, 3, stride, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))

    def double(inside, outside):
        return nn.Sequential(unit(inside, outside), unit(outside, outside))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = unit(3, widths[0], 2)
            self.down = nn.ModuleList(double(a, b) for a, b in zip((widths[0], *widths[:-1]), widths))
            pairs = list(zip(widths[:0:-1], widths[-2::-1]))
            self.enlarge = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
            self.up = nn.ModuleList(double(2 * b, b) for _, b in pairs)
            self.logits = nn.Conv2d(widths[0], CLASSES, 1)

        def forward(self, x):
            x = self.stem(x.float() / 127.5 - 1)
            maps = []
            for stage in self.down:
                x = stage(x if not maps else nn.functional.max_pool2d(x, 2))
                maps.append(x)
            maps.pop()
            for enlarge, stage in zip(self.enlarge, self.up):
                x = stage(torch.cat([maps.pop(), enlarge(x)], 1))
            return nn.functional.interpolate(self.logits(x), scale_factor=2, mode="bilinear")

    return UNet()


def copy_weights(ours, theirs):
    """Our weights into the peer: both list their layers from input to output. Our convolutions have no bias; theirs
    begin at zero.
    """
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.BatchNorm2d)
    modules = dict(theirs.named_modules())
    stages = len(theirs.up)
    order = ["stem", *(f"down.{i}" for i in range(stages + 1))]
    order += [name for i in range(stages) for name in (f"enlarge.{i}", f"up.{i}")] + ["logits"]
    targets = [m for name in order for m in modules[name].modules() if isinstance(m, kinds)]
    sources = [layer for layer in ours.layers if layer.weights]
    for layer, module in zip(sources, targets, strict=True):
        values = [torch.from_numpy(np.array(value)) for value in layer.get_weights()]
        with torch.no_grad():
            if isinstance(module, torch.nn.BatchNorm2d):
                parts = module.weight, module.bias, module.running_mean, module.running_var
                for part, value in zip(parts, values):
                    part.copy_(value)
                continue
            # Ours (h, w, in, out), transposed (h, w, out, in); theirs (out, in, h, w), transposed (in, out, h, w).
            module.weight.copy_(values[0].permute(3, 2, 0, 1))
            module.bias.copy_(values[1] if len(values) > 1 else torch.zeros_like(module.bias))


class Peer:
    """A training step and inference of the peer, from NumPy to NumPy."""

    def __init__(self, ours, widths, memory_format):
        self.format = memory_format
        self.net = torch_unet(widths)
        copy_weights(ours, self.net)
        self.net.to(memory_format=memory_format)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), RATE, eps=1e-7, weight_decay=0.004)
        self.loss = torch.nn.CrossEntropyLoss(ignore_index=255)

    def _tensor(self, images):
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=self.format)

    def step(self, images, masks):
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.net(self._tensor(images)), torch.from_numpy(masks).long())
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, images):
        self.net.eval()
        with torch.inference_mode():
            return self.net(self._tensor(images)).permute(0, 2, 3, 1).numpy()


def in_turns(runs, rounds, steps):
    """dict of name -> (CPU seconds of all threads, seconds on the clock) of one call, the best of the rounds after the
    first.
    """
    best = {name: (float("inf"), float("inf")) for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            cpu, clock = time.process_time(), time.perf_counter()
            for _ in range(steps):
                run()
            spent = (time.process_time() - cpu) / steps, (time.perf_counter() - clock) / steps
            if number:
                best[name] = tuple(map(min, best[name], spent))
    return best


def table(title, found, ours):
    print(f"\n{title}")
    peers = [times for name, times in found.items() if name != ours]
    for name, times in found.items():
        print(f"  {name:<28}{1e3 * times[0]:>9.1f} ms CPU{1e3 * times[1]:>9.1f} ms on the clock")
    ratios = [min(peer[kind] for peer in peers) / found[ours][kind] for kind in (0, 1)]
    print(f"  ours is {ratios[0]:.2f} times as fast by CPU seconds, {ratios[1]:.2f} by the clock")


def networks(arguments):
    if keras.backend.backend() != "torch":
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    keras.utils.set_random_seed(0)
    size, widths = arguments.size, tuple(arguments.widths)
    images, masks = batch_of(arguments.batch, size)
    ours = unet((size, size, 3), CLASSES, widths, stem_stride=2)
    ours.compile(keras.optimizers.AdamW(RATE), losses.CrossEntropy(), jit_compile=False)
    peers = {
        "PyTorch, channels first": Peer(ours, widths, torch.contiguous_format),
        "PyTorch, channels last": Peer(ours, widths, torch.channels_last),
    }
    for name, peer in peers.items():
        apart = np.abs(ours.predict_on_batch(images) - peer.predict(images)).max()
        print(f"logits of ours and {name} differ by {apart:.1e} at most")
    first = {name: peer.step(images, masks) for name, peer in peers.items()}
    print(f"loss of the first step: {float(ours.train_on_batch(images, masks)):.5f}, peers {list(first.values())}")
    label = f"ours ({keras.backend.backend()})"
    steps = {label: lambda: ours.train_on_batch(images, masks)}
    steps |= {name: lambda peer=peer: peer.step(images, masks) for name, peer in peers.items()}
    table("A training step", in_turns(steps, arguments.rounds, arguments.steps), label)
    predictions = {label: lambda: ours.predict_on_batch(images)}
    predictions |= {name: lambda peer=peer: peer.predict(images) for name, peer in peers.items()}
    table("Inference of a batch", in_turns(predictions, arguments.rounds, arguments.steps), label)


def matrices(arguments):
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, (16, 256, 256)).astype(np.uint8)
    predictions = random.integers(0, CLASSES, labels.shape).astype(np.uint8)
    labels[random.random(labels.shape) < 0.05] = 255

    def peer():
        counted = labels != 255
        return confusion_matrix(labels[counted], predictions[counted], labels=range(CLASSES))

    np.testing.assert_array_equal(metrics.confusion(labels, predictions, CLASSES), peer())
    runs = {"ours": lambda: metrics.confusion(labels, predictions, CLASSES), "scikit-learn": peer}
    table(f"Confusion matrix of {labels.size:,} pixels", in_turns(runs, arguments.rounds, 1), "ours")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[24, 48, 96, 128])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="side of the images, pixels")
    parser.add_argument("--steps", type=int, default=6, help="calls in a row, of each in turn")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    matrices(arguments)
    if torch is None:
        print(
            "\nPyTorch is not installed: no peer for the networks. `pip install torch` in an environment beside this "
            "one."
        )
        return
    networks(arguments)


if __name__ == "__main__":
    main()
