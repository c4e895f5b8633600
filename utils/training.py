"""Training: learning rates by layer group, a fit that survives an interruption, live curves, a schedule that Keras lacks."""

import hashlib
import inspect
import io
import json
import os
import random
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
from keras import ops

from utils import plots

# Compiling


def jit_compile():
    """What to pass as `compile(jit_compile=...)`: False on TensorFlow without a GPU, where XLA costs start-up time and memory and gains
    nothing; "auto" elsewhere."""
    slow = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if slow else "auto"


def compile_classifier(model, optimizer):
    """Compile a model that gives logits for labels that are int: cross-entropy, accuracy.

    Args:
        model: keras.Model giving logits (B, classes).
        optimizer: keras optimizer.

    Returns:
        The model.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(optimizer, loss, metrics=[accuracy], jit_compile=jit_compile())
    # All variables are there now. TensorFlow traces a step twice when the first tracing creates some: it takes half of the time.
    if model.built:
        optimizer.build(model.trainable_variables)
    return model


def filled_batches(arrays, size):
    """Batches of one shape: the last one is filled up by repeating its last row, so that no odd batch is traced anew.

    Args:
        arrays: list of arrays (N, ...) of the same N.
        size: rows of each batch.

    Yields:
        (list of arrays (size, ...), how many of the rows count).
    """
    for start in range(0, len(arrays[0]), size):
        batch = [np.asarray(array[start : start + size]) for array in arrays]
        kept = len(batch[0])
        yield [np.concatenate([part, np.repeat(part[-1:], size - kept, axis=0)]) for part in batch], kept


@keras.saving.register_keras_serializable("convnets")
class WarmupHoldDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly to its peak, stays there, and falls linearly to its end value.

    A function of the step alone, so that a run is budgeted by steps and repeats exactly (`keras.optimizers.schedules.CosineDecay` has a
    warm-up too, but holds no plateau).

    Args:
        peak: learning rate of the plateau.
        steps: steps of the whole run, at least 1; after them the rate stays at `end`.
        warmup: steps of the rise, from peak / warmup at step 0.
        decay: share of the run, 0 to 1, in which the rate falls.
        end: last learning rate.

    Raises:
        ValueError: the rise and the fall do not fit into the run.
    """

    def __init__(self, peak, steps, warmup=100, decay=0.25, end=0.0):
        if steps < 1 or warmup < 0 or not 0 <= decay <= 1 or warmup + decay * steps > steps:
            raise ValueError(
                f"a run of {steps} steps has no room for {warmup} of warm-up and a share of {decay} of decay"
            )
        self.peak, self.steps, self.warmup, self.decay, self.end = peak, steps, warmup, decay, end

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = ops.minimum(1.0, (step + 1) / max(self.warmup, 1))
        remaining = (self.steps - step) / max(self.decay * self.steps, 1e-6)
        return rise * (self.end + (self.peak - self.end) * ops.clip(remaining, 0.0, 1.0))

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup, "decay": self.decay, "end": self.end}


# Layer groups


def leaf_layers(model):
    """The layers of a model from input to output, with the layers of nested models in the place of those models.

    Args:
        model: keras.Model, functional or Sequential.

    Returns:
        list of keras.Layer.
    """
    leaves = []
    for layer in model.layers:
        leaves.extend(leaf_layers(layer) if isinstance(layer, keras.Model) else [layer])
    return leaves


def layer_groups(model, starts):
    """Divide a model's layers by depth into groups.

    Args:
        model: keras.Model, functional or Sequential; nested models are looked into.
        starts: names of the layers with which the groups begin; each reaches to the next one.

    Returns:
        list of lists of keras.Layer, from input to output. Layers before the first start belong to no group: they must hold no weights.

    Raises:
        ValueError: a name is unknown or stands for several layers, the names are not in the order of the layers, or there are
            weights before the first.
    """
    layers = leaf_layers(model)
    names = [layer.name for layer in layers]
    starts = list(starts)
    for name in starts:
        if names.count(name) != 1:
            raise ValueError(
                f"the model has {names.count(name) or 'no'} layers named {name!r}; it has: {', '.join(names)}"
            )
    cuts = [names.index(name) for name in starts]
    if cuts != sorted(set(cuts)):
        raise ValueError(f"the groups must begin in the order of the layers, got {', '.join(starts)}")
    early = [layer.name for layer in layers[: cuts[0]] if layer.weights]
    if early:
        raise ValueError(f"{early[0]!r} comes before the first group, which begins with {starts[0]!r}: begin there")
    return [layers[start:end] for start, end in zip(cuts, [*cuts[1:], None])]


