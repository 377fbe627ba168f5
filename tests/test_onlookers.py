"""Agents of worlds that nobody steers: the onlooker, and the metronome."""

import pytest
import torch
from cores import SYMBOLS, make_model
from gymnasium import spaces

from worldmodel import Dream, GenCore, Metronome, NullAgent, Row, action_codec


def test_an_onlooker_does_nothing():
    dream = Dream(make_model("vrnn", silent=True, actions=0), 3, SYMBOLS, spaces.Box(-1, 1, (0,)))
    core = GenCore(dream, NullAgent())
    with torch.no_grad():
        sequences, thoughts, _ = core.generate(9, core.initial_state(2))
    assert sequences.rows.action.shape == (9, 2, 0)
    assert thoughts.shape == (9, 2, 0)
    assert sequences.rows.first[:, 0].nonzero().flatten().tolist() == [0, 4, 8]


@pytest.mark.parametrize(("steps", "beats"), [(4, 3), (1, 4), (2, 1)])
def test_a_metronome_says_where_in_its_bar_the_next_row_lies(steps, beats):
    agent = Metronome(steps, beats)
    model = make_model("rnn", silent=True, actions=agent.actions.size)
    core = GenCore(Dream(model, 9, SYMBOLS, agent.action_space), agent)
    with torch.no_grad():
        rows = core.generate(25, core.initial_state(3))[0].rows
    played = agent.actions.decode(rows.action)
    for t in range(25):
        row = t % 10  # of its piece
        if row:
            assert (played[t] == torch.tensor([row // steps % beats, row % steps])).all()
        else:
            assert rows.first[t].all()
            assert (rows.action[t] == 0).all()


def test_a_metronome_counts_what_it_observes():
    agent = Metronome(2, 2)
    first = torch.tensor([[True, True], [False, True], [False, False]])
    state = agent.initial_state(2)
    for here in first:
        nothing = torch.zeros(2)
        row = Row(here, torch.zeros(2, 4), nothing, nothing, nothing.bool())
        thought, state = agent.step(row, state)
    config = action_codec(agent.action_space).decode(thought)
    assert config.tolist() == [[1, 1], [1, 0]]  # of rows 3 and 2
    assert torch.equal(agent.policy(thought).sample(), thought)
    assert torch.equal(agent.at(torch.tensor([3, 2])), config)
