"""Laws of what a run says about itself, on cases made on purpose; and of what it does when nothing
that it met tells good from bad."""

import json

import numpy as np
import pytest

from worldmodel import Episodes
from worldmodel.agents import WorldModelAgent
from worldmodel.agents.health import Met
from worldmodel.experiments.rl.diagnosis import diagnosis


def collected(least, greatest, terminations, steps=500):
    return {
        "stage": "collect",
        "steps": steps,
        "real_steps": steps,
        "least_reward": least,
        "greatest_reward": greatest,
        "terminations": terminations,
    }


def learned(nats):
    return [{"stage": "learn", "nats": value} for value in nats]


def improved(entropies):
    return [{"stage": "improve", "entropy": value} for value in entropies]


def evaluated(*returns):
    """Evaluations of pairs of episodes, one either side of a mean."""
    return [
        {
            "stage": "evaluate",
            "real_steps": 250 * (number + 1),
            "real_return_mean": mean,
            "real_returns": [mean - 1.0, mean + 1.0],
        }
        for number, mean in enumerate(returns)
    ]


def final(real=100.0, dreamt=100.0, nats=0.5):
    means = {"real_return_mean": real, "dream_return_mean": dreamt, "nats_per_step": nats}
    near = {
        f"{w}_return_ci95": [means[f"{w}_return_mean"] - 2, means[f"{w}_return_mean"] + 2]
        for w in ("real", "dream")
    }
    return {"stage": "final", **means, **near}


GOOD = [
    collected(0.0, 1.0, 20),
    *learned(np.linspace(3, 0.4, 100)),
    *improved(np.linspace(0.69, 0.3, 100)),
    *evaluated(20.0, 60.0, 100.0),
    final(),
]


def found(*lines, without=()):
    kept = [line for line in GOOD if line["stage"] not in without]
    return [str(finding) for finding in diagnosis([*kept, *lines])]


def test_a_good_run_is_left_in_peace():
    assert found() == []
    assert diagnosis([]) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (collected(-1.0, -1.0, 0), "every reward of all 500 steps was -1, and no episode ended"),
        (collected(0.0, 0.0, 30), "every reward of all 500 steps was 0: nothing told good from"),
    ],
)
def test_nothing_told_good_from_bad(line, said):
    (sentence,) = found(line, without=("collect",))
    assert said in sentence
    assert "--prefill 2500" in sentence


@pytest.mark.parametrize("line", [collected(1.0, 1.0, 9), collected(-1.0, 0.0, 0)])
def test_ends_and_different_rewards_tell_good_from_bad(line):
    assert found(line, without=("collect",)) == []


def test_episodes_learned_by_heart():
    (sentence,) = found(final(nats=2.24), without=("final",))
    assert "learned its episodes by heart" in sentence
    assert "--weight-decay" in sentence


def test_a_density_is_compared_with_its_own_size():
    """Two nats are little where a step has minus forty."""
    lines = [*learned([-40.0] * 60), final(nats=-38.0)]
    assert found(*lines, without=("learn", "final")) == []


def test_a_policy_that_collapsed():
    settled = improved([0.69, *[0.001] * 60])
    (sentence,) = found(*settled, *evaluated(20.0, 20.5), without=("improve", "evaluate"))
    assert "settled on single actions" in sentence
    assert "--entropy" in sentence
    assert found(*settled, without=("improve",)) == []  # it has found something


def test_a_dream_that_promises_too_much():
    (sentence,) = found(final(real=119.0, dreamt=495.0), without=("final",))
    assert "a return of 495 against 119" in sentence
    assert found(final(real=100.0, dreamt=103.0), without=("final",)) == []


def test_a_policy_that_was_better_before():
    (sentence,) = found(*evaluated(20.0, 284.0, 119.0), without=("evaluate",))
    assert "better after 500 steps (284) than at the end (119)" in sentence
    assert "--keep best" in sentence


def episodes(rewards, terminated):
    rows = len(rewards) + 1
    columns = {
        "observation": np.zeros((rows, 1), np.float32),
        "action": np.zeros(rows, np.int64),
        "reward": np.float32([0.0, *rewards]),
        "terminated": np.array([False] * (rows - 1) + [terminated]),
    }
    return Episodes(columns, np.array([rows]))


@pytest.mark.parametrize(
    ("rewards", "terminated", "nothing"),
    [
        ([-1, -1], False, True),
        ([-1, -1], True, False),
        ([-1, 0], False, False),
        ([0, 0], True, True),
        ([0, 1], True, False),
        ([-1, -1, -9], False, True),  # so far there is something to avoid, and nothing to seek
        ([-1, -1, -9], True, False),
        ([-1, -1, -1, 2], False, False),
        ([0.1, 0.3, 0.2], False, False),
    ],
)
def test_what_tells_good_from_bad(rewards, terminated, nothing):
    met = Met().and_those_of(episodes(rewards, terminated))
    assert met.has_no_goal == nothing
    assert Met(*list(met)).and_those_of(episodes([5], False)).has_no_goal is False


def acted(reward, rows=300, terminated=False):
    """An episode of two numbers of actions, and rewards that are a function of them."""
    made = episodes(np.zeros(rows), terminated)
    actions = np.random.default_rng(0).uniform(-2, 2, (rows + 1, 2)).astype(np.float32)
    columns = made.columns | {"action": actions}
    columns["reward"] = np.float32(reward(*actions.T))
    columns["reward"][0] = 0
    return Episodes(columns, made.lengths)


@pytest.mark.parametrize(
    ("reward", "nothing"),
    [
        (lambda a, b: -0.1 * a**2, True),
        (lambda a, b: 3 - abs(a) - 0.5 * b**2, True),
        (lambda a, b: -0.1 * (a - 1) ** 2, False),  # something is better than nothing
        (lambda a, b: a**2, False),
        (lambda a, b: -0.1 * a**2 + 0.01 * np.sin(np.arange(len(a))), False),  # of the world
        (lambda a, b: -0.1 * a**2 + 100 * (np.arange(len(a)) == 200), False),
    ],
)
def test_what_actions_cost_is_nothing_to_seek(reward, nothing):
    met = Met().and_those_of(acted(reward, 150)).and_those_of(acted(reward))
    assert met.only_costs == met.has_no_goal == nothing
    assert ("costs of actions" in str(met)) == nothing
    read = Met(*json.loads(json.dumps(list(met))))
    assert read.has_no_goal == nothing
    assert not read.and_those_of(acted(reward, terminated=True)).has_no_goal
    assert not Met().and_those_of(acted(reward, rows=30)).only_costs  # too few to tell


def test_collecting_goes_on_at_random_until_something_tells_good_from_bad():
    """In the first rounds of Acrobot, which no short random play ends."""
    said = []
    agent = WorldModelAgent(
        "Acrobot-v1",
        prefill=30,
        collect_steps=200,
        first_updates=1,
        update_ratio=0.01,
        first_rollouts=1,
        rollout_ratio=0.01,
        num_imagined=2,
        rollout_length=2,
        hidden_size=4,
        decoder_hidden=4,
        policy_hidden=4,
    )
    agent.training.say = said.append
    agent.learn(630)
    assert any("every reward was -1 and no episode ended by itself" in line for line in said)
    store = agent.training.store
    (actions,) = (part.columns["action"] for part in store.portions())
    repeated = actions[1:] == actions[:-1]
    assert repeated[30:430].mean() < 0.7  # by a policy, in search of what is not known
    assert repeated[432:].mean() > 0.85  # at random: 0.9 and a third of the rest
