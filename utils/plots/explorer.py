"""Sliders where somebody can move them."""

import matplotlib.pyplot as plt


def explore(draw, still=None, **sliders):
    """Draw one still picture, or, where somebody can move them, sliders and menus that draw it anew.

    They appear in JupyterLab, Jupyter Notebook, VS Code and Colab. A run without a reader (papermill, nbconvert, nbval)
    gets the
    picture alone: a page of a finished run has no kernel that could answer a slider.

    Args:
        draw: function of the named numbers that draws with matplotlib.
        still: function without arguments that draws what takes the sliders' place, such as a strip of several
            positions; None: `draw` at the first positions.
        **sliders: name=(start, low, high), ints; or name=[choice, choice, ...], the first being the start.
    """
    if not _has_reader():
        if still is None:
            draw(**{name: entry[0] for name, entry in sliders.items()})
        else:
            still()
        return
    import ipywidgets
    from IPython.display import display

    def control(name, entry):
        if isinstance(entry, list):
            return ipywidgets.Dropdown(options=entry, value=entry[0], description=name)
        start, low, high = entry
        return ipywidgets.IntSlider(value=start, min=low, max=high, description=name, continuous_update=False)

    controls = {name: control(name, entry) for name, entry in sliders.items()}

    def redraw(**values):
        draw(**values)
        plt.show()

    picture = ipywidgets.interactive_output(redraw, controls)
    display(
        ipywidgets.VBox(
            [ipywidgets.HBox(list(controls.values())[i : i + 3]) for i in range(0, len(controls), 3)] + [picture]
        )
    )


def _has_reader():
    import os
    import sys

    from IPython import get_ipython

    # Jupyter's server names the notebook to the kernels it starts; nbclient, which papermill, nbconvert and nbval use,
    # does not.
    shell = get_ipython()
    in_vscode = shell is not None and "__vsc_ipynb_file__" in shell.user_ns
    return "google.colab" in sys.modules or in_vscode or bool(os.environ.get("JPY_SESSION_NAME"))
