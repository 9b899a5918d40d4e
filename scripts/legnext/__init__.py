"""What the four scripts share; each module's first line says its one job."""

import gc
import sys

__version__ = "2.0.0"

# What a command imports and reads it needs until its end: by default it is searched for garbage 60 times.
gc.set_threshold(50_000)

# The four scripts hold no syntax that Python 3.6 refuses, so that this is reached.
if sys.version_info < (3, 10):  # noqa: UP036 - macOS still has a python3 that is older
    sys.stdout.write(
        '{"error": {"type": "missing_dependency", "code": null, '
        f'"message": "Python 3.10 or newer is needed, this is {sys.version_info[0]}.{sys.version_info[1]}", '
        '"hint": "Start the script with `uv run` instead of `python3`: it brings its own Python."}}\n'
    )
    sys.exit(2)
