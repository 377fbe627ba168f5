"""Learning curves: which runs are one curve, what it shows, what it is called."""

from dataclasses import replace

import numpy as np
import pytest

from worldmodel.agents import AgentConfig
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.show.curves import curves_of, plot
from worldmodel.options import with_options
from worldmodel.run_folder import RunError

CONFIG = RLConfig(EnvironmentConfig("CartPole-v1"))


@pytest.fixture
def make(tmp_path):
    """Makes runs, of which nothing but the curve is there."""

    def make(points, **options):
        """options: of the agent."""
        number = len(list(tmp_path.iterdir()))
        config = replace(CONFIG, agent=with_options(AgentConfig(), options))
        folder = new_run(tmp_path / f"run-{number}", config)
        folder.log({"stage": "learn", "loss": 1.0})
        for steps, value in points:
            folder.log({"stage": "evaluate", "real_steps": steps, "real_return_mean": value})
        folder.log({"stage": "final", "real_return_mean": -1e9})
        return folder

    return make


def test_runs_that_differ_in_their_seeds_are_one_curve(make):
    runs = [make([(100, 1.0), (300, 5.0)], seed=0), make([(100, 3.0), (300, 9.0)], seed=1)]
    (curve,) = curves_of(runs)
    assert curve.label == "control (2 runs)"
    assert curve.steps.tolist() == [100, 300]
    assert curve.returns.tolist() == [[1, 5], [3, 9]]


def test_curves_are_called_by_what_differs(make):
    wide = {"hidden_size": 64}
    runs = [make([(1, 0.0)]), make([(1, 0.0)], **wide), make([(1, 0.0)], **wide, seed=1)]
    labels = ["hidden_size=16", "hidden_size=64 (2 runs)"]
    assert [curve.label for curve in curves_of(runs)] == labels


def test_what_differs_much_is_called_by_its_first_settings(make):
    other = {"hidden_size": 1, "decoder_hidden": 2, "latent": 3, "layers": 4, "history": 5}
    runs = [make([(1, 0.0)]), make([(1, 0.0)], **other)]
    assert curves_of(runs)[1].label == "hidden_size=1, decoder_hidden=2, latent=3, 2 more"


def test_a_curve_goes_as_far_as_all_of_its_runs(make):
    """Between its own evaluations a run counts as the line between them."""
    runs = [
        make([(100, 0.0), (200, 1.0), (300, 2.0)], seed=0),
        make([(150, 0.0), (250, 4.0)], seed=1),
    ]
    (curve,) = curves_of(runs)
    assert curve.steps.tolist() == [150, 200, 250]
    assert curve.returns.tolist() == [[0.5, 1.0, 1.5], [0.0, 2.0, 4.0]]


def test_a_run_without_a_curve_is_named(make):
    run = make([])
    with pytest.raises(RunError, match=f"{run.path} has no learning curve"):
        curves_of([run])


def test_a_picture_is_drawn(make, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    runs = [make([(100, seed), (300, 5.0 + seed)], seed=seed) for seed in range(2)]
    plain, with_threshold = tmp_path / "plain.png", tmp_path / "with.png"
    plot(runs, plain)
    plot(runs, with_threshold, [5.5])
    assert np.abs(imread(plain) - imread(with_threshold)).max() > 0.1
