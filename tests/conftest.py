"""What holds for the whole suite."""

import os

from hypothesis import settings

# The suite starts hundreds of processes: without their bytecode on disk each would compile everything again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Under `uv run` the printed `resume` begins with uv, which may ask a registry; this interpreter has all.
os.environ.pop("UV", None)

# No test is timed: a busy machine is no fault.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
