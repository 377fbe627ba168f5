"""Laws of first rows: a model's dreams begin as episodes do."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import ELBO, Dream, Episodes, Replay, Trainer, action_codec, model_for
from worldmodel.noise import OwnNoise

NUMBERS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
BUTTONS = spaces.Discrete(2)


def falling(episodes=40, rows=12):
    """Episodes that begin near (9, 5), far from their mean, and fall by one a row."""
    with OwnNoise(0)():
        begin = torch.tensor([9.0, 5.0]) + 0.1 * torch.randn(episodes, 1, 2)
        shown = begin - torch.arange(rows)[None, :, None].float()
        action = torch.randint(2, (episodes, rows))
    number = episodes * rows
    columns = {
        "observation": shown.flatten(0, 1).numpy(),
        "action": action.flatten().numpy(),
        "reward": np.zeros(number, np.float32),
        "terminated": np.zeros(number, bool),
    }
    return Episodes(columns, np.full(episodes, rows))


def learned():
    """A model of those episodes."""
    episodes = falling()
    with OwnNoise(0)():
        model = model_for(NUMBERS, BUTTONS, "rnn", 16, [0.0], recurrence="skip-gru")
        first = np.arange(episodes.rows) % episodes.lengths[0] == 0
        values = {
            "observation": episodes.columns["observation"],
            "first": first,
            "reward": episodes.rewards,
        }
        model.percepts.standardise(values)
        replay = Replay(action_codec(BUTTONS), 0)
        replay.add(episodes)
        trainer = Trainer(ELBO(model), model.parameters(), 0.01, clip_norm=1.0)
        for _ in range(150):
            trainer.update(replay.sample(12, 128, 0.25, 1))
    return model


@torch.no_grad()
def first_rows(model, number=400):
    dream = Dream(model, 50, NUMBERS, BUTTONS)
    with OwnNoise(1)():
        row, _ = dream.step(torch.zeros(number, 2), dream.initial_state(number))
    return row.observation


def test_dreams_begin_as_episodes_do():
    """With zero before first rows, they are still 7 off on average."""
    off = (first_rows(learned()) - torch.tensor([9.0, 5.0])).square().mean().sqrt()
    assert off < 0.5  # standard deviations of 0.1, and of 3.5 over all rows


@pytest.mark.parametrize("feedback", [True, False])
def test_weights_that_knew_nothing_of_it_are_loaded(feedback):
    model = model_for(NUMBERS, BUTTONS, "rssm", 4, [0.0], feedback=feedback)
    assert (model.before is not None) == feedback
    state = {key: value for key, value in model.state_dict().items() if key != "before"}
    if feedback:
        torch.nn.init.ones_(model.before)
    model.load_state_dict(state)
    assert not model.initial_state(3).history.any()
