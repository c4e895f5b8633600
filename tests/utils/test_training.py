"""Layer groups, the resumable fit, the schedule and the live curves."""

import itertools
import os
import signal
import subprocess
import sys
import time
import zipfile

import matplotlib as mpl

mpl.use("Agg")

import keras
import nbformat
import numpy as np
import pytest
from keras import layers, ops
from nbclient import NotebookClient

from utils import session, training
from utils.training import resuming

# Layer groups


def small(dropout=0.0, classes=3, regulariser=None):
    """Two convolutions, one of them in a nested model, and a dense layer, on 6x6 images."""
    inner = keras.Sequential(
        [layers.Input((6, 6, 4)), layers.Conv2D(4, 3, name="conv2", kernel_regularizer=regulariser), layers.ReLU()],
        name="inner",
    )
    inputs = layers.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn1")(x)
    x = inner(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


RATES = {"conv1": 0.01, "conv2": 0.1, "logits": 1.0}


def images(count=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 6, 6, 1)).astype("float32"), rng.integers(0, classes, count).astype("int32")


def values(variables):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in variables}


def multiplier_of(path):
    name = path.split("/")[-2]
    return {"conv1": 0.01, "bn1": 0.01, "conv2": 0.1, "logits": 1.0}[name]


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.5),
    "momentum": lambda: keras.optimizers.SGD(0.5, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
    "clipped": lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.01),
    "schedule": lambda: keras.optimizers.SGD(training.WarmupHoldDecay(0.5, 10, 4)),
}


def gradients_of(model, count=3):
    rng = np.random.default_rng(0)
    return [[rng.normal(size=v.shape).astype("float32") for v in model.trainable_variables] for _ in range(count)]


def apply_to(model, optimizer, steps):
    for gradients in steps:
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], model.trainable_variables)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_variable_moves_as_with_a_learning_rate_of_its_own(name):
    """The independent reference: one plain optimizer for each variable, its learning rate multiplied."""
    model = small()
    before = values(model.trainable_variables)
    steps = gradients_of(model)
    apply_to(model, training.layerwise(OPTIMIZERS[name](), model, RATES), steps)
    after = values(model.trainable_variables)
    norms = [np.sqrt(sum((gradient**2).sum() for gradient in gradients)) for gradients in steps]
    for index, variable in enumerate(model.trainable_variables):
        config = OPTIMIZERS[name]().get_config()
        multiplier = multiplier_of(variable.path)
        if name == "schedule":
            config["learning_rate"] = training.WarmupHoldDecay(0.5 * multiplier, 10, 4)
        else:
            config["learning_rate"] *= multiplier
        config["global_clipnorm"] = None
        alone = OPTIMIZERS[name]().from_config(config)
        twin = keras.Variable(before[variable.path])
        for gradients, norm in zip(steps, norms):
            clip = min(1, 0.01 / norm) if name == "clipped" else 1
            alone.apply([keras.ops.convert_to_tensor(gradients[index] * np.float32(clip))], [twin])
        np.testing.assert_allclose(
            after[variable.path], np.asarray(keras.ops.convert_to_numpy(twin)), rtol=2e-4, atol=2e-6
        )
        assert not np.array_equal(after[variable.path], before[variable.path])


def test_with_sgd_the_step_is_multiplier_times_rate_times_gradient():
    model = small()
    before = values(model.trainable_variables)
    (gradients,) = gradients_of(model, 1)
    apply_to(model, training.layerwise(keras.optimizers.SGD(0.5), model, RATES), [gradients])
    for variable, gradient in zip(model.trainable_variables, gradients):
        expected = before[variable.path] - multiplier_of(variable.path) * 0.5 * gradient
        np.testing.assert_allclose(values([variable])[variable.path], expected, rtol=1e-5, atol=1e-6)


