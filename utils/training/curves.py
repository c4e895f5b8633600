"""Learning curves that grow while a network trains."""

import keras

from utils import plots


class LiveCurves(keras.callbacks.Callback):
    """Learning curves that are redrawn in the notebook after every epoch; the last picture stays.

    Outside a notebook nothing is drawn until `figure()` is asked for. With `fit(..., folder=...)` the curves of a
    resumed run are whole.

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
