"""Laws of ranks: processes that learn from shares of one batch learn what one process does."""

import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from campaigns.processes import prepare, until
from kinds import MADE, config_for, write_files
from rank_laws import check, of_cores, of_policies
from ranks import HANGS, ended, started, together
from runs import assert_same, at, outcome, train

from worldmodel import ranks
from worldmodel.agents import AgentConfig
from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.images import experiment as images
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.command import arguments_of
from worldmodel.experiments.runs.registry import new_run
from worldmodel.run_folder import RunFolder

NEAR = 1e-4  # of single precision, after some updates


@pytest.fixture(scope="module", autouse=True)
def prepared():
    """What forks would import each for itself."""
    prepare()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run of text that validates twice and carries states."""
    made = MADE["text"]
    files = write_files(made, tmp_path_factory.mktemp("text"))
    return config_for(made, files, updates=8, model={"core": "vrnn"})


def run_of(config, path, size, stop=lambda job: False):
    """A new run, or one that is gone on with, on some ranks; its folder."""
    if not path.exists():
        new_run(path, config)

    def work():
        train(RunFolder.open(path), stop)

    together(size, work)
    return RunFolder.open(path)


def assert_near(one, other):
    """Two runs measured and learned the same, but for rounding."""
    (metrics, weights), (expected, expected_weights) = outcome(one), outcome(other)
    assert [line.keys() for line in metrics] == [line.keys() for line in expected]
    for line, wanted in zip(metrics, expected, strict=True):
        assert line.pop("stage") == wanted.pop("stage")
        assert line == pytest.approx(wanted, rel=NEAR, abs=NEAR)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], rtol=NEAR, atol=NEAR)


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """The run of one process."""
    return run_of(config, tmp_path_factory.mktemp("alone") / "run", 1)


def test_gradients_of_ranks_are_those_of_the_whole_batch():
    cores = of_cores(["srnn smoothing res_q", "rssm categorical"])
    check(2, cores | of_cores(["rnn linear"], ["dropout"]) | of_policies())


def test_a_rank_without_columns_changes_nothing():
    check(4, of_cores(["vrnn"], ["elbo", "carried"]))


def test_the_law_notices_noise_that_is_not_of_the_own_columns(monkeypatch):
    monkeypatch.setattr(ranks, "drawn", lambda draw, like: draw(like))
    with pytest.raises(AssertionError, match="rank 0 of 2, vrnn by elbo: gradients"):
        check(2, of_cores(["vrnn"], ["elbo"]))


@pytest.fixture(scope="module")
def shared(config, tmp_path_factory):
    """The run of two ranks."""
    return run_of(config, tmp_path_factory.mktemp("shared") / "run", 2)


def test_a_run_on_two_ranks_is_that_of_one_process(shared, alone):
    assert_near(shared, alone)


def test_a_run_goes_on_to_the_last_bit_on_as_many_ranks_and_nearly_so_on_others(
    config, shared, tmp_path
):
    here = at("learn", 0, 2)
    for size, same in ((2, assert_same), (1, assert_near)):
        path = tmp_path / str(size)
        assert len(run_of(config, path, 2, here).metrics()) < len(shared.metrics())
        same(run_of(config, path, size), shared)


def test_agents_on_ranks_learn_the_same_model_and_go_on_to_the_last_bit(tmp_path):
    """The first rank plays and evaluates; each dreams its share, with noise of its own."""
    config = quick(RLConfig(EnvironmentConfig("CartPole-v1"), agent=AgentConfig(seed=3)))
    config = replace(config, steps=50, curve_episodes=1)
    runs = {size: run_of(config, tmp_path / str(size), size) for size in (1, 2)}
    one, two = (run.metrics() for run in runs.values())
    for line, wanted in zip(two, one, strict=True):
        if line["stage"] == "improve":
            break
        if "nats" in line:
            assert line["nats"] == pytest.approx(wanted["nats"], rel=NEAR)
    path = tmp_path / "interrupted"
    run_of(config, path, 2, at("improve", 0, 2))
    assert_same(run_of(config, path, 2), runs[2])


def test_images_are_learned_by_ranks_as_by_one_process(tmp_path):
    pictures = tmp_path / "images.npz"
    np.savez(pictures, np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), np.uint8))
    config = images.quick(VAEConfig(data=ImagesConfig(images=str(pictures))))
    assert_near(*(run_of(config, tmp_path / str(size), size) for size in (2, 1)))


def test_a_killed_rank_ends_the_others_with_one_sentence_and_a_restart_goes_on(config, tmp_path):
    learning = replace(config.learning, updates=12, validations=1)
    words = arguments_of(
        replace(config, learning=learning, checkpoint_seconds=1e-6), tmp_path / "run"
    )
    forks = started(3, lambda: main(words))
    checkpoints = tmp_path / "run" / "checkpoints"
    assert until(lambda: len(list_checkpoints(checkpoints)) > 1, HANGS)
    forks[0].send(signal.SIGKILL)
    ends = ended(forks)
    assert [end.code for end in ends] == [-signal.SIGKILL, 2, 2]
    told = [end.error for end in ends if "another rank of this run has ended" in end.error]
    assert len(told) == 1, ends
    assert RunFolder.open(tmp_path / "run").values()["done"] > 0
    again = ended(started(2, lambda: main([*words, "--every-rank"]), restarts=1))
    assert [end.code for end in again] == [0, 0], again
    for number, end in enumerate(again):
        assert re.search(rf"^rank {number}: .* in all: .*updates/s.* MiB", end.error, re.MULTILINE)
    learned = [
        line for line in RunFolder.open(tmp_path / "run").metrics() if line["stage"] == "learn"
    ]
    assert [line["unit"] for line in learned] == [*range(1, 13)]


def test_what_one_rank_refuses_is_said_once(tmp_path):
    words = ["train", "text", "--corpus", str(tmp_path / "none"), "--out", str(tmp_path / "run")]
    ends = ended(started(2, lambda: main(words)))
    assert {end.code for end in ends} == {2}
    assert len([end.sentence for end in ends if end.error]) == 1


def test_ranks_that_came_apart_are_noticed():
    def compared():
        ranks.check_alike({"weights": torch.ones(2) * (1 + 1e-7 * ranks.rank())}, "the weights")

    with pytest.raises(AssertionError, match="the weights of rank 1 differ from those of rank 0"):
        together(2, compared)
