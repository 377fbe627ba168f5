"""The dream is what teaches: the same lesson in a corrupted dream teaches nothing."""

from copy import deepcopy

import gymnasium
import pytest
import torch

from worldmodel import (
    ELBO,
    BeliefAgent,
    Dream,
    Episodes,
    GenCore,
    Greedy,
    Replay,
    Trainer,
    action_codec,
    cosine,
    linear,
    model_for,
    play_episodes,
)
from worldmodel.agents import AllActions, Critic, Policy, Uniform
from worldmodel.envs import GymEnvironment, ToyGame, random_policy_steps, solve_toy_game

GAME = {"width": 2, "classes": 3, "task": "copy"}  # look at home, step aside, turn the right way
LIMIT = 100
HIDDEN = 48
UPDATES = 150
ROLLOUTS, EPOCHS = 30, 4

game = ToyGame(**GAME)
actions = action_codec(game.action_space)


def reality(copies, seed):
    return GymEnvironment(gymnasium.make_vec("worldmodel/ToyGame-v0", copies, **GAME), seed)


def learned_model():
    """A world model of what a uniform agent lived through in 6,000 steps."""
    torch.manual_seed(0)
    core = GenCore(reality(32, seed=0), Uniform(game.action_space))
    with torch.no_grad():
        sequences, _, _ = core.generate(6_000 // 32, core.initial_state(32))
    replay = Replay(actions, seed=0)
    replay.add(Episodes.cut(sequences, actions))
    model = model_for(game.observation_space, game.action_space, "rnn", HIDDEN, [-1.0])
    rate = cosine(2e-2, 4e-4, UPDATES)
    trainer = Trainer(ELBO(model), model.parameters(), rate, weight_decay=0.2, clip_norm=0.3)
    for _ in range(UPDATES):
        trainer.update(replay.sample(length=32, rows=512, from_start=0.5))
    return model.requires_grad_(False)


def real_steps_after_dreaming(dreamer, mind):
    """The mean steps in 500 real games of a policy that saw nothing but dreams of `dreamer`.

    It thinks with `mind`, asleep and awake.
    """
    torch.manual_seed(1)
    policy, critic = Policy(mind.belief_size, actions, 64), Critic(mind.belief_size, 64, 10.0)
    agent = BeliefAgent(mind, policy)
    dream = Dream(dreamer, 30, game.observation_space, game.action_space)
    updates = ROLLOUTS * EPOCHS
    objective = AllActions(
        GenCore(dream, agent), 128, 12, critic, discount=0.98, entropy=linear(0.6, 0.02, updates)
    )
    parameters = [*policy.parameters(), *critic.parameters()]
    trainer = Trainer(objective, parameters, cosine(5e-3, 2.5e-4, updates), clip_norm=1.0)
    state = objective.start()
    for _ in range(ROLLOUTS):
        rollout, state = objective.roll(state)
        for _ in range(EPOCHS):
            trainer.update(rollout)
    played = play_episodes(reality(500, seed=2), Greedy(agent), 500, limit=LIMIT)
    return float(played.lengths.mean())


@pytest.fixture(scope="module")
def model():
    return learned_model()


def test_a_dream_teaches_reality(model):
    optimal = solve_toy_game(**GAME).expected_steps
    assert optimal <= real_steps_after_dreaming(model, mind=model) < 1.5 * optimal


def test_a_corrupted_dream_teaches_nothing(model):
    """The transition's weights with the wrong sign; everything else, the mind too, as it was."""
    corrupted = deepcopy(model)
    with torch.no_grad():
        corrupted.core.recurrence.from_hidden.neg_()
    steps = real_steps_after_dreaming(corrupted, mind=model)
    assert steps >= random_policy_steps(**GAME)
