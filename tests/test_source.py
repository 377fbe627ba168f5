"""Laws of where environments come from: an id, an environment, or a function that makes one."""

import sys

import gymnasium
import numpy as np
import pytest
import torch
from games import Counting
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from worldmodel.agents import Uniform
from worldmodel.envs import EnvironmentSource, GymEnvironment, collect
from worldmodel.envs.checked import BrokenEnvironmentError

COUNTING = Counting((3, 4, 50))


def waves(number=3):
    return TimeLimit(Counting((3, 4, 50)), 5)


SOURCES = {
    "an id": lambda: EnvironmentSource("Limited-v0"),
    "a module": lambda: EnvironmentSource("games:Limited-v0"),
    "an environment": lambda: EnvironmentSource(waves()),
    "a function": lambda: EnvironmentSource(waves),
    "a class": lambda: EnvironmentSource(Counting),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_makes_environments_that_can_be_collected_from(name):
    source = SOURCES[name]()
    one = source.one()
    assert one.observation_space == Counting.observation_space
    one.close()
    for _ in range(2):  # as two rounds do
        environment = GymEnvironment(source.vector(), 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            played = list(collect(environment, Uniform(environment.action_space), 7))
        environment.close()
        assert sum(part.steps for part in played) == 7


@pytest.mark.parametrize(("name", "most"), [("an environment", 1), ("a function", None)])
def test_of_an_environment_there_is_one(name, most):
    source = SOURCES[name]()
    assert source.most_copies == most
    if most is None:
        assert source.vector(3).num_envs == 3
    else:
        with pytest.raises(ValueError, match=r"3 copies of .* there is one; pass its id, or"):
            source.vector(3)


class Noted(Counting):
    """Shows a number, an image with channels first, and what cannot be learned from."""

    observation_space = spaces.Dict(
        count=spaces.Discrete(60),
        image=spaces.Box(0, 1, (3, 20, 20), np.float32),
        told=spaces.Tuple([spaces.Text(9), spaces.Discrete(2), spaces.Dict(why=spaces.Text(9))]),
    )

    def observe(self):
        told = ("counting", self.count % 2, {"why": "singly"})
        return {"count": self.count, "image": np.full((3, 20, 20), 0.2, "f"), "told": told}


READ = spaces.Dict(
    count=spaces.Discrete(60),
    image=spaces.Box(0, 255, (20, 20, 3), np.uint8),
    told=spaces.Dict({"1": spaces.Discrete(2)}),
)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["an id", "an environment", "a function"])
def test_wherever_it_comes_from_what_cannot_be_read_is_left_out_and_said(name, workers):
    if "Noted-v0" not in gymnasium.registry:
        gymnasium.register("Noted-v0", Noted)
    source = EnvironmentSource({"an id": "Noted-v0", "an environment": Noted()}.get(name, Noted))
    left_out, images = source.notes
    assert left_out.startswith("the parts 'told.0', 'told.2.why' are left out: ")
    assert left_out.endswith("values of Text")
    assert images.endswith(": 'image' float32 (3, 20, 20)")
    assert source.one().observation_space == READ
    vector = source.vector(1, workers)
    assert vector.single_observation_space == READ
    vector.reset(seed=0)
    observation = vector.step(np.array([1]))[0]
    vector.close()
    assert (observation["image"] == 51).all()
    assert observation["told"]["1"].tolist() == [1]


@pytest.mark.parametrize("name", ["time_limit", "max_steps", "max_episode_steps"])
def test_an_environment_may_know_its_time_limit_itself(name):
    def made(limit):
        env = Counting()
        setattr(env, name, limit)
        return env

    assert EnvironmentSource(lambda: made(30)).time_limit == 30
    for other in (0, None, "thirty", lambda: 30):
        assert EnvironmentSource(lambda other=other: made(other)).time_limit is None


def test_of_what_can_be_read_nothing_is_changed():
    for name in SOURCES:
        assert SOURCES[name]().notes == []


def test_what_is_shown_wrongly_is_told_as_ever():
    """Although parts of it are left out."""

    class Wrong(Noted):
        def observe(self):
            return {"count": 0}

    vector = EnvironmentSource(Wrong).vector()
    with pytest.raises(BrokenEnvironmentError, match=r"should return values .*gave a dict of 'co"):
        vector.reset()


def test_an_environment_stays_its_owners():
    """It is not closed by who borrows it; copies that a function makes are."""
    closed = []

    class Closing(Counting):
        def close(self):
            closed.append(self)

    mine = Closing((3,))
    source = EnvironmentSource(mine)
    source.vector().close()
    source.one().close()
    assert closed == []
    EnvironmentSource(Closing).vector(2).close()
    assert len(closed) == 2


def test_the_same_seed_plays_the_same_games_whatever_the_door():
    def played(source):
        environment = GymEnvironment(source.vector(), 5)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            parts = list(collect(environment, Uniform(environment.action_space), 30))
        environment.close()
        return np.concatenate([part.columns["observation"] for part in parts])

    sources = EnvironmentSource("Counting-v0"), EnvironmentSource(Counting)
    assert np.array_equal(*map(played, sources))


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        (lambda: EnvironmentSource("Limited-v0"), 5),
        (lambda: EnvironmentSource("Limited-v0", action_repeat=2), 3),
        (lambda: EnvironmentSource("CartPole-v1"), 500),
        (lambda: EnvironmentSource("CartPole-v1", time_limit=7), 7),
        (lambda: EnvironmentSource("worldmodel/ToyGame-v0"), 100),
        (lambda: EnvironmentSource(gymnasium.make("CartPole-v1")), 500),
        (lambda: EnvironmentSource(lambda: gymnasium.make("CartPole-v1")), 500),
        (lambda: EnvironmentSource(Counting), None),
        (lambda: EnvironmentSource("Counting-v0"), None),
    ],
)
def test_a_time_limit_is_known_where_somebody_says_it(source, limit):
    assert source().time_limit == limit


def test_workers_share_copies_that_a_function_makes():
    vector = EnvironmentSource(Counting).vector(3, workers=2)
    try:
        observation, _ = vector.reset(seed=0)
        assert observation.shape == (3, 3)
    finally:
        vector.close()


def test_what_can_be_shown_is_shown():
    assert EnvironmentSource("Counting-v0").shown().render_mode == "rgb_array"
    assert EnvironmentSource(Counting).shown().render_mode is None
    assert EnvironmentSource("Blackjack-v1", {"sab": True}).one().unwrapped.sab


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: EnvironmentSource(SyncVectorEnv([Counting] * 2)),
            "expected one environment.*fun",
        ),
        (lambda: EnvironmentSource(3), "expected a Gymnasium id, .* got 3"),
        (lambda: EnvironmentSource(COUNTING, {"lengths": (3,)}), "lengths are for environments"),
        (lambda: EnvironmentSource(Counting, pixels=16), "pixels are for environments that"),
    ],
)
def test_what_is_no_source_is_said(make, said):
    with pytest.raises(TypeError, match=said):
        make()


def test_modules_of_ids_are_imported_where_they_lie(tmp_path, monkeypatch):
    (tmp_path / "pond.py").write_text(
        "import gymnasium\nfrom games import Counting\ngymnasium.register('Pond-v0', Counting)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(gymnasium.registry, "Pond-v0", raising=False)
    monkeypatch.delitem(sys.modules, "pond", raising=False)
    assert isinstance(EnvironmentSource("pond:Pond-v0").one().unwrapped, Counting)
