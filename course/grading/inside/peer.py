"""Calls across the wire. The judge and the submission's side are the same class; only what each of them takes from the
other differs.

A value crosses as plain data: numbers, text, lists, tuples, dicts, sets, ranges, arrays, the state of a random
generator, a Keras model as `models` describes it. A function stays where it is, and the other side gets a proxy that
calls back; so does an object that a check hands to an answer, with the methods that its class in the notebook or in
`utils` has. Whatever else the submission has becomes `Opaque` at the judge's, which equals nothing. With an answer come
the arguments that the call has changed in place. An exception comes as its class, if that is one of a short list, and
its words.

The judge takes nothing from the submission on trust: whatever is malformed ends the connection (`WireError`), and no
error of this file can be taken for an answer, since a check's `except ValueError` or `except Exception` does not catch
a `HarnessError`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from course.grading.inside import models
from course.grading.inside.models import Uncarried
from course.grading.inside.wire import HarnessError, Wire, WireError

DEEPEST = 200  # levels of lists in lists
NESTED = 30  # calls within calls
METHODS = ("__call__", "call", "predict", "predict_on_batch")
EXCEPTIONS = {
    name: getattr(builtins, name)
    for name in [
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "EOFError",
        "FloatingPointError",
        "IndexError",
        "KeyError",
        "LookupError",
        "MemoryError",
        "NameError",
        "NotImplementedError",
        "OverflowError",
        "RecursionError",
        "RuntimeError",
        "StopIteration",
        "SyntaxError",
        "TypeError",
        "UnboundLocalError",
        "ValueError",
        "ZeroDivisionError",
    ]
}


class SubmissionError(Exception):
    """An exception of the submission's whose class the judge does not know."""