def test_multiplier_0_changes_nothing_not_even_by_weight_decay():
    model = small()
    optimizer = training.layerwise(
        keras.optimizers.AdamW(0.1, weight_decay=0.5), model, {"conv1": 0, "conv2": 0.1, "logits": 1}
    )
    training.compile_classifier(model, optimizer)
    before = values(model.weights)
    x, y = images()
    model.fit(x, y, epochs=1, verbose=0)
    after = values(model.weights)
    for path in after:
        frozen = path.startswith(("conv1", "bn1")) and "moving" not in path
        assert np.array_equal(before[path], after[path]) == frozen, path


def test_fit_takes_the_same_steps_as_apply():
    """Inside `model.fit` (a graph on TensorFlow, a pure function on JAX): SGD with rates 1, .1, .01 from the same
    gradients.
    """
    x, y = images(16)
    moved = {}
    for rates in (RATES, dict.fromkeys(RATES, 1.0)):
        keras.utils.set_random_seed(0)
        model = small()
        before = values(model.trainable_variables)
        training.compile_classifier(model, training.layerwise(keras.optimizers.SGD(0.5), model, rates))
        model.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        after = values(model.trainable_variables)
        moved[rates["conv1"]] = {path: after[path] - before[path] for path in after}
    for path, step in moved[1.0].items():
        np.testing.assert_allclose(moved[0.01][path], multiplier_of(path) * step, rtol=1e-3, atol=1e-6)
        assert path.startswith("conv1/bias") or np.abs(step).max() > 1e-4  # batch norm takes the bias away


def test_constraints_hold_after_the_step():
    inputs = layers.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, name="d", kernel_constraint=keras.constraints.UnitNorm())(inputs))
    optimizer = training.layerwise(keras.optimizers.SGD(1.0), model, {"d": 0.5})
    apply_to(model, optimizer, gradients_of(model, 2))
    np.testing.assert_allclose(np.linalg.norm(values(model.weights)["d/kernel"]), 1, rtol=1e-5)


def test_learning_rate_can_be_read_and_set_and_schedules_pass_through():
    model = small()
    optimizer = training.layerwise(keras.optimizers.SGD(0.5), model, RATES)
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == float(optimizer.optimizer.learning_rate) == 0.25
    before = values(model.trainable_variables)
    (gradients,) = gradients_of(model, 1)
    apply_to(model, optimizer, [gradients])
    np.testing.assert_allclose(
        values(model.trainable_variables)["logits/bias"], before["logits/bias"] - 0.25 * gradients[-1], rtol=1e-5
    )
    training.compile_classifier(model, optimizer)
    x, y = images()
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[plateau])
    assert float(optimizer.learning_rate) == pytest.approx(0.25 / 4)
    assert int(optimizer.iterations) == 1 + 3 * 2


def test_it_survives_save_and_load(tmp_path):
    """Two epochs in one go are two epochs with a save and a load between: momentum, step count and multipliers came
    along.
    """
    x, y = images(32)
    keras.utils.set_random_seed(0)
    model = small()
    schedule = training.WarmupHoldDecay(0.3, 20, 3)
    training.compile_classifier(model, training.layerwise(keras.optimizers.SGD(schedule, momentum=0.9), model, RATES))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.multipliers == model.optimizer.multipliers
    assert int(loaded.optimizer.iterations) == 4
    loaded.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for expected, variable in zip(model.weights, loaded.weights):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable), keras.ops.convert_to_numpy(expected), rtol=1e-5, atol=1e-6
        )


def test_groups_by_depth():
    model = small()
    groups = [[layer.name for layer in group] for group in training.layer_groups(model, ["conv1", "conv2", "logits"])]
    assert groups[0] == ["conv1", "bn1"] and groups[1][0] == "conv2" and groups[2] == ["logits"]
    assert len(training.layer_groups(model, ["conv1"])[0]) == len(training.leaf_layers(model)) - 1


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (["conv9"], "no layers named 'conv9'; it has: .*conv1"),
        (["logits", "conv1"], "in the order of the layers"),
        (["conv2", "logits"], "'conv1' comes before the first group, which begins with 'conv2'"),
    ],
)
def test_groups_that_cannot_be(starts, message):
    with pytest.raises(ValueError, match=message):
        training.layer_groups(small(), starts)


