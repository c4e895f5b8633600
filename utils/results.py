"""The figures that a notebook claims: shown to the reader, read back by the `course` command."""

import html
import math
import numbers

import numpy as np

MIME = "application/vnd.course.results+json"


def record(**metrics):
    """Show metrics as a small table, and leave them in the notebook for `course run` to compare with their bands.

    `record(accuracy=.93, seconds=41)` shows two rows. A name recorded again later in the notebook replaces the earlier
    value. Outside a notebook the table is printed.

    Args:
        **metrics: name=value. A value is one finite number: Python's, NumPy's, or a tensor with a single element and no
            axes.

    Raises:
        TypeError: a value is not a single number (text, bool, list, array with axes), or there is none at all.
        ValueError: a value is not finite, or a name is not an identifier.
    """
    if not metrics:
        raise TypeError("record needs at least one metric, as in record(accuracy=.93)")
    values = {_name(name): _number(name, value) for name, value in metrics.items()}
    bundle = {"text/plain": _plain(values), "text/html": _table(values), MIME: values}
    if _in_notebook():
        from IPython.display import display

        display(bundle, raw=True)
    else:
        print(bundle["text/plain"])


def reaches(value, floor, judged=True):
    """Whether a figure reaches its floor, for a check that says so: `assert reaches(accuracy, floor, judged), f"..."`.

    A floor was measured on certain data. On others it says nothing, so the figure is shown and not judged.

    Args:
        value: float.
        floor: float, in the units of `value`.
        judged: bool, whether the data are those that the floor was measured on.

    Returns:
        bool; True where nothing is judged, which is printed.
    """
    if judged:
        return bool(value >= floor)
    print(f"{value:.3g}: not judged on other data, for the floor of {floor:g} was measured on the notebook's own")
    return True


def _in_notebook():
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


def _name(name):
    if not name.isidentifier():
        raise ValueError(f"metric {name!r}: a name is made of letters, digits and _, and starts with no digit")
    return name


def _number(name, value):
    if isinstance(value, (bool, np.bool_, str, bytes)) or np.ndim(value) != 0:
        raise TypeError(f"metric {name}: expected one number, got {value!r}")
    if isinstance(value, numbers.Integral):
        return int(value)
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metric {name}: expected one number, got {value!r}") from error
    if not math.isfinite(value):
        raise ValueError(f"metric {name}: expected a finite number, got {value}")
    return value


def _format(value):
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _plain(values):
    width = max(map(len, values))
    return "\n".join(f"{name:<{width}}  {_format(value)}" for name, value in values.items())


def _table(values):
    cell = '<td style="text-align: {}; padding: 2px 12px">{}</td>'
    rows = "".join(
        f"<tr>{cell.format('left', html.escape(name.replace('_', ' ')))}{cell.format('right', _format(value))}</tr>"
        for name, value in values.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"
