"""Keeps TensorFlow's remarks out of the notebooks. Standard library only: `import utils` runs this."""

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import re
import sys
import tempfile

# Lines that TensorFlow prints whatever its log level is: written by its C++ side before its log is set up.
REMARKS = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog|[IW]\d{4} .*(port|cpu_feature_guard)\.cc:\d+\])"
)


@contextlib.contextmanager
def quietly():
    """Hold back what C++ code writes to the standard error stream, and give back all of it but REMARKS.

    The file descriptor is redirected, since Python's `sys.stderr` is not what C++ writes to. Where there is none,
    nothing happens.
    """
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            lines.seek(0)
            rest = b"".join(line for line in lines if not REMARKS.match(line))
            if rest:
                sys.stderr.write(rest.decode(errors="replace"))


class _Quiet(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module quietly, once, and steps aside."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.loader
        with quietly():
            self.loader.exec_module(module)


def import_quietly(name):
    """Let the first import of that module, wherever it happens, run under `quietly`."""
    if name not in sys.modules:
        sys.meta_path.insert(0, _Quiet(name))


def not_about_retracing(record):
    """Whether to keep a record of TensorFlow's Python log: True unless it is the warning about frequent retracing.

    TensorFlow adds up the tracings of all models in a process. A notebook that compares networks builds many models and
    runs each of them a few times, so it would see the warning although no single model is traced too often.
    """
    return "triggered tf.function retracing" not in str(record.msg)


def forgive_retracing():
    """Hide TensorFlow's warning about frequent retracing; see `not_about_retracing`."""
    logging.getLogger("tensorflow").addFilter(not_about_retracing)
