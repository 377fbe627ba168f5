"""Tests share the machine: one thread each, and the runs that they start as well. Their runs are
remembered in a folder of theirs, not in the user's; so is what stable-baselines3 logs where a test
or a page uses it by itself. What is registered for others stays so."""

import os
import tempfile

import gymnasium
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
STATE = tempfile.TemporaryDirectory(prefix="worldmodel-state-")  # until the tests end
os.environ["XDG_STATE_HOME"] = STATE.name
os.environ["SB3_LOGDIR"] = f"{STATE.name}/sb3"


@pytest.fixture(autouse=True)
def registered():
    """Fails a test that takes an environment from those that come after it in its process."""
    before = dict(gymnasium.registry)
    yield
    for id, spec in before.items():
        assert gymnasium.registry.get(id) is spec, f"{id} is registered otherwise now"
