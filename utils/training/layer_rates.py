"""Learning rates by layer group: discriminative fine-tuning."""

import keras
from keras import ops


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
        list of lists of keras.Layer, from input to output. Layers before the first start belong to no group: they must
        hold no weights.

    Raises:
        ValueError: a name is unknown or stands for several layers, the names are not in the order of the layers, or
            there are weights before the first.
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

    `layerwise(AdamW(1e-3), model, {"conv1": 1 / 100, "conv5": 1 / 10, "logits": 1})` trains the layers from conv1 on
    with 1e-5, those from conv5 on with 1e-4, and those from logits on with 1e-3 (Howard and Ruder 2018; Yosinski et al.
    2014 for why early layers need less).

    Args:
        optimizer: keras optimizer; its learning rate, or schedule, is that of the groups with multiplier 1.
        model: the model to be trained, built.
        multipliers: dict of layer name -> factor of at least 0. Each named layer begins a group that reaches to the
            next, as in `layer_groups`. 0 keeps the weights where they are, but, other than `trainable = False`, leaves
            batch normalisation in training mode.

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
    """Takes another optimizer's step, multiplied for each variable by a factor; `layerwise` makes one from layer
    groups.

    The step, not the gradient, is multiplied: Adam divides by the gradient's size, so that a factor on the gradient
    would change nothing. Every optimizer's step is proportional to its learning rate, weight decay and momentum
    included, so this is a learning rate for each variable. Clipping sees the gradients of all groups together.

    Args:
        optimizer: keras optimizer, without `use_ema`.
        multipliers: dict of variable path -> factor of at least 0, for every trainable variable.
        name: of the optimizer.

    Raises:
        ValueError: a factor below 0, or `use_ema`, whose average would be that of the steps before the multiplication.
            On the first step: a variable without a factor.
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
                f"{'two multipliers' if found else 'no multiplier'} for {path}: was the optimizer made for another "
                "model?"
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
