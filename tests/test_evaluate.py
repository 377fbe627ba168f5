"""Laws of what `evaluate` reports: losses, exact answers beside them, seeds of its own."""

from dataclasses import replace

import pytest
import torch
from faces import toy_run, untrained
from games import Counting  # noqa: F401 (registers games)
from perfect import perfect_model

from worldmodel import Greedy, play_episodes
from worldmodel.agents import Uniform
from worldmodel.agents.world import evaluation_seeds
from worldmodel.envs import ToyGame, make_environment, random_policy_steps, solve_toy_game
from worldmodel.experiments.measure.scores import per_step
from worldmodel.experiments.rl import evaluation
from worldmodel.experiments.rl.config import EvaluationConfig
from worldmodel.experiments.rl.yardsticks import yardstick_for


def note(what, done, total):
    """Tells nobody."""


def test_a_loss_counts_the_counted_rows():
    torch.manual_seed(0)
    model = torch.randn(5, 4).double()
    exact = model + 0.25
    counted = torch.arange(5)[:, None] < torch.tensor([5, 3, 1, 4])
    model[~counted] = torch.nan
    found = evaluation._loss(model, exact, counted)
    steps = counted.sum().item()
    assert found["nats_per_step"] == pytest.approx(-model[counted].sum().item() / steps)
    assert found["gap_nats_per_step"] == pytest.approx(0.25)
    assert found["gap_se"] == pytest.approx(0.0, abs=1e-12)
    assert found["exact_nats_per_step"] == pytest.approx(found["nats_per_step"] - 0.25)
    assert "gap_se" not in evaluation._loss(model, None, counted)


def test_a_value_that_the_model_holds_to_be_impossible_leaves_no_figure():
    model = torch.tensor([[-1.0], [-torch.inf]])
    found = evaluation._loss(model, torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.bool))
    assert set(found.values()) == {None}


def test_the_standard_error_of_a_loss_is_that_of_repeated_losses():
    torch.manual_seed(0)
    counted = torch.arange(6)[:, None] < torch.randint(1, 7, (2000, 50))[:, None]
    nats = torch.randn(2000, 6, 50).double() + 1.0 * torch.randn(2000, 1, 50).double()
    found = [per_step(x, c) for x, c in zip(nats, counted, strict=True)]
    means, errors = torch.tensor(found).T
    assert errors.mean().item() == pytest.approx(means.std().item(), rel=0.1)


@pytest.mark.parametrize("task", ["copy", "free"])
def test_a_perfect_model_has_no_gap(task):
    """The exact filter beside itself as a world model, on the episodes of `evaluate`."""
    run = toy_run(task=task)
    settings = EvaluationConfig(held_out=5, held_out_agent="random", bound_particles=1)
    episodes = evaluation.played_for_it(run, settings, note)
    yardstick = yardstick_for(run.one)
    run.components.model = perfect_model(4, 3, task)
    found = evaluation.model_figures(run, settings, episodes, yardstick, 0, note)
    for figures in (found, *found["by_key"].values()):
        assert figures["gap_nats_per_step"] == pytest.approx(0, abs=1e-9)
        assert figures["gap_se"] == pytest.approx(0, abs=1e-9)
    run = toy_run(task=task)  # knows nothing
    worse = evaluation.model_figures(run, settings, episodes, yardstick, 0, note)
    assert worse["gap_nats_per_step"] > 0.1
    assert worse["exact_nats_per_step"] == found["exact_nats_per_step"]


@pytest.mark.parametrize("options", [{}, {"task": "equal", "width": 3}])
def test_exact_returns_stand_beside(options):
    game = ToyGame(**options)
    config = game.width, game.classes, game.task
    env = make_environment("worldmodel/ToyGame-v0", options)
    found = evaluation.exact_returns(yardstick_for(env))
    assert found["optimal_return"] == -solve_toy_game(*config).expected_steps
    assert found["random_return"] == -random_policy_steps(*config, game.time_limit)
    assert found["random_return"] < found["optimal_return"] < 0


def test_a_game_without_an_end_has_an_exact_likelihood_and_no_returns():
    yardstick = yardstick_for(make_environment("worldmodel/ToyGame-v0", {"task": "free"}))
    assert evaluation.exact_returns(yardstick) == {}


def test_a_random_agent_is_worth_what_its_yardstick_says():
    """1,000 games: the exact return within four standard errors of their mean."""
    run = toy_run(task="equal")
    environment = run.world.environment(1_000, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        returns = play_episodes(environment, Uniform(run.action_space), 1_000).returns
    exact = evaluation.exact_returns(yardstick_for(run.one))["random_return"]
    assert abs(returns.mean() - exact) < 4 * returns.std(ddof=1) / 1_000**0.5


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("CartPole-v1", {}),
        ("Counting-v0", {}),
        ("worldmodel/ToyGame-v0", {"action_repeat": 2}),
        ("worldmodel/ToyGame-v0", {"time_limit": 3}),
    ],
)
def test_other_worlds_have_no_exact_answers(env, options):
    """Nor has the toy game, once it is another one than is registered."""
    assert yardstick_for(make_environment(env, **options)) is None


def test_seeds_of_an_evaluation_are_its_own():
    """Other episodes than those of the learning curve, and not one run's like another's."""
    seeds = [seed for run in range(5) for seed in evaluation_seeds(run)]
    assert len(set(seeds)) == 20


def test_a_run_is_evaluated_on_the_environment_that_it_learned():
    """With its arguments and its own time limit."""
    run = toy_run()
    environment = replace(run.config.environment, arguments='{"width": 2}', time_limit=3)
    run = untrained(replace(run.config, environment=environment), [-1.0])
    stats = run.world.play(Greedy(run.agent), 30, seed=0)
    assert stats.lengths.max() <= 3
    assert (stats.lengths[~stats.terminated] == 3).all()
    assert run.one.get_wrapper_attr("width") == 2