def test_optimizers_that_cannot_be():
    model = small()
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        training.layerwise(keras.optimizers.SGD(0.1), model, {"conv1": -1})
    with pytest.raises(ValueError, match="use_ema"):
        training.layerwise(keras.optimizers.SGD(0.1, use_ema=True), model, RATES)
    other = training.layerwise(keras.optimizers.SGD(0.1), model, RATES)
    stranger = keras.Sequential([layers.Input((2,)), layers.Dense(1, name="stranger")])
    with pytest.raises(ValueError, match=r"no multiplier for .*stranger/kernel"):
        other.build(stranger.trainable_variables)


# The schedule


def test_warmup_hold_decay():
    rate = training.WarmupHoldDecay(2.0, steps=100, warmup=10, decay=0.25, end=0.4)
    assert [round(float(rate(step)), 6) for step in (0, 4, 9, 10, 75)] == [0.2, 1.0, 2.0, 2.0, 2.0]
    assert [round(float(rate(step)), 6) for step in (80, 100, 1000)] == [1.68, 0.4, 0.4]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert float(again(80)) == float(rate(80)) and isinstance(again, training.WarmupHoldDecay)
    constant = training.WarmupHoldDecay(2.0, steps=5, warmup=0, decay=0)
    assert [float(constant(step)) for step in range(5)] == [2.0] * 5
    with pytest.raises(ValueError, match="no room"):
        training.WarmupHoldDecay(1.0, 100, 80, 0.25)


# The resumable fit

SCRIPT = """
import json, sys, time
import keras, numpy as np
sys.path.insert(0, {tests!r})
from test_training import run, images
from utils import session
session.start(0)
folder, slow = sys.argv[1], float(sys.argv[2])

class Slow(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        print(".", end="", flush=True)
        time.sleep(slow)

model, history = run(folder, [Slow()])
"""


def built(seed=0, classes=3, rate=0.05):
    keras.utils.set_random_seed(seed)
    model = small(dropout=0.3, classes=classes)
    optimizer = training.layerwise(keras.optimizers.AdamW(rate), model, RATES)
    return training.compile_classifier(model, optimizer)


def run(folder, callbacks=(), epochs=5, model=None, **options):
    model = model or built()
    arguments = {"batch_size": 16, "validation_data": images(16, seed=1), **options}
    data = arguments.pop("data", images(40))
    return model, training.fit(model, data, epochs, folder, callbacks=callbacks, **arguments)


class StopIn(keras.callbacks.Callback):
    """Raises in the middle of an epoch, as an interrupted cell does."""

    def __init__(self, epoch):
        super().__init__()
        self.when = epoch
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.when and batch == 1:
            raise KeyboardInterrupt


def same(model, other):
    pairs = zip(resuming._state(model), resuming._state(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module", autouse=True)
def deterministic():
    """As in a notebook: sums in one order, here and in the processes that these tests start."""
    session.start(0)


@pytest.fixture(scope="module")
def uninterrupted(deterministic):
    return run(None)


def test_the_order_is_a_function_of_seed_and_epoch_and_the_remainder_changes():
    data = (np.arange(10), np.arange(10) * 2, np.ones(10))
    first = resuming._shuffled(data, 4, 0, 0)
    assert first["batch_size"] == 4 and len(first["x"]) == 8 and np.array_equal(first["y"], first["x"] * 2)
    assert np.array_equal(first["x"], resuming._shuffled(data, 4, 0, 0)["x"])
    left_out = {tuple(sorted(set(range(10)) - set(resuming._shuffled(data, 4, 0, e)["x"]))) for e in range(5)}
    assert len(left_out) > 1
    assert not np.array_equal(first["x"], resuming._shuffled(data, 4, 1, 0)["x"])
    assert resuming._shuffled(data, 99, 0, 0)["batch_size"] == 10


def test_interrupted_in_the_same_kernel_and_called_again(tmp_path, uninterrupted, capsys):
    model = built()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopIn(3)], model=model)
    assert len(list(tmp_path.glob("epoch-*.npz"))) == 2  # the last two
    _, history = run(tmp_path, model=model)
    assert "going on after epoch 3 of 5" in capsys.readouterr().out
    assert same(model, uninterrupted[0])
    assert history.history == uninterrupted[1].history and history.epoch == [0, 1, 2, 3, 4]


