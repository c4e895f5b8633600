"""Keras 3 utilities that the notebooks import."""

import os

from utils.startup import forgive_retracing, import_quietly

# TensorFlow's own log would fill the first cells with lines that mean nothing to a reader. It reads this when it is
# imported, and every notebook's set-up cell imports `utils` before that.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import_quietly("tensorflow")
forgive_retracing()
