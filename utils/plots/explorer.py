"""Sliders where somebody can move them."""

import matplotlib.pyplot as plt


def explore(draw, **sliders):
    """Draw one still picture, or, where somebody can move them, sliders that draw it anew.

    Sliders appear in JupyterLab, Jupyter Notebook, VS Code and Colab. A run without a reader (papermill, nbconvert,
    nbval) gets the
    picture alone: a page of a finished run has no kernel that could answer a slider.

    Args:
        draw: function of the named numbers that draws with matplotlib.
        **sliders: name=(start, low, high), ints.
    """
    if not _has_reader():
        draw(**{name: start for name, (start, _, _) in sliders.items()})
        return
    import ipywidgets
    from IPython.display import display

    controls = {
        name: ipywidgets.IntSlider(value=start, min=low, max=high, description=name, continuous_update=False)
        for name, (start, low, high) in sliders.items()
    }

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