def test_interrupted_before_the_first_epoch_ends(tmp_path, uninterrupted):
    model = built()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopIn(0)], model=model)
    run(tmp_path, model=model)
    assert same(model, uninterrupted[0])


def test_killed_in_mid_training_and_run_again(tmp_path, uninterrupted):
    """SIGKILL leaves no time to clean up; a new process goes on and ends where an uninterrupted run ends."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=os.path.dirname(__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(tmp_path / "run")]
    child = subprocess.Popen([*command, "0.3"], env=environment, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "run").glob("epoch-00002.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    model, history = run(tmp_path / "run")
    assert history.epoch == [0, 1, 2, 3, 4]
    assert same(model, uninterrupted[0])
    assert history.history == uninterrupted[1].history


def test_a_finished_run_returns_at_once(tmp_path, uninterrupted, capsys):
    run(tmp_path)
    model, history = run(tmp_path, [StopIn(0)])
    assert "already trained, 5 epochs" in capsys.readouterr().out
    assert same(model, uninterrupted[0]) and history.history == uninterrupted[1].history
    assert model.history is history
    again, _ = run(tmp_path, model=model)  # the cell once more, with the trained model
    assert same(again, uninterrupted[0])


def test_more_epochs_go_on_from_the_end(tmp_path, uninterrupted):
    run(tmp_path, epochs=3)
    model, history = run(tmp_path, epochs=5)
    assert same(model, uninterrupted[0]) and history.history == uninterrupted[1].history
    with pytest.raises(ValueError, match=r"number of epochs \(5, not 4\)"):
        run(tmp_path, epochs=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": lambda: built(classes=4)}, "model"),
        ({"model": lambda: built(seed=1)}, "different: initial weights"),
        ({"model": lambda: built(rate=0.01)}, "different: optimizer, loss or metrics"),
        ({"data": images(40, seed=5)}, "different: data"),
        ({"batch_size": 8}, "different: batch size"),
        ({"seed": 3}, "different: seed"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path_factory, change, message):
    folder = tmp_path_factory.getbasetemp() / "refused"
    if not folder.exists():
        run(folder, epochs=1, validation_data=None)
    change = {name: value() if name == "model" else value for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        run(folder, epochs=1, validation_data=None, **change)


def test_restart_begins_again(tmp_path):
    run(tmp_path, epochs=1, validation_data=None)
    model = built(seed=1)
    _, history = run(tmp_path, epochs=2, model=model, restart=True, validation_data=None)
    assert history.epoch == [0, 1]


def test_a_full_disk_leaves_the_last_epoch_and_no_half_file(tmp_path, uninterrupted, monkeypatch):
    model, sync, calls = built(), os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*epoch-00003\.npz'"):
        run(tmp_path, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00001.npz", "epoch-00002.npz"]
    (tmp_path / ".epoch-00003.npz.123").write_bytes(b"what a killed process left")
    run(tmp_path, model=model)
    assert same(model, uninterrupted[0])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["epoch-00004.npz", "epoch-00005.npz", "final-00005.npz"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "lacks its last array"])
def test_a_damaged_checkpoint_costs_one_epoch(tmp_path, uninterrupted, capsys, damage):
    run(tmp_path, epochs=3)
    path = tmp_path / "epoch-00003.npz"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        with zipfile.ZipFile(path) as archive:  # in the middle of an array: elsewhere a byte may mean nothing
            largest = max(archive.infolist(), key=lambda member: member.compress_size)
        content[largest.header_offset + largest.compress_size // 2] ^= 0xFF
    if damage == "lacks its last array":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        del arrays[max((name for name in arrays if name.startswith("state")), key=lambda name: int(name[5:]))]
        np.savez(path, **arrays)
    else:
        path.write_bytes(bytes(content[: {"cut": len(content) // 2, "flipped": len(content), "empty": 0}[damage]]))
    model, history = run(tmp_path)
    out = capsys.readouterr().out
    assert "epoch-00003.npz is damaged" in out and "going on after epoch 2 of 5" in out
    assert same(model, uninterrupted[0]) and history.history == uninterrupted[1].history


def test_all_checkpoints_damaged_means_starting_again(tmp_path, uninterrupted, capsys):
    run(tmp_path, epochs=2)
    for path in tmp_path.glob("epoch-*.npz"):
        path.write_bytes(b"nothing")
    model, _ = run(tmp_path)
    assert capsys.readouterr().out.count("is damaged") == 2
    assert same(model, uninterrupted[0])


def test_data_as_a_function_of_the_epoch(tmp_path):
    calls = []

    def data(epoch):
        calls.append(epoch)
        x, y = images(40)
        return x + epoch, y

    expected, _ = run(None, data=data, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopIn(2)], data=data, epochs=3)
    calls.clear()
    model, _ = run(tmp_path, data=data, epochs=3)
    assert calls == [0, 2]  # 0 for the fingerprint
    assert same(model, expected)


class Batches(keras.utils.PyDataset):
    """One epoch in batches of 16, in an order of its own."""

    def __init__(self, epoch):
        super().__init__()
        self.order = np.random.default_rng(epoch).permutation(40)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        x, y = images(40)
        chosen = self.order[16 * index : 16 * index + 16]
        return x[chosen], y[chosen]


def tf_batches(epoch):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(images(40)).shuffle(40, seed=epoch).batch(16, drop_remainder=True)


@pytest.mark.parametrize("data", [Batches, tf_batches])
def test_datasets_by_epoch(tmp_path, data):
    expected, _ = run(None, data=data, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopIn(2)], data=data, epochs=3)
    model, history = run(tmp_path, data=data, epochs=3)
    assert same(model, expected) and history.epoch == [0, 1, 2]
    with pytest.raises(ValueError, match="different: data"):
        run(tmp_path, data=lambda epoch: data(epoch + 1), epochs=3)


def test_callbacks_count_on_and_their_last_word_is_kept(tmp_path):
    def early():
        return [keras.callbacks.EarlyStopping("loss", patience=2, min_delta=1e9, restore_best_weights=True)]

    expected, history = run(None, early(), epochs=9)
    assert len(history.epoch) == 3  # epoch 1 is the best, 2 and 3 are not better by 1e9
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [*early(), StopIn(1)], epochs=9)
    model, resumed = run(tmp_path, early(), epochs=9)
    assert resumed.history == history.history and same(model, expected)
    finished, again = run(tmp_path, early(), epochs=9)
    assert again.history == history.history and same(finished, expected)


class EndsBadly(keras.callbacks.Callback):
    """Cut off while the callbacks end, after the last epoch was kept."""

    def on_train_end(self, logs=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("patience", [1, 9])
def test_a_run_that_is_cut_off_at_its_very_end_is_ended_again(tmp_path, capsys, patience):
    """The last epoch is kept, but EarlyStopping has not put the best weights back: the run is not finished."""

    def early():
        return keras.callbacks.EarlyStopping("loss", patience=patience, min_delta=1e9, restore_best_weights=True)

    expected, history = run(None, [early()], epochs=4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [EndsBadly(), early()], epochs=4)
    model, resumed = run(tmp_path, [early()], epochs=4)
    assert "already trained" not in capsys.readouterr().out
    assert same(model, expected) and resumed.history == history.history
    again, _ = run(tmp_path, [early()], epochs=4)
    assert "already trained" in capsys.readouterr().out and same(again, expected)


def test_a_damaged_final_file_is_made_again(tmp_path, capsys):
    stop = [keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9, restore_best_weights=True)]
    expected, _ = run(tmp_path, stop, epochs=4)
    (path,) = tmp_path.glob("final-*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    model, _ = run(tmp_path, stop, epochs=4)
    assert f"{path} is damaged: ending the run again" in capsys.readouterr().out
    assert same(model, expected) and path.read_bytes() == whole


def test_the_trained_model_is_known_again_though_a_callback_changed_it_at_the_end(tmp_path, capsys):
    class Halve(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.set_weights([weight / 2 for weight in self.model.get_weights()])

    model, _ = run(tmp_path, [Halve()], epochs=1)
    again, _ = run(tmp_path, [Halve()], epochs=1, model=model)
    assert "already trained" in capsys.readouterr().out and same(again, model)


def test_a_file_that_cannot_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    run(tmp_path, epochs=1)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(resuming.Path, "read_bytes", refused)
    with pytest.raises(PermissionError, match=r"epoch-00001\.npz"):
        run(tmp_path, epochs=2)
    assert (tmp_path / "epoch-00001.npz").exists()


# Batches as dicts


@keras.saving.register_keras_serializable("tests")
class CountsBoxes(keras.Model):
    """In the shape of a detector: takes the whole batch, finds the truth in it, and needs no loss from `compile`."""

    def __init__(self, **options):
        super().__init__(**options)
        self.convolution = layers.Conv2D(4, 3, activation="relu")
        self.pool = layers.GlobalAveragePooling2D()
        self.dropout = layers.Dropout(0.2, seed=1)
        self.count = layers.Dense(1)

    def call(self, batch):
        images = batch["image"] if isinstance(batch, dict) else batch
        x = self.dropout(self.pool(self.convolution(ops.cast(images, "float32") / 255)))
        return self.count(x)[:, 0]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        assert y is None and sample_weight is None
        kept = ops.cast(x["labels"] >= 0, "float32")
        size = ops.mean(ops.sum(x["boxes"], axis=-1) * kept, axis=-1)
        return ops.mean(ops.square(y_pred - ops.sum(kept, axis=-1))) + 0 * ops.mean(size)


def scenes(count=40):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((count, 3)) < 0.5, -1, 2).astype("int32")
    boxes = (rng.random((count, 3, 4)) * 6 * (labels >= 0)[..., None]).astype("float32")
    return {"image": rng.integers(0, 256, (count, 6, 6, 1), np.uint8), "boxes": boxes, "labels": labels}


def counter():
    keras.utils.set_random_seed(0)
    model = CountsBoxes()
    model.compile(keras.optimizers.Adam(0.01), jit_compile=training.jit_compile())
    model({name: array[:1] for name, array in scenes().items()})
    return model


def dict_batches(epoch):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(scenes()).shuffle(40, seed=epoch).batch(16, drop_remainder=True)


@pytest.mark.parametrize("data", [scenes(), lambda epoch: scenes(), dict_batches], ids=["dict", "function", "dataset"])
def test_a_dict_of_image_boxes_and_labels_is_one_batch(tmp_path, data):
    options = {"epochs": 3, "validation_data": None, "data": data}
    expected, history = run(None, model=counter(), **options)
    assert history.history["loss"][-1] < history.history["loss"][0]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopIn(2)], model=counter(), **options)
    model, resumed = run(tmp_path, model=counter(), **options)
    assert same(model, expected) and resumed.history == history.history
    other = dict(scenes(), boxes=scenes()["boxes"] + 1)
    with pytest.raises(ValueError, match="different: data"):
        run(tmp_path, model=counter(), **{**options, "data": other})


def test_the_rows_of_a_dict_stay_together():
    data = {"image": np.arange(10), "labels": np.arange(10) * 2}
    epoch = resuming._shuffled(data, 4, 0, 0)
    assert set(epoch) == {"x", "batch_size"}
    assert np.array_equal(epoch["x"]["labels"], epoch["x"]["image"] * 2) and len(epoch["x"]["image"]) == 8
    with pytest.raises(ValueError, match=r"their lengths are \[9, 10\]"):
        resuming._shuffled({**data, "labels": np.arange(9)}, 4, 0, 0)


def test_images_alone_are_x():
    x = np.random.default_rng(0).random((8, 4)).astype("float32")
    assert set(resuming._shuffled(x, 4, 0, 0)) == {"x", "batch_size"}


def test_what_fit_refuses():
    with pytest.raises(ValueError, match="compile the model"):
        training.fit(small(), images(), 1)
    with pytest.raises(ValueError, match="a function of the epoch"):
        training.fit(built(), Batches(0), 1)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        training.fit(built(), images(), 0)
    model = small()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    with pytest.raises(ValueError, match="use_ema"):
        training.fit(model, images(), 1)


def test_names_do_not_make_another_run():
    first, second = built(), built()
    assert first.name != second.name
    assert resuming.model_digest(first) == resuming.model_digest(second)
    assert resuming._compile_digest(first) == resuming._compile_digest(second)
    second.get_layer("conv1").trainable = False
    assert resuming.model_digest(first) != resuming.model_digest(second)


# Live curves


def test_live_curves_keep_one_picture_in_the_notebook(tmp_path):
    source = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_training import run
from utils import plots, training
plots.style()
live = training.LiveCurves(["accuracy"], {{"accuracy": {{"chance": 1 / 3}}}})
_, history = run(None, [live], epochs=3)
"""
    check = "assert live.record == history.history and len(live.record['val_accuracy']) == 3"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (source, check)])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [output for output in notebook.cells[0].outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert notebook.cells[1].outputs == []


def test_live_curves_of_a_resumed_run_are_whole(tmp_path):
    run(tmp_path, epochs=2)
    live = training.LiveCurves()
    _, history = run(tmp_path, [live], epochs=4)
    assert live.record == history.history and len(live.record["loss"]) == 4
    (line, *_) = live.figure().axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), next(iter(history.history.values())))


