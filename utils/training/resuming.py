"""A fit that survives an interruption: every epoch is kept in a folder, and the next call goes on from there."""

import contextlib
import hashlib
import inspect
import io
import json
import os
import random
import re
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np


def fit(
    model,
    data,
    epochs,
    folder=None,
    batch_size=32,
    seed=0,
    validation_data=None,
    callbacks=(),
    verbose=0,
    restart=False,
):
    """`model.fit` that goes on from its last finished epoch when it is called again after an interruption.

    After every epoch the weights, the optimizer's state, the random state of dropout and augmentation layers, the
    history and the callbacks' counters go to `folder`. A run that was cut off (kernel died, Colab disconnected, cell
    interrupted) ends with exactly the weights and the history of one that was not: the order of the images is a
    function of the seed and the epoch. A finished run returns at once; it counts as finished when the callbacks'
    `on_train_end` is done, which may come a second time if the run is cut off there. On Colab, a folder on the mounted
    Drive, such as "/content/drive/MyDrive/course/06", outlives the machine.

    (`keras.callbacks.BackupAndRestore` brings back weights and epoch, but not the history, the callbacks or the order
    of the images.)

    Batches are of one size, what remains over of an epoch is left out, and the next epoch leaves out something else: no
    retracing.

    Args:
        model: keras.Model, built and compiled.
        data: arrays x, (x, y) or (x, y, sample weights), shuffled here; each of them an array or a dict of arrays, so
            that a dict of image, boxes and labels, as a detector takes it, is x alone. Or a function of the epoch (0,
            1, ...) that gives such arrays, freshly augmented say, or a `tf.data.Dataset` or `PyDataset` of one epoch,
            whose batches are what `model.fit` takes, dicts too, and which is not shuffled here. Its result must depend
            on the epoch alone.
        epochs: number of epochs of the whole run.
        folder: where to keep the run, one folder for each; None: keep nothing.
        batch_size: images a step, when the data are arrays; at most all of them.
        seed: of the order of the images.
        validation_data: as for `model.fit`.
        callbacks: Keras callbacks. Their plain attributes (numbers, texts, weights: all that EarlyStopping and
            ReduceLROnPlateau count with) are kept with the run.
        verbose: 0 silent, 2 a line for each epoch.
        restart: whether to begin again in a folder that holds another run.

    Returns:
        keras.callbacks.History with the whole run's history.

    Raises:
        ValueError: the folder holds a run of another model, other data, other settings or initial weights (the message
            says which); the model is not compiled or not built; a bare Dataset is given; the arrays differ in length;
            the optimizer uses `use_ema`.
        OSError: the folder cannot be written, or the disk is full; the message names the file.
    """
    _check_fit(model, data, epochs)
    model.optimizer.build(model.trainable_variables)
    torch_seed = _SeedTorch(seed)
    torch_seed.on_epoch_begin(0)
    first = data(0) if callable(data) else data
    steps = None
    if _is_dataset(first):
        first = _first_batch(first)
        # Builds the metrics. Keras would build them from the first epoch's dataset, and a shuffled one gives another
        # order when read again.
        model.test_on_batch(*first)
    else:
        first = keras.utils.unpack_x_y_sample_weight(first)
        steps = _steps(first, batch_size)[0]
    history = keras.callbacks.History()
    watchers = _Callbacks(
        [torch_seed, *callbacks, history],
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )
    run = folder and _Run(folder, model, first, steps and _steps(first, batch_size)[1], seed, epochs, restart)
    saved = run and run.load()
    final = saved and run.final(saved)
    if final is not None and saved.is_last(epochs):
        _restore(model, final)
        history.set_model(model)
        model.history = _filled(history, saved.meta)
        print(f"{run.folder}: already trained, {saved.meta['epoch']} epochs")
        return history
    watchers.begin()
    if saved:
        _restore(model, saved.arrays)
        watchers.restore(saved.callbacks)
        print(f"{run.folder}: going on after epoch {saved.meta['epoch']} of {epochs}")
    _filled(history, saved.meta if saved else {"history": {}, "epoch": 0})
    model.history = history
    kept = _state(model)
    try:
        model.stop_training = bool(saved) and saved.meta["stopped"]
        for epoch in range(len(history.epoch), epochs):
            if model.stop_training:
                break
            torch_seed.on_epoch_begin(epoch)
            one = data(epoch) if callable(data) else data
            arguments = {"x": one} if _is_dataset(one) else _shuffled(one, batch_size, seed, epoch)
            model.fit(
                **arguments,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=0,
                validation_data=validation_data,
                callbacks=watchers,
            )
            state = _state(model)
            if run:
                run.save(state, history, model.stop_training, watchers.state())
            kept = state
    except BaseException:
        # A cell that was interrupted and is run again finds the model as it was saved, not half an epoch further.
        _restore(model, kept)
        raise
    watchers.end()
    if run:
        run.finish(kept, _state(model))
    return history