class Opaque:
    """Something of the submission's that is no plain data. It equals nothing, has no truth and no numbers."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<an object of class {self.kind}>"

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        raise TypeError(f"expected a plain value, got {self!r}")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"expected numbers, got {self!r}")


class Proxy:
    """A function, or an object that can be called, on the other side; `methods` may be called, too."""

    def __init__(self, peer: Peer, target: Any, name: str, methods: Sequence[str] = ()) -> None:
        self._peer, self._target = peer, target
        self.__name__ = self.__qualname__ = name
        for method in methods:
            setattr(self, method, partial(self._call, method))

    def _call(self, method: str, /, *args: Any, **options: Any) -> Any:
        return self._peer.call(self._target, method, args, options)

    def __call__(self, /, *args: Any, **options: Any) -> Any:
        return self._peer.call(self._target, None, args, options)

    def predict(self, /, *args: Any, **options: Any) -> Any:
        return self._call("predict", *args, **options)

    def predict_on_batch(self, /, *args: Any, **options: Any) -> Any:
        return self._call("predict_on_batch", *args, **options)


class _Parcel:
    """What one message carries beside its JSON."""

    def __init__(self, arrays: list[np.ndarray] | None = None, symbolic: list[Any] | None = None) -> None:
        self.arrays: list[np.ndarray] = [] if arrays is None else arrays
        self.symbolic: list[Any] = [] if symbolic is None else symbolic  # KerasTensors, by their numbers in the message
        self.tracked: list[Any] = []  # what a call may change in place, in the order of the message
        self.before: list[Any] = []  # its state as it came


class Peer:
    """One side.

    Args:
        wire: the connection.
        names: the namespace in which the other side may call (`trusting`) or nothing may be called by name (the judge).
        trusting: whether what comes is believed: True on the submission's side, False on the judge's.
    """

    def __init__(self, wire: Wire, names: dict[str, Any], trusting: bool) -> None:
        self.wire, self.names, self.trusting = wire, names, trusting
        self.calls = self._depth = 0
        self._exported: dict[int, Any] = {}  # what the other side may name by its handle
        self._handles: dict[
            int, int
        ] = {}  # id of an exported thing -> handle; the thing is held, so its id stays its own
        self._imported: dict[int, Any] = {}  # the other side's handle -> proxy or model here
        self._foreign: dict[int, int] = {}  # id of such a proxy or model -> the other side's handle
        self._synced: dict[int, str] = {}  # id of a model both sides hold -> digest of the weights both have
        self.given: dict[str, Any] = {}  # functions of the notebook that both sides have, as they were defined
        self._replaced: dict[str, Any] = {}

    # ----------------------------------------------------------------------------------------------------- out

    def encode(self, thing: Any, parcel: _Parcel, depth: int = 0) -> Any:
        if depth > DEEPEST:
            return {"t": "opaque", "kind": "lists nested too deep"}

        def inner(part: Any) -> Any:
            return self.encode(part, parcel, depth + 1)

        kind = type(thing)
        if thing is None or kind in (bool, int, float, str):
            return thing
        if isinstance(thing, np.ndarray):
            if thing.dtype.kind not in "biufcSU" or thing.dtype.names:
                return {"t": "opaque", "kind": f"array of {thing.dtype}"}
            for number, known in enumerate(parcel.tracked):
                if known is thing:  # one array in two places is one there too
                    return {"t": "same", "i": number}
            parcel.arrays.append(np.asarray(thing))
            parcel.tracked.append(thing)
            return {"t": "array", "i": len(parcel.arrays) - 1}
        if isinstance(thing, np.generic):
            if thing.dtype.kind not in "biufcSU":
                return {"t": "opaque", "kind": str(thing.dtype)}
            parcel.arrays.append(np.asarray(thing))
            return {"t": "scalar", "i": len(parcel.arrays) - 1}
        if models.is_symbolic(thing):
            for number, known in enumerate(parcel.symbolic):
                if known is thing:
                    return {"t": "symbol", "i": number}
            parcel.symbolic.append(thing)
            return {"t": "symbol", "i": len(parcel.symbolic) - 1}
        if kind in (list, tuple):
            return {"t": kind.__name__, "v": [inner(part) for part in thing]}
        if isinstance(thing, tuple):  # a named one: the names stay behind
            return {"t": "tuple", "v": [inner(part) for part in tuple.__iter__(thing)]}
        if isinstance(thing, dict):
            return {"t": "dict", "v": [[inner(key), inner(value)] for key, value in dict.items(thing)]}
        if kind in (set, frozenset):
            return {"t": "set", "v": [inner(part) for part in thing]}
        if kind is range:
            return {"t": "range", "v": [thing.start, thing.stop, thing.step]}
        if isinstance(thing, int):
            return int.__index__(thing)
        if isinstance(thing, float):
            return float.__float__(thing)
        if isinstance(thing, str):
            return str.__str__(thing)
        if isinstance(thing, np.random.Generator):
            parcel.tracked.append(thing)
            return {"t": "generator", "v": thing.bit_generator.state}
        if (
            models.is_variable(thing)
            or isinstance(thing, tf.Variable)
            or (tf.is_tensor(thing) and hasattr(thing, "numpy"))
        ):
            parcel.arrays.append(np.asarray(ops.convert_to_numpy(thing)))
            return {"t": "tensor", "i": len(parcel.arrays) - 1}
        if models.is_model(thing):
            return self._encode_model(thing, parcel)
        if id(thing) in self._foreign:
            return {"t": "yours", "h": self._foreign[id(thing)]}
        if isinstance(thing, BaseException):
            return {"t": "exception", "kind": kind.__name__, "text": _words(thing)}
        if callable(thing) or (not self.trusting and kind.__module__ != "builtins"):
            name = getattr(thing, "__name__", kind.__name__)
            if not self.trusting and self.given.get(name) is thing and not self._watches(thing):
                return {"t": "given", "name": name}
            told = {"t": "function", "h": self._export(thing), "name": str(name)[:100]}
            return told if self.trusting else {**told, "methods": _methods(thing)}
        return {"t": "opaque", "kind": kind.__name__[:100]}

    def _export(self, thing: Any) -> int:
        if id(thing) not in self._handles:
            handle = len(self._exported) + 1
            self._exported[handle], self._handles[id(thing)] = thing, handle
        return self._handles[id(thing)]

    def _watches(self, function: Any) -> bool:
        """Whether a function of the notebook may note what it sees, in a list or table of the notebook's: then the
        judge runs it itself.
        """
        waiting, names = [function.__code__], set[str]()
        while waiting:
            code = waiting.pop()
            names.update(code.co_names)
            waiting += [part for part in code.co_consts if hasattr(part, "co_names")]
        return any(isinstance(self.names.get(name), (list, dict, set)) for name in names)

    def _encode_model(self, model: Any, parcel: _Parcel) -> Any:
        parcel.tracked.append(model)
        foreign = id(model) in self._foreign
        told: dict[str, Any] = {"t": "model", "yours": foreign}
        told["h"] = self._foreign[id(model)] if foreign else self._export(model)
        first = not foreign and id(model) not in self._synced
        if first:
            told["config"] = models.describe(model)
        arrays, trainable = models.weights(model), models.flags(model)
        now = models.digest(arrays, trainable)
        told["flags"] = trainable
        if self._synced.get(id(model)) != now:
            told["w"] = [len(parcel.arrays), len(arrays)]
            parcel.arrays += arrays
            self._synced[id(model)] = now
        if self.trusting:
            told["optimizer"] = models.optimizer_of(model)
            loss = getattr(model, "loss", None)
            if told["optimizer"] is not None and loss is not None and callable(loss):
                try:
                    told["loss"] = (
                        {"t": "loss", "config": models.describe(loss)} if _is_loss(loss) else self.encode(loss, parcel)
                    )
                except Exception:
                    told["loss"] = {"t": "opaque", "kind": type(loss).__name__}
        return told

    # ------------------------------------------------------------------------------------------------------ in

    def decode(self, told: Any, parcel: _Parcel, depth: int = 0) -> Any:
        """The value of what came. WireError for anything malformed."""
        if told is None or type(told) in (bool, int, float, str):
            return told
        if not isinstance(told, dict) or depth > DEEPEST:
            raise WireError("malformed value")
        try:
            return self._decode(told, parcel, depth)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise WireError(f"malformed value: {type(error).__name__}") from None

    def _decode(self, told: dict[str, Any], parcel: _Parcel, depth: int) -> Any:
        def inner(part: Any) -> Any:
            return self.decode(part, parcel, depth + 1)

        kind = told["t"]
        if kind == "array":
            array = parcel.arrays[_index(told["i"])]
            parcel.tracked.append(array)
            parcel.before.append(array.copy())
            return array
        if kind == "same":
            return parcel.tracked[_index(told["i"])]
        if kind == "scalar":
            return parcel.arrays[_index(told["i"])][()]
        if kind == "tensor":
            array = parcel.arrays[_index(told["i"])]
            return ops.convert_to_tensor(array) if array.dtype.kind in "biufc" else array
        if kind == "symbol":
            return parcel.symbolic[_index(told["i"])]
        if kind == "list":
            return [inner(part) for part in told["v"]]
        if kind == "tuple":
            return tuple(inner(part) for part in told["v"])
        if kind == "dict":
            return {inner(key): inner(value) for key, value in told["v"]}
        if kind == "set":
            return {inner(part) for part in told["v"]}
        if kind == "range":
            return range(*map(_whole, told["v"]))
        if kind == "generator":
            generator = np.random.default_rng()
            generator.bit_generator.state = told["v"]
            parcel.tracked.append(generator)
            parcel.before.append(generator.bit_generator.state)
            return generator
        if kind == "yours":
            return self._exported[_index(told["h"])]
        if kind == "exception":
            return EXCEPTIONS.get(told["kind"], SubmissionError)(str(told["text"])[:2000])
        if kind == "given" and self.trusting:
            return self.names[told["name"]]
        if kind == "function":
            handle = _index(told["h"])
            if handle not in self._imported:
                proxy = Proxy(self, handle, str(told["name"])[:100], told["methods"] if self.trusting else ())
                self._imported[handle], self._foreign[id(proxy)] = proxy, handle
            return self._imported[handle]
        if kind == "model":
            return self._decode_model(told, parcel)
        if kind == "opaque":
            return Opaque(str(told["kind"])[:100])
        raise WireError("malformed value: of no kind")

    def _decode_model(self, told: dict[str, Any], parcel: _Parcel) -> Any:
        handle = _index(told["h"])
        if told["yours"]:
            model = self._exported[handle]
            if not models.is_model(model):
                raise WireError("malformed value: no model")
        elif handle in self._imported:
            model = self._imported[handle]
        else:
            model = models.rebuild(told["config"])
            self._imported[handle], self._foreign[id(model)] = model, handle
        trainable = list(told["flags"])
        if "w" in told:
            start, count = map(_index, told["w"])
            arrays = parcel.arrays[start : start + count]
            if len(arrays) != count:
                raise WireError("malformed value: weights that are missing")
            models.set_state(model, arrays, trainable)
            self._synced[id(model)] = models.digest(models.weights(model), models.flags(model))
        if not self.trusting and told.get("optimizer") is not None:
            loss = told.get("loss")
            if isinstance(loss, dict) and loss.get("t") == "loss":
                loss = models.rebuild(loss["config"], models.LOSS)
            elif loss is not None:
                loss = self.decode(loss, parcel)
            models.show_optimizer(model, told["optimizer"], loss)
        parcel.tracked.append(model)
        parcel.before.append(self._synced.get(id(model)))
        return model

    # --------------------------------------------------------------------------------------------------- calls

    def call(self, target: Any, method: str | None, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call a function of the other side, by its name or handle."""
        self.calls += 1
        if any(tf.is_tensor(part) and not hasattr(part, "numpy") for part in tf.nest.flatten([args, options])):
            return self._call_in_graph(target, method, args, options)
        parcel = _Parcel()
        request: dict[str, Any] = {"op": "call", "f": target, "m": method}
        request["a"], request["k"] = self.encode(list(args), parcel), self.encode(options, parcel)
        changeable = list(parcel.tracked)
        request["r"] = self._replacements(parcel)
        request["s"] = [[list(tensor.shape), str(tensor.dtype)] for tensor in parcel.symbolic]
        self.wire.send(request, parcel.arrays)
        answer, arrays = self._answer()
        back = _Parcel(arrays, parcel.symbolic)
        if "graft" in answer:
            back.symbolic = parcel.symbolic + models.graft(answer["graft"], parcel.symbolic)
        back.tracked, back.before = list(changeable), []
        value = self.decode(answer.get("v"), back)
        self._take_back(answer.get("b"), changeable, arrays)
        return value

    def _replacements(self, parcel: _Parcel) -> Any:
        """Functions of the notebook that a check has put others in the place of, for this call."""
        found = {
            name: self.names[name]
            for name, function in self.given.items()
            if self.names.get(name) is not function and callable(self.names.get(name))
        }
        return self.encode(found, parcel)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request other than a call, which carries JSON only."""
        self.wire.send(request, [])
        answer, _ = self._answer()
        return answer

    def _answer(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        while True:
            message, arrays = self.wire.receive()
            if not isinstance(message, dict):
                raise WireError("malformed message")
            kind = message.get("op")
            if kind == "call":
                self.serve(message, arrays)
            elif kind == "raise":
                name, text = str(message.get("kind"))[:100], str(message.get("text"))[:4000]
                if name in EXCEPTIONS:
                    raise EXCEPTIONS[name](text)
                raise SubmissionError(f"{name}: {text}")
            elif kind == "hand":
                raise Uncarried(str(message.get("text"))[:400])
            elif kind == "return":
                return message, arrays
            else:
                raise WireError("malformed message: of no kind")

    def _take_back(self, told: Any, sent: list[Any], arrays: list[np.ndarray]) -> None:
        """Bring what the other side has changed in place to what was sent."""
        if told is None:
            return
        if not isinstance(told, list):
            raise WireError("malformed message: no list of changes")
        try:
            for number, change in told:
                mine = sent[_index(number)]
                if isinstance(mine, np.ndarray):
                    new = arrays[_index(change["i"])]
                    if new.shape == mine.shape and mine.flags.writeable:
                        mine[...] = new
                elif isinstance(mine, np.random.Generator):
                    mine.bit_generator.state = change["v"]
                else:
                    self.decode(change, _Parcel(arrays))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise WireError(f"malformed message: {type(error).__name__}") from None

    def serve(self, request: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Run a call that the other side asks for, and answer it."""
        self._depth += 1
        try:
            answer, carried = self._run(request, arrays)
        except Uncarried as error:
            answer, carried = {"op": "hand", "text": str(error)}, []
        except HarnessError:
            raise
        except BaseException as error:
            answer, carried = {"op": "raise", "kind": type(error).__name__, "text": _words(error)}, []
        finally:
            self._depth -= 1
        self.wire.send(answer, carried)

    def _run(self, request: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict[str, Any], list[np.ndarray]]:
        if self._depth > NESTED:
            raise RecursionError("calls nested too deep")
        specs = request.get("s") or []
        if not isinstance(specs, list):
            raise WireError("malformed message: no list of tensors")
        try:
            heads = models.inputs(specs)
        except HarnessError:
            raise
        except Exception as error:
            raise WireError(f"malformed message: {type(error).__name__}") from None
        parcel = _Parcel(arrays, list(heads))
        function = self._function(request.get("f"), request.get("m"))
        if self.trusting:
            self._replace(self.decode(request.get("r"), _Parcel(arrays)) or {})
        args, options = self.decode(request.get("a"), parcel), self.decode(request.get("k"), parcel)
        if not isinstance(args, list) or not isinstance(options, dict):
            raise WireError("malformed message: no arguments")
        if "g" in request and self.trusting:
            return self._gradient(function, args, self.decode(request["g"], _Parcel(arrays)))
        if heads and self.trusting:
            with _outline():
                value = function(*args, **options)
        else:
            value = function(*args, **options)
        reply = _Parcel(symbolic=list(heads))
        reply.tracked, reply.before = list(parcel.tracked), list(parcel.before)
        came = len(parcel.tracked)
        answer: dict[str, Any] = {"op": "return", "v": self.encode(value, reply)}
        tails = reply.symbolic[len(heads) :]
        if tails:
            answer["graft"] = models.between(heads, tails)
        answer["b"] = self._changed(parcel.tracked[:came], parcel.before, reply)
        return answer, reply.arrays

    def _changed(self, tracked: list[Any], before: list[Any], reply: _Parcel) -> list[Any]:
        changes: list[Any] = []
        for number, (thing, old) in enumerate(zip(tracked, before)):
            if isinstance(thing, np.ndarray):
                if thing.tobytes() != old.tobytes():
                    reply.arrays.append(thing)
                    changes.append([number, {"t": "array", "i": len(reply.arrays) - 1}])
            elif isinstance(thing, np.random.Generator):
                if thing.bit_generator.state != old:
                    changes.append([number, {"t": "generator", "v": thing.bit_generator.state}])
            else:
                changes.append([number, self._encode_model(thing, reply)])
        return changes

    def _function(self, target: Any, method: Any) -> Callable[..., Any]:
        if isinstance(target, str) and self.trusting:
            if target not in self.names:
                raise NameError(f"name {target!r} is not defined")
            found = self.names[target]
        else:
            found = self._exported.get(target) if type(target) is int else None
            if found is None:
                raise WireError("a call of something that was never handed over")
        if method is None:
            return found
        if method not in METHODS and (self.trusting or method not in _methods(found)):
            raise WireError("a call of a method that is not open")
        return getattr(found, method)

    def _replace(self, replacements: dict[str, Any]) -> None:
        for name in [name for name in self._replaced if name not in replacements]:
            self.names[name] = self._replaced.pop(name)
        for name, function in replacements.items():
            self._replaced.setdefault(name, self.names.get(name))
            self.names[name] = function

    # ------------------------------------------------------------- TensorFlow's graphs (a loss or a layer in training)

    def _call_in_graph(self, target: Any, method: str | None, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A function of tensors inside a traced training step: its values and their gradients both come from the other
        side.
        """
        if options:
            raise Uncarried("a function that is called with keywords while a graph is traced")
        places = [index for index, part in enumerate(args) if tf.is_tensor(part)]

        def whole(values: Sequence[Any]) -> tuple[Any, ...]:
            filled = list(args)
            for place, value in zip(places, values):
                filled[place] = tf.convert_to_tensor(value)
            return tuple(filled)

        def answer(*values: Any) -> Any:
            return self.call(target, method, whole(values), {})

        structure, specs = _result(answer, [args[place] for place in places])

        def forward(*values: Any) -> list[np.ndarray]:
            parts = tf.nest.flatten(answer(*values))
            if len(parts) != len(specs):
                raise ValueError(f"expected {len(specs)} results, as in the call before, got {len(parts)}")
            return [np.asarray(part, spec.dtype.as_numpy_dtype) for part, spec in zip(parts, specs)]

        @tf.custom_gradient
        def function(*tensors: Any) -> Any:
            values = tf.numpy_function(forward, tensors, [spec.dtype for spec in specs])
            values = [tf.ensure_shape(value, spec.shape) for value, spec in zip(values, specs)]

            def gradient(*above: Any) -> Any:
                def backward(*both: Any) -> list[np.ndarray]:
                    return self._slopes(target, both[: len(tensors)], both[len(tensors) :])

                slopes = tf.numpy_function(backward, [*tensors, *above], [tf.float32] * len(tensors))
                for slope, tensor in zip(slopes, tensors):
                    slope.set_shape(tensor.shape)
                return [slope if tensor.dtype.is_floating else None for slope, tensor in zip(slopes, tensors)]

            return values, gradient

        found = function(*(args[index] for index in places))
        return tf.nest.pack_sequence_as(structure, tf.nest.flatten(found))

    def _slopes(self, target: Any, values: Sequence[Any], above: Sequence[Any]) -> list[np.ndarray]:
        """Gradients of the sum of `above` times the results, for each value."""
        parcel = _Parcel()
        told = self.encode([tf.convert_to_tensor(value) for value in values], parcel)
        weights = self.encode([np.asarray(weight) for weight in above], parcel)
        request = {"op": "call", "f": target, "m": None, "a": told, "k": self.encode({}, parcel), "g": weights}
        self.wire.send(request, parcel.arrays)
        answer, arrays = self._answer()
        slopes = self.decode(answer.get("v"), _Parcel(arrays))
        if not isinstance(slopes, list) or len(slopes) != len(values):
            raise WireError("malformed message: no gradients")
        found = []
        for slope, value in zip(slopes, values):
            array = np.zeros(np.shape(value), "float32") if slope is None else np.asarray(slope, "float32")
            if array.shape != np.shape(value):
                raise WireError("malformed message: gradients of another shape")
            found.append(array)
        return found

    def _gradient(
        self, function: Callable[..., Any], args: list[Any], above: Any
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        tensors = [tf.convert_to_tensor(part) for part in args]
        with tf.GradientTape() as tape:
            for tensor in tensors:
                if tensor.dtype.is_floating:
                    tape.watch(tensor)
            parts = [tf.convert_to_tensor(part) for part in tf.nest.flatten(function(*tensors))]
        smooth = [(part, tf.cast(weight, part.dtype)) for part, weight in zip(parts, above) if part.dtype.is_floating]
        slopes = tape.gradient([part for part, _ in smooth], tensors, [weight for _, weight in smooth])
        reply = _Parcel()
        plain = [None if slope is None else ops.convert_to_numpy(slope) for slope in slopes]
        return {"op": "return", "v": self.encode(plain, reply)}, reply.arrays


def _methods(thing: Any) -> list[str]:
    """Public methods that an object of the judge's has from a class of the notebook or of `utils`: what an answer may
    call. What it has from elsewhere, as a layer's `save` from Keras, is not handed over.
    """
    names = {
        name
        for kind in type(thing).__mro__
        if kind.__module__.partition(".")[0] in ("__main__", "utils")
        for name, member in vars(kind).items()
        if isinstance(member, FunctionType) and not name.startswith("_")
    }
    return sorted(names)


def _result(function: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Any, list[tf.TensorSpec]]:
    """What a function of tensors gives: its structure, and dtype and shape of each part. It is called on made-up
    values, once, or twice where the size of a batch is still open, to see which axes follow it. A function that cannot
    take them is taken for a loss, whose value is one float.
    """
    rng = np.random.default_rng(0)

    def parts(size: int) -> tuple[Any, list[np.ndarray]]:
        shapes = [[size if length is None else length for length in tensor.shape] for tensor in tensors]
        kinds = [tensor.dtype.as_numpy_dtype for tensor in tensors]
        with tf.init_scope():  # out of the graph that is being traced
            found = function(*(rng.uniform(size=shape).astype(kind) for shape, kind in zip(shapes, kinds)))
        return found, [np.asarray(part) for part in tf.nest.flatten(found)]

    try:
        structure, first = parts(2)
        second = parts(3)[1] if any(None in tensor.shape for tensor in tensors) else first
        specs = []
        for one, other in zip(first, second, strict=True):
            lengths = [n if n == m else None for n, m in zip(one.shape, other.shape, strict=True)]
            specs.append(tf.TensorSpec(lengths, tf.float32 if one.dtype.kind == "f" else one.dtype))
    except Exception:
        return 0.0, [tf.TensorSpec((), tf.float32)]
    return structure, specs


def _outline() -> Any:
    import keras

    return keras.StatelessScope(initialize_variables=False)


def _is_loss(loss: Any) -> bool:
    import keras

    return isinstance(loss, keras.losses.Loss)


def _words(error: BaseException) -> str:
    try:
        return str(error)[:4000]
    except BaseException as other:  # a `__str__` of the student's own
        return f"(its words cannot be read: {type(other).__name__})"


def _index(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise WireError("malformed value: no number of a thing")
    return number


def _whole(number: Any) -> int:
    if type(number) is not int or abs(number) > 1 << 62:
        raise WireError("malformed value: no whole number")
    return number
