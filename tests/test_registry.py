"""Registries: a stranger's names beside ours, and errors that help."""

import json
from functools import partial

import pytest
import torch
from gymnasium import spaces

import worldmodel
from worldmodel import (
    CORES,
    OBJECTIVES,
    RNN,
    Registry,
    UnknownNameError,
    check_options,
    core_options,
    encoder_for,
    make_core,
    make_objective,
    model_for,
    options_taken,
    register_core,
)
from worldmodel.agents import METHODS, AgentConfig
from worldmodel.agents.policy_gradient import make_method
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.names import check_names
from worldmodel.options import with_options
from worldmodel.recurrences import RECURRENCES

REGISTRIES = [
    *(getattr(worldmodel, name) for name in ("CORES", "HEADS", "ENCODERS", "BOUNDS")),
    *(OBJECTIVES, METHODS, RECURRENCES),
]


def shapes():
    return Registry("shape", {"circle": 0, "square": 4})


def test_a_registry_is_a_mapping_to_which_names_are_added():
    registry = shapes()
    registry.register("triangle", 3)
    assert list(registry) == ["circle", "square", "triangle"]
    assert registry["triangle"] == 3
    assert registry.get("pentagon") is None
    assert "pentagon" not in registry


def test_a_name_is_given_once():
    registry = shapes()
    registry.register("square", registry["square"])  # the same thing again, as when reloaded
    with pytest.raises(ValueError, match="there is a shape 'square' already, 4; register 5 by"):
        registry.register("square", 5)
    assert registry["square"] == 4
    for name in ("", None, 3):
        with pytest.raises(ValueError, match="the name of a shape is a word, got"):
            registry.register(name, 5)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_an_unknown_name_is_answered_by_those_that_are_known(registry):
    nearly = next(iter(registry)) + "x"
    with pytest.raises(UnknownNameError) as raised:
        registry[nearly]
    said = str(raised.value)
    assert said.startswith(f"there is no {registry.kind} {nearly!r}; there are ")
    assert all(name in said for name in registry)
    assert said.endswith(f"did you mean {next(iter(registry))!r}?")
    assert isinstance(raised.value, KeyError | ValueError)
    with pytest.raises(ValueError, match="there is no"):
        registry["0"]


def test_options_are_those_that_a_function_names():
    def known(a, *, b=1): ...

    def any_at_all(a, **others): ...

    given = {"b": 2, "c": 3}
    assert options_taken(known, given) == {"b": 2}
    assert options_taken(any_at_all, given) == given
    assert options_taken(partial(known, b=1), given) == {"b": 2}
    check_options("it", any_at_all, given)
    with pytest.raises(ValueError, match="it does not take c; it takes a, b"):
        check_options("it", known, given)
    with pytest.raises(ValueError, match=r"it takes b$"):
        check_options("it", known, given, ["a"])


def test_a_core_gets_the_options_that_it_takes():
    sizes = {"hidden": 3, "latent": 2, "latent_hidden": 5, "smoothing": False, "core": "rnn"}
    assert core_options("rnn", sizes) == {}
    assert core_options("srnn", sizes) == {"latent": 2, "latent_hidden": 5, "smoothing": False}
    assert core_options("srnn", {"recurrence": "default", "layers": 2}) == {"layers": 2}
    core = make_core("srnn", 3, 2, hidden=3, **core_options("srnn", sizes))
    assert core.filtering
    with pytest.raises(ValueError, match="'rnn' does not take latent; it takes hidden, recurr"):
        make_core("rnn", 3, 2, latent=2)


def test_an_objective_refuses_what_it_does_not_take():
    model = model_for(spaces.Discrete(2), spaces.Discrete(2), "vrnn", hidden=3)
    assert make_objective("iwae", model, 3, carries=True).particles == 3
    with pytest.raises(ValueError, match="'fivo' does not take carries; it takes threshold"):
        make_objective("fivo", model, 3, carries=True)


