"""Tests share the machine: one thread each, and the runs that they start as well. Their runs are
remembered in a folder of theirs, not in the user's."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
STATE = tempfile.TemporaryDirectory(prefix="worldmodel-state-")  # until the tests end
os.environ["XDG_STATE_HOME"] = STATE.name
