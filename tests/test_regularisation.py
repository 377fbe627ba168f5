"""Laws of the choice of a weight decay: rows that were not learned from decide."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import Episodes, Row, Sequences, action_codec, log_prob, model_for
from worldmodel.agents import WorldModelAgent
from worldmodel.agents.regularisation import HELD_OUT, loss_of, split
from worldmodel.noise import OwnNoise

ACTIONS = action_codec(spaces.Discrete(2))


def numbered(*lengths):
    """Episodes that observe the number of their row among all."""
    rows = sum(lengths)
    columns = {
        "observation": np.arange(rows, dtype=np.float32)[:, None],
        "action": np.zeros(rows, np.int64),
        "reward": np.zeros(rows, np.float32),
        "terminated": np.zeros(rows, bool),
    }
    return Episodes(columns, np.array(lengths))


@pytest.mark.parametrize("lengths", [(50,), (7, 3, 30), (5,) * 8, (2, 2, 40, 2, 2), (40, 10)])
@pytest.mark.parametrize("burn_in", [0, 1])
def test_every_row_is_either_learned_from_or_held_out(lengths, burn_in):
    episodes = numbered(*lengths)
    seen, others = split(episodes, ACTIONS, 8, burn_in)
    learned = seen.columns["observation"][:, 0].astype(int).tolist()
    scored = others.rows.observation[..., 0][others.loss_mask].int().tolist()
    assert learned == sorted(learned)
    assert not set(learned) & set(scored)
    assert len(scored) == len(set(scored))
    windows = others.mask.shape[1]
    assert len(learned) + len(scored) >= episodes.rows - burn_in * windows
    assert 0 < len(scored) <= HELD_OUT * episodes.rows + 2
    begins = set(episodes.starts.tolist())
    assert all(learned[start] in begins for start in seen.starts)


class Dice(gymnasium.Env):
    """Shows a die, which nobody foretells, or counts its faces, which anybody does."""

    observation_space, action_space = spaces.Discrete(6), spaces.Discrete(2)

    def __init__(self, is_thrown):
        self.is_thrown = is_thrown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.look(), {}

    def step(self, action):
        self.steps += 1
        return self.look(), 1.0, False, self.steps == 20, {}

    def look(self):
        return int(self.np_random.integers(6)) if self.is_thrown else self.steps % 6


@pytest.mark.parametrize("is_thrown", [True, False])
def test_dice_are_not_learned_by_heart_and_rules_are_learned_exactly(is_thrown):
    agent = WorldModelAgent(
        lambda: Dice(is_thrown), prefill=200, first_updates=300, batch_size=16, window=16
    )
    said = []
    agent.training.say = said.append
    agent.learn(200, callback=lambda progress: progress.stage in ("collect", "choose"))
    (chosen,) = (line for line in said if line.startswith("weight decay"))
    assert chosen.startswith("weight decay 3" if is_thrown else "weight decay 0")
    assert agent.training.values()["weight_decay"] == 3 * is_thrown


def test_a_given_weight_decay_is_no_choice():
    agent = WorldModelAgent("CartPole-v1", weight_decay=0.25)
    agent.training.extend(1_000)
    assert "choose" not in {stage.kind for stage in agent.training.stages}


@pytest.mark.parametrize("space", [spaces.Box(-np.inf, np.inf, (1,)), spaces.Discrete(6)])
def test_a_model_that_is_too_sure_of_numbers_is_not_judged_by_that(space):
    """But one that is too sure of classes is: dreams draw them."""
    numbers = isinstance(space, spaces.Box)
    with OwnNoise(0)():
        model = model_for(space, spaces.Discrete(2), "rnn", 4, reward_support=[0.0]).eval()
        shape = (5, 8, 1) if numbers else (5, 8)
        seen = torch.randn(shape) if numbers else torch.randint(6, shape)
    first = torch.zeros(5, 8, dtype=torch.bool)
    first[0] = True
    row = Row(first, torch.zeros(5, 8, 2), seen, torch.zeros(5, 8), torch.zeros_like(first))
    sequences = Sequences.whole(row)
    plain, judged = nats(model, sequences), loss_of(model, sequences)
    head = model.percepts.decoder.observation
    with torch.no_grad():
        if numbers:
            head.parameters_.bias[1] -= 2.5  # of the scale, before its softplus
        else:
            head.logits.weight *= 50.0
    assert nats(model, sequences) > plain + 1
    if numbers:
        assert loss_of(model, sequences) < judged + 0.2
    else:
        assert loss_of(model, sequences) == pytest.approx(nats(model, sequences))


def nats(model, sequences):
    found = sum(value.sum() for value in log_prob(model, sequences).values())
    return -float(found) / int(sequences.loss_mask.sum())
