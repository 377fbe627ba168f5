"""Collectors: one plays what none would; several send whole episodes, in order, and may die."""

import functools
import os
import shutil
import signal
from dataclasses import replace

import cattrs
import gymnasium
import numpy as np
import pytest
import torch
from command_line import assert_refused, worldmodel
from crews import Here, check_replays, check_run, keeper_of, there, training_in
from episodes import same
from runs import assert_same, assert_same_weights, at, known, outcome, train

from worldmodel import Episodes, Greedy, experiments
from worldmodel.agents import AgentConfig, Uniform
from worldmodel.agents.collectors import Collectors
from worldmodel.envs import BrokenEnvironmentError
from worldmodel.envs.collector import Collector
from worldmodel.envs.resumable import Resumable
from worldmodel.experiments.rl import collecting
from worldmodel.experiments.rl.config import (
    CollectorsConfig,
    EnvironmentConfig,
    EvaluationConfig,
    RLConfig,
    quick,
)
from worldmodel.experiments.rl.evaluation import evaluate
from worldmodel.experiments.rl.experiment import check
from worldmodel.experiments.runs import cluster
from worldmodel.experiments.runs.cards import CardConfig
from worldmodel.experiments.runs.packing import pack_run
from worldmodel.experiments.runs.registry import new_run
from worldmodel.options import with_options
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.trust import Trust

POLE = quick(
    RLConfig(
        EnvironmentConfig("CartPole-v1", num_envs=2), agent=AgentConfig(seed=3), curve_episodes=0
    )
)
LAST = 2  # round
OWN = ("seeds", "versions")  # metrics that collectors alone have


def with_collectors(number, config=POLE):
    return replace(config, collecting=CollectorsConfig(number))


@pytest.fixture
def crew(monkeypatch):
    """The crew of all runs."""
    crew = Here()
    monkeypatch.setattr(collecting, "RayCrew", lambda address, resource: crew)
    return crew


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> RunFolder:
    """A run without collectors."""
    folder = new_run(tmp_path_factory.mktemp("runs") / "alone", POLE)
    train(folder)
    return folder


def assert_as_alone(folder, alone):
    """One collector has left what none does: metrics, weights, episodes, what goes on."""
    (metrics, weights), (expected, expected_weights) = outcome(folder), outcome(alone)
    assert [{k: v for k, v in line.items() if k not in OWN} for line in metrics] == expected
    assert_same_weights(weights, expected_weights)
    assert known(folder) == known(alone)
    for file in alone.episodes.rglob("*"):
        if file.is_file():
            assert (
                folder.episodes / file.relative_to(alone.episodes)
            ).read_bytes() == file.read_bytes()


def test_one_collector_leaves_what_none_does(crew, alone, tmp_path):
    """To the last bit, though its process dies as it begins and in the midst of rounds."""
    crew.fatal = {0, 2, 5}
    folder = new_run(tmp_path / "run", with_collectors(1))
    train(folder, at("learn", 1, 1))
    train(folder)
    assert_as_alone(folder, alone)
    assert len(crew.players) == 2 + 3
    versions = [version for line in folder.metrics() for version in line.get("versions", [])]
    assert versions[0] == [0, 0]
    assert [0, 1] in versions  # it went on by the next policy


def test_several_send_whole_episodes_that_are_right(crew, tmp_path):
    """Of their seeds and actions; none is half, none comes twice, though a collector dies and the
    run is stopped in every round."""
    crew.fatal = {4}
    folder = new_run(tmp_path / "run", with_collectors(3))
    for round_ in range(LAST + 1):
        train(folder, at("learn", round_, 1))
    train(folder)
    episodes, lines = check_run(folder)
    values = folder.values()
    assert values["added"] == values["finished"] == len(episodes)
    assert episodes.steps == values["real_steps"] >= POLE.steps
    assert [line["real_steps"] for line in lines] == np.cumsum(
        [x["steps"] for x in lines]
    ).tolist()
    for number, line in enumerate(lines):
        assert all(first <= last <= number for first, last in line["versions"])


def test_a_learner_goes_on_exactly_from_what_it_has_taken(crew, tmp_path):
    whole, stopped = (new_run(tmp_path / name, with_collectors(3)) for name in "ab")
    train(whole)
    train(stopped, at("learn", LAST, 2))
    assert len(crew.players) == 6
    train(stopped)
    assert len(crew.players) == 6  # nothing more was to be played
    assert_same(stopped, whole)


def collectors(number, env="CartPole-v1", **options):
    """Collectors of a crew of this process, open; the crew, and what they have said."""
    crew, said = Here(), []
    making = functools.partial(Collectors, crew=crew, number=number)
    training = training_in(env, making, said.append, **options)
    found = training._playing.collector
    found.begin(lambda: pytest.fail("an environment was made"), 11)
    return found, crew, said


def random_agent():
    return Uniform(gymnasium.spaces.Discrete(2))


def test_a_round_waits_for_no_collector_that_is_slow():
    """Nor for one that is gone; what it has sent is taken later, and is the first then."""
    found, crew, _ = collectors(3)
    crew.slow = {1}
    first = list(found.play(random_agent(), 300))
    slow = {seed for seed, _ in found.figures["seeds"]} & {11 + 2, 11 + 3}
    assert not slow
    assert sum(part.steps for part in first) == found.taken >= 300
    crew.slow = set()
    list(found.play(random_agent(), 300))
    assert {seed for seed, _ in found.figures["seeds"][:2]} <= {11 + 2, 11 + 3}
    assert all(version == [0, 0] for version in found.figures["versions"])  # they played on
    list(found.play(random_agent(), 900))
    assert found.figures["versions"][0] == [0, 0]
    assert found.figures["versions"][-1][1] == 2


