"""What holds for the whole suite."""

import os

# The suite starts hundreds of processes: without their bytecode on disk each would compile everything again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Under `uv run` the printed `resume` would begin with uv, which may go to a registry; this interpreter has all.
os.environ.pop("UV", None)