def layerwise(optimizer, model, multipliers):
    """An optimizer with a learning rate of its own for each group of layers: discriminative fine-tuning.

    `layerwise(AdamW(1e-3), model, {"conv1": 1 / 100, "conv5": 1 / 10, "logits": 1})` trains the layers from conv1 on with 1e-5, those
    from conv5 on with 1e-4, and those from logits on with 1e-3 (Howard and Ruder 2018; Yosinski et al. 2014 for why early layers
    need less).

    Args:
        optimizer: keras optimizer; its learning rate, or schedule, is that of the groups with multiplier 1.
        model: the model to be trained, built.
        multipliers: dict of layer name -> factor of at least 0. Each named layer begins a group that reaches to the next, as in
            `layer_groups`. 0 keeps the weights where they are, but, other than `trainable = False`, leaves batch normalisation
            in training mode.

    Returns:
        LayerwiseOptimizer.

    Raises:
        ValueError: as `layer_groups`, and for factors below 0.
    """
    by_path = {}
    for group, multiplier in zip(layer_groups(model, multipliers), multipliers.values()):
        for variable in (variable for layer in group for variable in layer.weights):
            if by_path.setdefault(variable.path, multiplier) != multiplier:
                raise ValueError(
                    f"two layers in different groups have weights called {variable.path!r}: rename one of the layers"
                )
    return LayerwiseOptimizer(optimizer, by_path)


@keras.saving.register_keras_serializable("convnets")
class LayerwiseOptimizer(keras.optimizers.Optimizer):
    """Takes another optimizer's step, multiplied for each variable by a factor; `layerwise` makes one from layer groups.

    The step, not the gradient, is multiplied: Adam divides by the gradient's size, so that a factor on the gradient would change
    nothing. Every optimizer's step is proportional to its learning rate, weight decay and momentum included, so this is a learning rate
    for each variable. Clipping sees the gradients of all groups together.

    Args:
        optimizer: keras optimizer, without `use_ema`.
        multipliers: dict of variable path -> factor of at least 0, for every trainable variable.
        name: of the optimizer.

    Raises:
        ValueError: a factor below 0, or `use_ema`, whose average would be that of the steps before the multiplication. On the first step:
            a variable without a factor.
    """

    def __init__(self, optimizer, multipliers, name="layerwise"):
        super().__init__(learning_rate=0.0, name=name)
        negative = [path for path, multiplier in multipliers.items() if not multiplier >= 0]
        if negative:
            raise ValueError(f"the multiplier of {negative[0]} must be at least 0, got {multipliers[negative[0]]}")
        if optimizer.use_ema:
            raise ValueError("use_ema averages other steps than those that are taken: leave it out")
        self.optimizer = optimizer
        self.multipliers = {path: float(multiplier) for path, multiplier in multipliers.items()}

    def build(self, variables):
        """Create the inner optimizer's variables; ValueError for a variable without a multiplier."""
        if self.built:
            return
        self._by_path = {variable.path: self._multiplier(variable.path) for variable in variables}
        self.optimizer.build(variables)
        super().build(variables)

    def _multiplier(self, path):
        # A loaded model may call "conv2/kernel" what was "inner/conv2/kernel": then one path ends with the other.
        found = {self.multipliers[key] for key in self.multipliers if key == path} or {
            self.multipliers[key]
            for key in self.multipliers
            if f"/{path}".endswith(f"/{key}") or f"/{key}".endswith(f"/{path}")
        }
        if len(found) != 1:
            raise ValueError(
                f"{'two multipliers' if found else 'no multiplier'} for {path}: was the optimizer made for another model?"
            )
        return found.pop()

    def apply(self, grads, trainable_variables=None):
        """Update the variables from their gradients, as `keras.optimizers.Optimizer.apply`."""
        if not self.built:
            self.build(list(trainable_variables))
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        factors = [(variable, self._by_path[variable.path]) for variable in variables]
        slowed = [(variable, factor, _copy(variable)) for variable, factor in factors if factor != 1]
        self.optimizer.apply(grads, variables)
        for variable, factor, before in slowed:
            after = before if factor == 0 else before + factor * (ops.convert_to_tensor(variable) - before)
            if variable.constraint is not None and factor > 0:
                after = variable.constraint(after)
            variable.assign(after)

    @property
    def variables(self):
        return self._variables + self.optimizer.variables

    @property
    def iterations(self):
        return self.optimizer.iterations

    @property
    def learning_rate(self):
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        """As the inner optimizer does."""
        return self.optimizer.scale_loss(loss)

    def get_config(self):
        return {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "multipliers": dict(self.multipliers),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects=custom_objects)
        return cls(optimizer, config["multipliers"], config["name"])