def test_collectors_are_no_farther_ahead_than_an_order_each():
    """What is taken too much is taken less of later: steps keep their ratio to rounds."""
    found, crew, _ = collectors(3)
    taken = 0
    for round_ in range(1, 8):
        calls = len(crew.calls)
        list(found.play(random_agent(), 60))
        taken += found.taken
        orders = [arguments[1].steps for _, _, arguments in crew.calls[calls:]]
        assert set(orders) <= {20}
        assert 60 * round_ <= taken < 60 * round_ + 20 + 2 * 500
        open_calls = [seat.call for seat in found._seats]
        assert None not in open_calls
    assert len(crew.players) == 3


def test_by_one_policy_collectors_play_what_one_process_does():
    """Copies of N collectors are numbered through, as copies of one are; and the noise of the
    first is that of a run without."""
    found, _, _ = collectors(2, num_envs=2)
    parts = list(found.play(random_agent(), 200))
    check_replays(
        Episodes.join(parts), found.figures["seeds"], lambda: gymnasium.make("CartPole-v1")
    )
    assert {seed for seed, _ in found.figures["seeds"]} == {11, 12, 13, 14}
    found, _, _ = collectors(1, num_envs=2)
    parts = Episodes.join(list(found.play(random_agent(), 200)))
    training = training_in("CartPole-v1")
    plain = Collector(2)
    plain.open(training.world.environment(2, 11, wrap=Resumable), 11)
    torch.manual_seed(5)
    expected = Episodes.join(list(plain.play(random_agent(), 200, whole=True)))
    plain.close()
    assert same(parts, expected)


def test_a_collector_that_dies_is_replaced_and_said():
    found, crew, said = collectors(2)
    crew.fatal = {1}
    list(found.play(random_agent(), 100))
    assert len(crew.players) == 3
    (sentence,) = said
    assert sentence == (
        "collector 1 died (killed); another one takes its place; episodes that it had not sent "
        "are dropped"
    )
    crew.fatal = set(range(1_000))
    with pytest.raises(BrokenEnvironmentError, match="died 3 times and sent nothing in between"):
        list(found.play(random_agent(), 1_000))


def test_a_cluster_that_a_strangers_run_names_is_not_joined(tmp_path, crew):
    config = replace(POLE, collecting=CollectorsConfig(2, ray="stranger:6379"))
    folder = new_run(tmp_path / "run", config)
    folder.trust = Trust()
    with pytest.raises(RunError, match=r"stranger:6379.*give --trust"):
        train(folder)


def test_a_packed_run_names_no_cluster(alone, tmp_path):
    copy = shutil.copytree(alone.path, tmp_path / "run")
    config = replace(POLE, collecting=CollectorsConfig(2, ray="host:6379"))
    folder = RunFolder.open(copy).described(cattrs.unstructure(config))
    pack_run(folder, tmp_path / "run.wm", CardConfig(), False)
    packed = RunFolder.open(tmp_path / "run.wm")
    assert packed.description.config["collecting"] == cattrs.unstructure(CollectorsConfig())
    assert "host" not in (packed.path / "README.md").read_text()


def test_options_that_do_not_fit_are_refused(tmp_path):
    new = ["train", "control", "--env", "CartPole-v1", "--out", tmp_path / "run", "--quick"]
    assert_refused(worldmodel(*new, "--ray", "auto"), "give --collectors, too")
    assert_refused(worldmodel(*new, "--collectors", 2, "--workers", 1), "leave out --workers")
    assert_refused(worldmodel(*new, "--collectors", -1), "--collectors must be 0 or more")


def test_an_environment_that_is_elsewhere_alone_is_never_made_here(crew, monkeypatch, tmp_path):
    """Spaces, limit and evaluations come from where it is; they are what they would be here."""
    monkeypatch.setattr(collecting, "RayKeeper", keeper_of)
    environment = EnvironmentConfig("Distant-v0", num_envs=2)
    config = replace(
        POLE,
        environment=environment,
        collecting=CollectorsConfig(2, collector_resource="poles"),
        curve_episodes=2,
    )
    check(config)
    folder = new_run(tmp_path / "run", config)
    train(folder)
    figures = evaluate(folder, EvaluationConfig(episodes=3, held_out=2, bound_particles=2))
    assert figures["dream_horizon"] == 30
    run = experiments.load(folder.path)
    stats = run.world.play(Greedy(run.components.player), 3, 7)
    with there():
        near = run.world._replace(source=run.source.near)
        expected = near.play(Greedy(run.components.player), 3, 7)
    assert stats.returns.tolist() == expected.returns.tolist()


@pytest.fixture(scope="module")
def ray():
    """A Ray cluster of this machine."""
    pytest.importorskip("ray")
    ray = cluster.connected(None)
    yield ray
    ray.shutdown()


def test_a_process_of_ray_that_is_killed_is_replaced(ray, tmp_path, capfd):
    """What it has sent before is right, and what comes after it."""
    long = {"collect_steps": 200, "update_ratio": 0.02, "rollout_ratio": 0.02}
    config = replace(POLE, agent=with_options(POLE.agent, long), steps=450)
    folder = new_run(tmp_path / "run", with_collectors(2, config))

    def killing(job) -> bool:
        if at("learn", 0, 1)(job):
            player = job._playing.collector._seats[1].player
            number = ray.get(player.__ray_call__.remote(lambda self: os.getpid()))
            os.kill(number, signal.SIGKILL)
        return False

    train(folder, killing)
    episodes, lines = check_run(folder)
    assert episodes.steps >= 450
    assert lines[-1]["versions"][-1][1] > 0
    assert "collector 1 died (its process is gone); another" in "".join(capfd.readouterr())