def _check_fit(model, data, epochs):
    if getattr(model, "optimizer", None) is None:
        raise ValueError("compile the model before fit")
    if not model.built:
        raise ValueError("build the model before fit: give it an Input, or call it once")
    if model.optimizer.use_ema:
        raise ValueError("fit does not support use_ema: each epoch would end with the averaged weights")
    if _is_dataset(data) and not callable(data):
        raise ValueError(
            "data must be arrays, as x, (x, y) or a dict, or a function of the epoch: the order of a bare Dataset "
            "depends on how often it was read. For example: fit(model, lambda epoch: load(..., shuffle=True, "
            "seed=epoch), ...)"
        )
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")


def _is_dataset(data):
    """Whether it is neither an array nor a structure of arrays."""
    return not isinstance(data, (tuple, list, dict)) and not hasattr(data, "shape")


def _first_batch(dataset):
    """(x, y, sample weights) of the first batch, as NumPy arrays; None for what it lacks."""
    batch = dataset[0] if isinstance(dataset, keras.utils.PyDataset) else next(iter(dataset))
    return tuple(
        part if part is None else keras.tree.map_structure(_numpy, part)
        for part in keras.utils.unpack_x_y_sample_weight(batch)
    )


def _numpy(array):
    # TensorFlow's tensors come from tf.data under every backend; the backend's own may lie on a GPU.
    return np.asarray(keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else array)


def _leaves(parts):
    """The arrays in (x, y, sample weights)."""
    return [array for part in parts if part is not None for array in keras.tree.flatten(part)]


def _steps(data, batch_size):
    """Number of whole batches, and their size."""
    counts = {len(array) for array in _leaves(data)}
    if len(counts) != 1:
        raise ValueError(f"the arrays must have one row for each image, but their lengths are {sorted(counts)}")
    (count,) = counts
    batch_size = min(batch_size, count)
    return count // batch_size, batch_size


def _shuffled(data, batch_size, seed, epoch):
    """Arguments for `model.fit`: an epoch's whole batches in its order."""
    data = keras.utils.unpack_x_y_sample_weight(data)
    steps, batch_size = _steps(data, batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(len(_leaves(data)[0]))[: steps * batch_size]
    arguments = {
        name: keras.tree.map_structure(lambda array: np.asarray(array)[order], part)
        for name, part in zip(("x", "y", "sample_weight"), data)
        if part is not None
    }
    return {**arguments, "batch_size": batch_size}


class _SeedTorch(keras.callbacks.Callback):
    """Under PyTorch, sets the random seed anew at the start of every epoch, from the run's seed and the number of the
    epoch.

    PyTorch's dropout draws from a global random state. No checkpoint holds that state, and building a model changes it:
    without this, a resumed run would drop other units than a run that was not interrupted.
    `keras.utils.set_random_seed` also sets the seeds of Python and NumPy; their states are restored, because the
    caller's code may depend on them.
    """

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        if keras.backend.backend() == "torch":
            python, numpy = random.getstate(), np.random.get_state()
            keras.utils.set_random_seed(int(np.random.default_rng([self.seed, epoch]).integers(2**32)))
            random.setstate(python)
            np.random.set_state(numpy)


class _Callbacks(keras.callbacks.CallbackList):
    """Begins and ends once, though `model.fit` is called once for each epoch; keeps what the callbacks count."""

    def begin(self):
        super().on_train_begin()

    def end(self):
        super().on_train_end(getattr(self, "logs", None))

    def on_train_begin(self, logs=None):
        pass

    def on_train_end(self, logs=None):
        self.logs = logs

    def state(self):
        """For each callback, the name of its class, its attributes that are plain, and those that are lists of arrays:
        two dicts.
        """
        return [
            (type(callback).__qualname__, _plain(_counters(callback)), _arrays(_counters(callback)))
            for callback in self._counting()
        ]

    def restore(self, states):
        """Each callback gets the next state of its class: a callback may be new, or gone since then."""
        states = list(states)
        for callback in self._counting():
            place = next((i for i, (name, _, _) in enumerate(states) if name == type(callback).__qualname__), None)
            if place is not None:
                _, plain, arrays = states.pop(place)
                for name, value in {**plain, **arrays}.items():
                    setattr(callback, name, value)

    def _counting(self):
        own = (keras.callbacks.History, keras.callbacks.ProgbarLogger, _SeedTorch)
        return [callback for callback in self.callbacks if not isinstance(callback, own)]


def _counters(callback):
    """The attributes that are not settings: a name that the constructor takes (patience, min_delta) is the caller's."""
    settings = inspect.signature(type(callback).__init__).parameters
    return {name: value for name, value in vars(callback).items() if name not in settings}


def _plain(attributes):
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}
    return {
        name: value for name, value in values.items() if value is None or isinstance(value, (bool, int, float, str))
    }