def test_drawn_batches_are_rows_that_belong_together_without_end():
    arrays = {"image": np.arange(5), "label": 10 * np.arange(5)}

    def first(count, size, seed, augment=None):
        return [batch for (batch,) in itertools.islice(training.drawn_batches(arrays, size, seed, augment), count)]

    drawn = first(50, 4, 1)
    assert all(np.array_equal(batch["label"], 10 * batch["image"]) and len(batch["image"]) == 4 for batch in drawn)
    assert {int(row) for batch in drawn for row in batch["image"]} == set(range(5))
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(drawn, first(50, 4, 1)))
    assert not all(np.array_equal(a["image"], b["image"]) for a, b in zip(drawn, first(50, 4, 2)))
    (changed,) = first(1, 4, 1, lambda batch: batch | {"image": -batch["image"]})
    assert np.array_equal(changed["image"], -drawn[0]["image"])


def test_filled_batches_have_one_shape():
    rows, names = np.arange(10).reshape(5, 2), np.arange(5)
    batches = list(training.filled_batches([rows, names], 2))
    assert [kept for _, kept in batches] == [2, 2, 1]
    assert all(part.shape == (2, 2) and numbers.shape == (2,) for (part, numbers), _ in batches)
    np.testing.assert_array_equal(np.concatenate([part[:kept] for (part, _), kept in batches]), rows)
    assert batches[-1][0][1].tolist() == [4, 4]
    ((part,), kept), = training.filled_batches([rows], 8)  # fmt: skip
    assert part.shape == (8, 2) and kept == 5
    assert list(training.filled_batches([rows[:0]], 2)) == []