def test_a_method_takes_what_it_wants_of_what_is_offered():
    from worldmodel import BeliefAgent, Dream, GenCore, action_codec
    from worldmodel.agents import Critic, Policy

    space = spaces.Discrete(2)
    model = model_for(space, space, "rnn", hidden=3)
    agent = BeliefAgent(model, Policy(model.belief_size, action_codec(space)))
    core = GenCore(Dream(model, 5, space, space), agent)
    offered = {"critic": Critic(model.belief_size), "lambda_": 0.5, "unit": 2.0, "novelty": 1}
    found = {name: make_method(name, core, 4, 3, **offered) for name in METHODS}
    assert {method.unit for method in found.values()} == {2.0}
    assert found["reinforce"].critic is None
    assert found["reinforce"].lambda_ == 1.0
    assert found["actor-critic"].lambda_ == 0.5


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (8, 8, 3)), spaces.Discrete(3)])
def test_an_encoder_by_name_fits_its_spaces_and_refuses_others(space):
    if isinstance(space, spaces.Discrete):
        assert encoder_for(space, "one-hot").size == 3
        with pytest.raises(ValueError, match=r"expects Box spaces.* fit it: one-hot$"):
            encoder_for(space, "flat")
        return
    assert encoder_for(space, "flat").size == 192
    image = spaces.Box(0, 255, (8, 8, 3), "uint8")
    nested = spaces.Dict(eye=image, arm=space)
    made = encoder_for(nested, {"eye": ("image", {"size": 5, "width": 2}), "arm": "flat"})
    assert made.size == 197
    with pytest.raises(ValueError, match="observation key 'arm': there is no encoder 'flt'"):
        encoder_for(nested, {"arm": "flt"})


# The command line.


NAMES = [
    (["toy-game", "--core", "rnnn"], "--core rnnn: there is no core", "'rnn'"),
    (["toy-game", "--objective", "elba"], "there is no objective 'elba'", "'elbo'"),
    (["toy-game", "--bound", "iwea"], "--bound iwea: there is no bound", "'iwae'"),
    (["toy-game", "--recurrence", "lstn"], "there is no recurrence 'lstn'", "'lstm'"),
    (["toy-game", "--method", "reinforced"], "there is no method", "'reinforce'"),
    (["control", "--env", "CartPole-v1", "--core", "rsm"], "there is no core", "'rssm'"),
    (["control", "--env", "CartPole-v1", "--method", "pathwize"], "no method", "'pathwise'"),
    (["control", "--env", "CartPole-v1", "--agent", "sb3:PP0"], "there are own,", "'sb3:PPO'"),
    (["text", "--corpus", "none.txt", "--head", "categoricals"], "no head", "'categorical'"),
    (["vae", "--images", "none", "--objective", "ivae"], "there is no objective", "'iwae'"),
]


@pytest.mark.parametrize(("words", "said", "meant"), NAMES, ids=lambda x: str(x)[:24])
def test_an_unknown_name_ends_a_command_before_anything_is_made(
    words, said, meant, tmp_path, capsys
):
    with pytest.raises(SystemExit) as end:
        main(["train", *words, "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("worldmodel: --")
    assert said in line
    assert line.endswith(f"did you mean {meant}?")
    assert not (tmp_path / "run").exists()


def test_words_that_are_no_names_are_allowed_where_they_mean_something():
    check_names(RLConfig(EnvironmentConfig("CartPole-v1")))  # auto, default, own
    check_names(with_options(AgentConfig(), {"agent": "sb3:DQN"}))
    with pytest.raises(UnknownNameError, match="--agent PPO: "):
        check_names(with_options(AgentConfig(), {"agent": "PPO"}))


def test_a_run_whose_core_is_not_registered_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(CORES, "mine", RNN)
    register_core("mine", RNN)
    run = tmp_path / "run"
    quick = ["--quick", "--no-film", "--recurrence", "gru"]
    main(["train", "toy-game", "--core", "mine", *quick, "--out", str(run)])
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["agent"]["model"]["core"] == "mine"
    monkeypatch.undo()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(run)])
    assert "there is no core 'mine'; there are rnn" in capsys.readouterr().err
    assert torch.is_grad_enabled()