def _arrays(attributes):
    lists = {name: value for name, value in attributes.items() if isinstance(value, list) and value}
    return {name: value for name, value in lists.items() if all(isinstance(item, np.ndarray) for item in value)}


def _filled(history, meta):
    history.history = {name: list(values) for name, values in meta["history"].items()}
    history.epoch = list(range(meta["epoch"]))
    return history


def _state(model):
    """Everything that a training step changes, in NumPy: weights, running statistics, random state, optimizer."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in _variables(model)]


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _restore(model, arrays):
    variables = _variables(model)
    if len(arrays) != len(variables):
        raise ValueError(f"the model and its optimizer have {len(variables)} variables, the checkpoint {len(arrays)}")
    for variable, array in zip(variables, arrays):
        variable.assign(array)


def _digest(arrays):
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(array))
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()[:16]


class _Run:
    """A folder with the checkpoints of one run: the last two epochs', and the final weights where a callback changed
    them at the end.
    """

    def __init__(self, folder, model, first, batch_size, seed, epochs, restart):
        self.folder = Path(folder).expanduser()
        self.model = model
        self.epochs = epochs
        self.restart = restart
        self.fingerprint = {
            "model": model_digest(model),
            "optimizer, loss or metrics": _compile_digest(model),
            "data": _digest(_leaves(first)),
            "batch size": str(batch_size),
            "seed": str(seed),
        }
        self.weights = _digest(model.weights)
        self.initial, self.seen = self.weights, []

    def load(self):
        """The newest checkpoint that is whole and belongs to this run, or None."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.restart:
            self.clear()
            return None
        for path in sorted(self.folder.glob("epoch-*.npz"), reverse=True):
            saved = _read(path, "going back one epoch")
            if saved is None:
                continue
            self._check(saved)
            self.initial, self.seen = saved.meta["initial"], saved.meta["weights"]
            return saved
        return None

    def _check(self, saved):
        theirs = saved.meta["fingerprint"]
        different = [name for name, value in self.fingerprint.items() if theirs.get(name) != value]
        final = self._final(saved)
        ended_with = [] if final is None else [final.meta["weights"]]
        if self.weights not in (saved.meta["initial"], *saved.meta["weights"], *ended_with):
            different.append("initial weights")
        if saved.meta["epoch"] > self.epochs:
            different.append(f"number of epochs ({saved.meta['epoch']}, not {self.epochs})")
        if different:
            raise ValueError(
                f"{self.folder} holds another run (different: {'; '.join(different)}): choose another folder, or pass "
                "restart=True"
            )

    def clear(self):
        for path in [*self.folder.glob("epoch-*.npz"), *self.folder.glob("final-*.npz"), *self.folder.glob(".*.npz.*")]:
            path.unlink(missing_ok=True)

    def save(self, state, history, stopped, callbacks):
        """Write the checkpoint of an epoch; the one before stays in case this one is damaged, older ones go."""
        epoch = len(history.epoch)
        self.seen = [*self.seen, self._weights_digest(state)]
        meta = {
            "epoch": epoch,
            "stopped": bool(stopped),
            "history": {name: [float(value) for value in values] for name, values in history.history.items()},
            "fingerprint": self.fingerprint,
            "initial": self.initial,
            "weights": self.seen,
            "callbacks": [[name, plain] for name, plain, _ in callbacks],
        }
        arrays = {f"state{index}": array for index, array in enumerate(state)}
        for number, (_, _, lists) in enumerate(callbacks):
            for name, items in lists.items():
                arrays.update({f"callback{number}.{name}.{index}": item for index, item in enumerate(items)})
        _write(self.folder / f"epoch-{epoch:05d}.npz", meta, arrays)
        for path in [*sorted(self.folder.glob("epoch-*.npz"))[:-2], *self.folder.glob(".epoch-*.npz.*")]:
            path.unlink(missing_ok=True)

    def finish(self, last, state):
        """Record that the run is finished, with the weights that a callback left at the end if they are not the last
        epoch's.
        """
        newest = max(self.folder.glob("epoch-*.npz"))
        same = _digest(last) == _digest(state)
        arrays = {} if same else {f"state{index}": array for index, array in enumerate(state)}
        path = self.folder / newest.name.replace("epoch", "final")
        _write(path, {"same": same, "weights": self._weights_digest(state)}, arrays)
        for other in [*self.folder.glob("final-*.npz"), *self.folder.glob(".final-*.npz.*")]:
            if other != path:
                other.unlink(missing_ok=True)

    def final(self, saved):
        """The arrays with which the run ended; None when it was not finished after this checkpoint."""
        final = self._final(saved)
        return None if final is None else saved.arrays if final.meta["same"] else final.arrays

    def _final(self, saved):
        path = self.folder / f"final-{saved.meta['epoch']:05d}.npz"
        return _read(path, "ending the run again") if path.exists() else None

    def _weights_digest(self, state):
        own = {id(variable) for variable in self.model.weights}
        return _digest(array for variable, array in zip(_variables(self.model), state) if id(variable) in own)


