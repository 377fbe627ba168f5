"""Laws of the person at the controls."""

import torch

from worldmodel import GenCore
from worldmodel.agents import Uniform
from worldmodel.agents.human import Human
from worldmodel.envs import Action, GymEnvironment, ToyGame, ToyGameVector


def test_the_policy_is_the_key_that_was_pressed():
    human = Human(Uniform(ToyGame().action_space), ToyGame().action_space)
    for action in Action:
        human.press(action)
        code = human.policy(torch.zeros(3, human.thought_size)).sample()
        assert code.tolist() == [[float(other == action) for other in Action]] * 3


def test_a_key_that_is_held_down_goes_on_and_on():
    game = GymEnvironment(ToyGameVector(1), seed=3)
    human = Human(Uniform(game.action_space), game.action_space)
    human.press(Action.RIGHT)
    core = GenCore(game, human)
    sequences, _, _ = core.generate(6, core.initial_state(1))
    ring = game.info["ring"][0].tolist()
    assert sequences.rows.observation[:, 0].tolist() == [*ring, *ring[:2]]
    assert core.actions.decode(sequences.rows.action[1:, 0]).tolist() == [Action.RIGHT] * 5