def _copy(variable):
    # PyTorch changes variables in place: what was read before the step would change with it.
    return ops.copy(ops.convert_to_tensor(variable))


# Resumable fit


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

    After every epoch the weights, the optimizer's state, the random state of dropout and augmentation layers, the history and the
    callbacks' counters go to `folder`. A run that was cut off (kernel died, Colab disconnected, cell interrupted) ends with exactly the
    weights and the history of one that was not: the order of the images is a function of the seed and the epoch. A finished run returns at
    once. On Colab, a folder on the mounted Drive, such as "/content/drive/MyDrive/course/06", outlives the machine.

    (`keras.callbacks.BackupAndRestore` brings back weights and epoch, but not the history, the callbacks or the order of the images.)

    Batches are of one size, what remains over of an epoch is left out, and the next epoch leaves out something else: no retracing.

    Args:
        model: keras.Model, built and compiled.
        data: arrays (x, y) or (x, y, sample weights), shuffled here; x can be a dict of arrays. Or a function of the epoch (0, 1, ...)
            that gives such arrays, freshly augmented say, or a batched `tf.data.Dataset` or `PyDataset` of one epoch, which is not
            shuffled here. Its result must depend on the epoch alone.
        epochs: number of epochs of the whole run.
        folder: where to keep the run, one folder for each; None: keep nothing.
        batch_size: images a step, when the data are arrays; at most all of them.
        seed: of the order of the images.
        validation_data: as for `model.fit`.
        callbacks: Keras callbacks. Their plain attributes (numbers, texts, weights: all that EarlyStopping and ReduceLROnPlateau count
            with) are kept with the run.
        verbose: 0 silent, 2 a line for each epoch.
        restart: whether to begin again in a folder that holds another run.

    Returns:
        keras.callbacks.History with the whole run's history.

    Raises:
        ValueError: the folder holds a run of another model, other data, other settings or initial weights (the message says which);
            the model is not compiled or not built; a bare Dataset is given; the optimizer uses `use_ema`.
    """
    _check_fit(model, data, epochs)
    model.optimizer.build(model.trainable_variables)
    torch_seed = _SeedTorch(seed)
    torch_seed.on_epoch_begin(0)
    first = data(0) if callable(data) else data
    steps = None
    if _is_dataset(first):
        first = _first_batch(first)
        # Builds the metrics. Keras would build them from the first epoch's dataset, and a shuffled one gives another order when read again.
        model.test_on_batch(*first)
    else:
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
    if saved and saved.done(epochs):
        saved.restore(model, run.final(saved))
        history.set_model(model)
        model.history = _filled(history, saved.meta)
        print(f"{run.folder}: already trained, {saved.meta['epoch']} epochs")
        return history
    watchers.begin()
    if saved:
        saved.restore(model, saved.arrays)
        watchers.restore(saved.meta["callbacks"])
        print(f"{run.folder}: going on after epoch {saved.meta['epoch']} of {epochs}")
    _filled(history, saved.meta if saved else {"history": {}, "epoch": 0})
    model.history = history
    kept = _state(model)
    try:
        for epoch in range(len(history.epoch), epochs):
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
            if model.stop_training:
                break
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
    if not isinstance(data, (tuple, list)) and not callable(data):
        raise ValueError(
            "data must be arrays (x, y), or a function of the epoch: the order of a bare Dataset depends on how often it was read. "
            "For example: fit(model, lambda epoch: load(..., shuffle=True, seed=epoch), ...)"
        )
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")


def _is_dataset(data):
    return not isinstance(data, (tuple, list))


def _first_batch(dataset):
    batch = dataset[0] if isinstance(dataset, keras.utils.PyDataset) else next(iter(dataset))
    return keras.tree.map_structure(lambda array: np.asarray(keras.ops.convert_to_numpy(array)), tuple(batch))


def _steps(data, batch_size):
    """Number of whole batches, and their size."""
    count = len(keras.tree.flatten(data[0])[0])
    batch_size = min(batch_size, count)
    return count // batch_size, batch_size


def _shuffled(data, batch_size, seed, epoch):
    steps, batch_size = _steps(data, batch_size)
    count = len(keras.tree.flatten(data[0])[0])
    order = np.random.default_rng([seed, epoch]).permutation(count)[: steps * batch_size]
    arrays = [keras.tree.map_structure(lambda array: np.asarray(array)[order], part) for part in data]
    return {**dict(zip(("x", "y", "sample_weight"), arrays)), "batch_size": batch_size}


class _SeedTorch(keras.callbacks.Callback):
    """PyTorch's dropout has no seed of its own: it draws from one global state, which no checkpoint holds and building a model moves on.

    Keras's seed sets those of Python, NumPy and TensorFlow too; the first two are put back, and an epoch's data are made after the seed.
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
        """For each callback, its attributes that are plain, and those that are lists of arrays: two dicts."""
        return [(_plain(_counters(callback)), _arrays(_counters(callback))) for callback in self._counting()]

    def restore(self, states):
        for callback, (plain, arrays) in zip(self._counting(), states):
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
    """Everything that a training step changes, as NumPy arrays: weights, running statistics, random state, optimizer."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in _variables(model)]


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _restore(model, arrays):
    for variable, array in zip(_variables(model), arrays):
        variable.assign(array)


def _digest(arrays):
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(array))
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()[:16]


class _Run:
    """A folder with the checkpoints of one run: the last two epochs', and the final weights where a callback changed them at the end."""

    def __init__(self, folder, model, first, batch_size, seed, epochs, restart):
        self.folder = Path(folder).expanduser()
        self.model = model
        self.epochs = epochs
        self.restart = restart
        self.fingerprint = {
            "model": _model_digest(model),
            "optimizer, loss or metrics": _compile_digest(model),
            "data": _digest(keras.tree.flatten(first)),
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
            try:
                saved = _Checkpoint(path)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                print(f"{path} is damaged: going back one epoch")
                path.unlink(missing_ok=True)
                continue
            self._check(saved)
            self.initial, self.seen = saved.meta["initial"], saved.meta["weights"]
            return saved
        return None

    def _check(self, saved):
        theirs = saved.meta["fingerprint"]
        different = [name for name, value in self.fingerprint.items() if theirs.get(name) != value]
        if self.weights not in (saved.meta["initial"], *saved.meta["weights"]):
            different.append("initial weights")
        if saved.meta["epoch"] > self.epochs:
            different.append(f"number of epochs ({saved.meta['epoch']}, not {self.epochs})")
        if different:
            raise ValueError(
                f"{self.folder} holds another run (different: {'; '.join(different)}): choose another folder, or pass restart=True"
            )

    def clear(self):
        for path in [*self.folder.glob("epoch-*.npz"), *self.folder.glob("final-*.npz"), *self.folder.glob(".*.npz.*")]:
            path.unlink(missing_ok=True)

    def save(self, state, history, stopped, callbacks):
        """Write the checkpoint of an epoch; the one before stays in case this one is damaged, older ones go."""
        epoch = len(history.epoch)
        self.seen = [*self.seen, _digest(state[index] for index in self._weight_indices())]
        meta = {
            "epoch": epoch,
            "stopped": bool(stopped),
            "history": {name: [float(value) for value in values] for name, values in history.history.items()},
            "fingerprint": self.fingerprint,
            "initial": self.initial,
            "weights": self.seen,
            "callbacks": [plain for plain, _ in callbacks],
        }
        arrays = {f"state{index}": array for index, array in enumerate(state)}
        for number, (_, lists) in enumerate(callbacks):
            for name, items in lists.items():
                arrays.update({f"callback{number}.{name}.{index}": item for index, item in enumerate(items)})
        _write(self.folder / f"epoch-{epoch:05d}.npz", meta, arrays)
        for path in [*sorted(self.folder.glob("epoch-*.npz"))[:-2], *self.folder.glob(".epoch-*.npz.*")]:
            path.unlink(missing_ok=True)

    def finish(self, last, state):
        """Keep the weights that a callback left at the very end, if they are others than the last epoch's."""
        for path in self.folder.glob("final-*.npz"):
            path.unlink(missing_ok=True)
        if _digest(last) != _digest(state):
            newest = max(self.folder.glob("epoch-*.npz"))
            arrays = {f"state{index}": array for index, array in enumerate(state)}
            _write(self.folder / newest.name.replace("epoch", "final"), {}, arrays)

    def final(self, saved):
        path = self.folder / f"final-{saved.meta['epoch']:05d}.npz"
        return _Checkpoint(path).arrays if path.exists() else saved.arrays

    def _weight_indices(self):
        own = {id(variable) for variable in self.model.weights}
        return [index for index, variable in enumerate(_variables(self.model)) if id(variable) in own]


class _Checkpoint:
    """What one file holds; reading it checks every array's CRC."""

    def __init__(self, path):
        with np.load(path) as content:
            arrays = {name: content[name] for name in content.files}
        self.meta = json.loads(arrays.pop("meta").tobytes())
        self.arrays = [arrays.pop(f"state{index}") for index in range(sum(name.startswith("state") for name in arrays))]
        states = [(plain, {}) for plain in self.meta.get("callbacks", [])]
        for key, array in arrays.items():
            number, name, _ = key.removeprefix("callback").split(".")
            states[int(number)][1].setdefault(name, []).append(array)
        self.meta["callbacks"] = states

    def done(self, epochs):
        return self.meta["stopped"] or self.meta["epoch"] == epochs

    def restore(self, model, arrays):
        _restore(model, arrays)


def _write(path, meta, arrays):
    """Atomically: a kill leaves the old file or the new one, never half of one."""
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # a full disk: no half file stays


def _text_digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _model_digest(model):
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


# Live curves


class LiveCurves(keras.callbacks.Callback):
    """Learning curves that are redrawn in the notebook after every epoch; the last picture stays.

    Outside a notebook nothing is drawn until `figure()` is asked for. With `fit(..., folder=...)` the curves of a resumed run are whole.

    Args:
        metrics: names of the metrics to draw; None: all of them, each beside its "val_" twin.
        baselines: dict of metric -> dict of name -> height, drawn as dashed lines.
    """

    def __init__(self, metrics=None, baselines=None):
        super().__init__()
        self.metrics, self.baselines = metrics, baselines
        self.record = {}
        self._handle = None

    def on_train_begin(self, logs=None):
        self.record = {}
        self._handle = None

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            # A resumed run begins in the middle: what came before is in the model's history.
            past = getattr(getattr(self.model, "history", None), "history", {}).get(name, [])[:epoch]
            values = self.record.setdefault(name, list(past))
            values.append(float(value))
        self._show()

    def figure(self):
        """The curves so far, as a matplotlib Figure; None before the first epoch's end."""
        return plots.history(self.record, self.metrics, self.baselines) if self.record else None

    def _show(self):
        try:
            from IPython import get_ipython
        except ImportError:
            return
        if get_ipython() is None:
            return
        from IPython.display import Image, display

        figure = self.figure()
        picture = Image(plots.png(figure), format="png")
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)
