"""Laws of options: one changes a whole configuration, and errors are in the words of who erred."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import inf, nan

import pytest

from worldmodel.agents import AgentConfig
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.options import (
    below_one,
    check_threads,
    not_negative,
    positive,
    shares,
    with_options,
)


@dataclass(frozen=True)
class Wheels:
    number: int = 4
    air_pressure: float = 2.0

    def __post_init__(self):
        positive(self, "number", "air_pressure")


@dataclass(frozen=True)
class Car:
    wheels: Wheels = field(default_factory=Wheels)
    colour: str = "red"


@pytest.mark.parametrize(
    ("said", "threads"), [(None, 1), ("3", 3), ("2,1", 2), ("0", 1), ("many", 1), ("9999", 1)]
)
def test_threads_are_what_the_environment_wishes(monkeypatch, said, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert RLConfig().threads == threads


def test_options_go_to_their_groups_and_leave_the_others_alone():
    car = Car(Wheels(3))
    changed = with_options(car, {"air_pressure": 1.5, "colour": "blue"})
    assert changed == Car(Wheels(3, 1.5), "blue")
    assert car == Car(Wheels(3))
    assert with_options(car, {}) == car


def test_options_that_only_fit_together_are_changed_together():
    config = with_options(AgentConfig(), {"kl_cycle": 10, "kl_delay": 5})
    assert (config.learning.kl_cycle, config.learning.kl_delay) == (10, 5)
    with pytest.raises(ValueError, match="kl_delay comes before the first cycle"):
        with_options(AgentConfig(), {"kl_delay": 5})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hiden_size", "there is no option 'hiden_size'; did you mean hidden_size?"),
        ("gae_lamda", "did you mean gae_lambda"),
        ("xyzzy", "there are core, hidden_size, decoder_hidden"),
        ("model", "there is no option 'model'"),
    ],
)
def test_an_unknown_option_is_answered_by_a_guess(name, said):
    with pytest.raises(TypeError, match=said.replace("?", r"\?")):
        with_options(AgentConfig(), {name: 1})


def test_errors_are_in_a_programs_words():
    """The command line's own are those of the command line."""
    with pytest.raises(ValueError, match=r"^hidden_size must be positive, got -1$"):
        with_options(AgentConfig(), {"hidden_size": -1})
    with pytest.raises(ValueError, match=r"^air_pressure must be positive, got 0$"):
        with_options(Car(), {"air_pressure": 0})
    with pytest.raises(ValueError, match=r"^--air-pressure must be positive, got 0$"):
        Wheels(air_pressure=0)


def _names(settings):
    for place in fields(settings):
        value = getattr(settings, place.name)
        yield from _names(value) if is_dataclass(value) else [place.name]


def test_a_name_means_one_thing():
    """So that one may be given without its group: to the agent, and at the command line."""
    for config in (AgentConfig(), RLConfig()):
        names = list(_names(config))
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (positive, (1, 0.1, 2**63 - 1), (0, -1, nan, inf, 2**63)),
        (not_negative, (0, 1.5), (-0.1, nan, inf, 10**30)),
        (shares, (0, 0.5, 1, None), (-0.1, 1.1, nan)),
        (below_one, (0, 0.99), (1, -0.1, nan, inf)),
        (check_threads, (1, 1_024), (0, -1, 1_025, 2**63)),
    ],
)
def test_ranges(check, good, bad):
    for value in good:
        check(type("Some", (), {"a_b": value})(), "a_b")
    for value in bad:
        with pytest.raises(ValueError, match=f"--a-b .*got {value}"):
            check(type("Some", (), {"a_b": value})(), "a_b")


def test_options_of_groups_within_groups_are_changed():
    changed = with_options(RLConfig(), {"engine": "onnxruntime", "stop_at": 3.0})
    assert changed.agent.policy.engine == "onnxruntime"
    assert changed == replace(RLConfig(), agent=changed.agent, stop_at=3.0)
    with pytest.raises(TypeError, match="no option 'engin'; did you mean engine"):
        with_options(RLConfig(), {"engin": "torch"})