class _Checkpoint:
    """What one file holds.

    Args:
        content: bytes of the file.

    Raises:
        Exception: of many kinds; the file is not whole. Every array's checksum (CRC-32) is checked, and that no array
            is missing.
    """

    def __init__(self, content):
        with np.load(io.BytesIO(content)) as file:
            arrays = {name: file[name] for name in file.files}
        self.meta = json.loads(arrays.pop("meta").tobytes())
        if sorted(arrays) != self.meta["arrays"]:
            raise ValueError("arrays are missing")
        self.arrays = [arrays.pop(f"state{index}") for index in range(sum(name.startswith("state") for name in arrays))]
        self.callbacks = [(name, plain, {}) for name, plain in self.meta.get("callbacks", [])]
        for key, array in arrays.items():
            number, name, _ = key.removeprefix("callback").split(".")
            self.callbacks[int(number)][2].setdefault(name, []).append(array)

    def is_last(self, epochs):
        """Whether no epoch is to follow."""
        return self.meta["stopped"] or self.meta["epoch"] == epochs


def _read(path, otherwise):
    """The checkpoint, or None for one that is damaged, which is told and deleted. A file that cannot be opened raises
    its OSError.
    """
    content = path.read_bytes()
    try:
        return _Checkpoint(content)
    except Exception:  # damaged bytes can raise anything: zipfile, struct, json, NumPy
        print(f"{path} is damaged: {otherwise}")
        path.unlink(missing_ok=True)
        return None


def _write(path, meta, arrays):
    """Atomically: a kill leaves the old file or the new one, never half of one."""
    meta = json.dumps({**meta, "arrays": sorted(arrays)})
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(meta.encode(), np.uint8), **arrays)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # Python names no file when a write fails: a full disk would say "No space left on device" and nothing else.
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _text_digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_digest(model):
    """Of the architecture and of what is trainable, whatever the layers are called."""
    try:
        config = model.get_config()
    except NotImplementedError:  # a subclassed model without a configuration
        config = type(model).__name__
    # Names are numbered as layers are made: "dense", "dense_1". In their place, the order in which they appear.
    numbers = {name: f"#{number}" for number, name in enumerate(dict.fromkeys(_names(config)))}
    shapes = [(variable.shape, variable.trainable) for variable in model.weights]
    return _text_digest(_without_addresses(json.dumps(_renamed(config, numbers), default=repr)) + str(shapes))


def _names(config):
    if isinstance(config, dict):
        if isinstance(config.get("name"), str):
            yield config["name"]
        config = config.values()
    if not isinstance(config, str) and isinstance(config, Iterable):
        for value in config:
            yield from _names(value)


def _renamed(config, numbers):
    if isinstance(config, dict):
        return {numbers.get(key, str(key)): _renamed(value, numbers) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_renamed(value, numbers) for value in config]
    return numbers.get(config, config) if isinstance(config, str) else config


def _without_addresses(text):
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _compile_digest(model):
    config = model.get_compile_config() or {}
    parts = {name: config.get(name) for name in ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")}
    text = json.dumps(parts, default=repr, sort_keys=True)
    # Names are numbered as objects are made: "adam", "adam_1".
    return _text_digest(_without_addresses(re.sub(r'"name": "[^"]*"|"shared_object_id": \d+', "", text)))
