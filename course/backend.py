"""Which backend Keras would take, read from where Keras reads it; Keras is not imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def chosen_backend(environment: Mapping[str, str]) -> tuple[str, str]:
    """The backend Keras would take and where that is said: KERAS_BACKEND, else keras.json, else TensorFlow."""
    if environment.get("KERAS_BACKEND"):
        return environment["KERAS_BACKEND"], "KERAS_BACKEND"
    path = keras_folder(environment) / "keras.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("backend")
    except FileNotFoundError:
        name = None
    except (OSError, ValueError, AttributeError):
        return "tensorflow", f"Keras's default ({path} cannot be read)"
    return (str(name), str(path)) if name else ("tensorflow", "Keras's default")


def keras_folder(environment: Mapping[str, str]) -> Path:
    """Keras's own folder: KERAS_HOME, else ~/.keras."""
    return Path(environment.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
