"""Training that ends when it is good enough, the best of a run, and options changed on the way."""

from dataclasses import replace

import numpy as np
import pytest
from command_line import assert_refused, worldmodel
from runs import assert_same, assert_same_weights, outcome, train

from worldmodel import EpisodeStats
from worldmodel.agents import AgentConfig, WorldModelAgent
from worldmodel.agents.world import World
from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.rl.experiment import check
from worldmodel.experiments.rl.run import load_run
from worldmodel.experiments.runs.registry import changed, config_of, new_run
from worldmodel.files import DamagedError, read_json
from worldmodel.run_folder import RunError, RunFolder

SIX_ROUNDS = replace(
    quick(RLConfig(EnvironmentConfig("CartPole-v1"), agent=AgentConfig(seed=3))), steps=150
)
FOUR_ROUNDS = replace(SIX_ROUNDS, steps=110)


def test_a_quick_run_has_steps_and_prefill_of_its_own():
    """However few steps are asked for."""
    few = RLConfig(EnvironmentConfig("CartPole-v1"), steps=50)
    with pytest.raises(RunError, match="--prefill is a part of --steps, got 500 of 50 steps"):
        check(few)
    check(quick(few))


def returning(*means):
    """Evaluations with these mean returns, one after another; two differ by a standard error of
    1."""
    left = iter(means)

    def watch(self, agent, episodes, seed):
        mean = next(left)
        return EpisodeStats(np.array([mean - 1.0, mean + 1.0]), np.ones(2, int), np.ones(2, bool))

    return watch


@pytest.fixture
def evaluated(monkeypatch):
    def patch(*means):
        monkeypatch.setattr(World, "watch", returning(*means))

    return patch


def curve(folder: RunFolder) -> list[float]:
    return [line["real_return_mean"] for line in folder.metrics() if line["stage"] == "evaluate"]


@pytest.fixture
def never_stopped(tmp_path, evaluated) -> RunFolder:
    evaluated(9, 3, 9, 9, 9, 2)
    folder = new_run(tmp_path / "never-stopped", SIX_ROUNDS)
    train(folder)
    return folder


def test_three_evaluations_in_a_row_end_training(tmp_path, evaluated, never_stopped):
    evaluated(9, 3, 9, 9, 9, 2)
    folder = new_run(tmp_path / "run", replace(SIX_ROUNDS, stop_at=9.0))
    while not train(folder, lambda job: True).is_done:
        pass
    assert curve(folder) == [9, 3, 9, 9, 9]
    train(folder)
    assert curve(folder) == [9, 3, 9, 9, 9]
    train(changed(folder, {"stop_at": 9.5}))
    assert_same(folder, never_stopped)


def test_more_steps_have_to_be_as_good_again(tmp_path, evaluated):
    """They replace those that were spared."""
    evaluated(9, 9, 9, 9, 9, 9)
    folder = new_run(tmp_path / "run", replace(SIX_ROUNDS, stop_at=9.0))
    assert train(folder).real_steps == 90
    job = train(folder, steps=100)
    assert job.is_done
    assert job.real_steps == 150
    assert curve(folder) == [9] * 6


@pytest.mark.parametrize(
    "means", [(2, 5, 5, 1), (7, 1, 2, 3), (1, 2, 3, 4), (2, 5, 4.1, 1), (2, 5, 3.9, 1)]
)
def test_the_best_is_what_is_loaded_and_the_last_is_gone_on_with(tmp_path, evaluated, means):
    """Of those that are as good as far as can be told the last."""
    evaluated(*means)
    last = new_run(tmp_path / "last", replace(FOUR_ROUNDS, keep="last"))
    until = max(number for number, mean in enumerate(means) if mean > max(means) - 1)
    weights = {}

    def note(job) -> bool:
        stage = job.stages[job.stage]
        if (stage.kind, stage.round) == ("evaluate", until):
            for name, module in job.modules.items():
                found = module.state_dict().items()
                weights.update({f"{name}.{key}": value.clone() for key, value in found})
        return False

    train(last, note)
    evaluated(*means)
    best = new_run(tmp_path / "best", FOUR_ROUNDS)
    while not train(best, lambda job: True).is_done:
        pass
    assert_same(best, last)
    _, checkpoint = load_run(best)
    assert_same_weights(checkpoint.weights, weights)
    assert checkpoint.values["real_steps"] == 50 + 20 * until
    loaded = WorldModelAgent.load(best.path)
    assert loaded.num_timesteps == 50 + 20 * until
    assert len(list_checkpoints(best.checkpoints)) <= 3
    assert_same_weights(load_run(last)[1].weights, outcome(best)[1])
    changed(last, {"keep": "best"})
    assert_same_weights(load_run(RunFolder.open(last.path))[1].weights, weights)


def test_options_are_changed_on_the_way(tmp_path):
    folder = new_run(tmp_path / "run", SIX_ROUNDS)
    train(folder, lambda job: True)
    options = ["--stop-at", -5, "--keep", "best", "--episodes", 3, "--threads", 1]
    result = worldmodel("resume", folder.path, *options)
    assert result.returncode == 0, result.stderr
    folder = RunFolder.open(folder.path)
    config = config_of(folder)
    assert (config.stop_at, config.keep, config.evaluation.episodes) == (-5.0, "best", 3)
    assert folder.trust.is_whole
    assert len(curve(folder)) == 3
    figures = read_json(folder.evaluation_file)
    assert figures["episodes"] == 3
    assert figures["checkpoint"] == folder.kept().chosen
    assert f"the best is kept: {figures['checkpoint']}" in result.stderr


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    folder = new_run(tmp_path / "run", SIX_ROUNDS)
    before = folder.config_file.read_bytes()
    assert_refused(worldmodel("resume", folder.path, "--episodes", 1), "--episodes", "2 or more")
    assert folder.config_file.read_bytes() == before
    unwatched = new_run(tmp_path / "unwatched", replace(SIX_ROUNDS, curve_episodes=0))
    with pytest.raises(RunError, match=r"--stop-at.*--curve-episodes"):
        changed(unwatched, {"stop_at": 3.0})
    with pytest.raises(RunError, match=r"--keep.*leave them out"):
        changed(folder.described({}), {"keep": "best", "wheels": 3})


def test_metrics_after_the_best_are_checked_too(tmp_path, evaluated):
    """Those that the newest checkpoint speaks of, though an older one is loaded."""
    evaluated(9, 1, 1, 1, 1, 1)
    folder = new_run(tmp_path / "run", SIX_ROUNDS)
    train(folder)
    kept = RunFolder.open(folder.path).kept()
    assert kept.chosen is not None
    assert len(kept.metrics()) == len(folder.metrics())
    content = folder.metrics_file.read_bytes()
    folder.metrics_file.write_bytes(content[:-200] + bytes(200))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl is damaged"):
        kept.metrics()
