"""What others add from one file of their own, which `worldmodel --plugin` names: a core, a head,
an objective, a view, a way to train policies, an encoder, a recurrence."""

import json
import re
import sys
import textwrap
from pathlib import Path

import pytest
from kinds import VERSE
from mutants import put

from worldmodel import BOUNDS, CORES, ENCODERS, HEADS, OBJECTIVES
from worldmodel.agents import METHODS
from worldmodel.envs.views import VIEWS
from worldmodel.experiments.cli.main import main
from worldmodel.recurrences import RECURRENCES

REGISTRIES = [CORES, HEADS, ENCODERS, OBJECTIVES, BOUNDS, METHODS, RECURRENCES, VIEWS]
PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-core.md").read_text()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of somebody else's; what is registered meanwhile is forgotten."""
    before = [dict(registry) for registry in REGISTRIES]
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLDMODEL_PLUGINS", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    for registry, things in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(things)
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[name]


def module(name, source):
    Path(f"{name}.py").write_text(textwrap.dedent(source))


def worldmodel(words):
    """What was typed, in the current directory."""
    main(words.split())


def configuration(run):
    return json.loads(Path(run, "config.json").read_text())["config"]


def test_a_core(capsys):
    module("linear", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0])
    worldmodel(
        "--plugin linear train control --env CartPole-v1 --core linear --quick --out control"
    )
    assert configuration("control")["agent"]["model"]["core"] == "linear"
    worldmodel("--plugin linear evaluate control --episodes 2 --held-out 2 --json")
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("{") :])
    put(Path("verse.txt"), VERSE.encode() * 20)
    worldmodel("--plugin linear train text --corpus verse.txt --core linear --quick --out text")
    assert configuration("text")["model"]["core"] == "linear"


def test_a_head():
    module(
        "sharp",
        '''
        """A categorical whose logits are doubled."""

        from gymnasium import spaces

        from worldmodel import register_head
        from worldmodel.codecs import CategoricalHead


        class Sharp(CategoricalHead):
            def forward(self, features):
                return super().forward(2 * features)


        def make(space, input_size):
            return Sharp(input_size, space.n, space.start)


        def is_discrete(space):
            return isinstance(space, spaces.Discrete)


        register_head("sharp", make, is_discrete, "Discrete spaces")
        ''',
    )
    put(Path("verse.txt"), VERSE.encode() * 20)
    worldmodel("--plugin sharp train text --corpus verse.txt --head sharp --quick --out run")
    assert configuration("run")["model"]["head"] == "sharp"


def test_an_objective(capsys):
    module(
        "halves",
        '''
        """Half the evidence lower bound."""

        from worldmodel import ELBO, register_bound, register_objective
        from worldmodel.likelihoods import lower_bound


        class Half(ELBO):
            def __call__(self, batch, state, step):
                loss, metrics, state = super().__call__(batch, state, step)
                return 0.5 * loss, metrics, state


        def half(model, sequences, particles):
            return {key: value / 2 for key, value in lower_bound(model, sequences).items()}


        register_objective("half", Half)
        register_bound("half", half)
        ''',
    )
    put(Path("verse.txt"), VERSE.encode() * 20)
    worldmodel("--plugin halves train text --corpus verse.txt --objective half --quick --out text")
    assert configuration("text")["learning"]["objective"] == "half"
    worldmodel("--plugin halves evaluate text --bound half --json")
    worldmodel("--plugin halves train toy-game --objective half --quick --out game")
    assert configuration("game")["agent"]["learning"]["objective"] == "half"


def test_a_way_to_train_policies():
    module(
        "greedily",
        '''
        """The actor-critic, whose gains are signs."""

        from worldmodel.agents import ActorCritic, register_method


        class Signs(ActorCritic):
            def gain(self, rollout, policy, value):
                return policy.log_prob(rollout.action) * (rollout.returns - value).sign()


        register_method("signs", Signs)
        ''',
    )
    worldmodel(
        "--plugin greedily train control --env CartPole-v1 --method signs --quick --out control"
    )
    assert configuration("control")["agent"]["policy"]["method"] == "signs"
    worldmodel("--plugin greedily train toy-game --method signs --quick --threads 1 --out game")
    assert configuration("game")["agent"]["policy"]["method"] == "signs"


def test_a_recurrence():
    module(
        "fading",
        '''
        """A recurrence that forgets half of itself at each step."""

        import torch
        from torch import nn

        from worldmodel import register_recurrence
        from worldmodel.recurrences import Recurrence


        class Fading(Recurrence):
            def __init__(self, input_size, hidden):
                super().__init__()
                self.state_size = self.output_size = self.projected_size = hidden
                self.heard = nn.Linear(input_size, hidden)

            def projected(self, inputs):
                return self.heard(inputs)

            def cell(self, projected, state):
                return torch.tanh(projected) + 0.5 * state


        register_recurrence("fading", Fading)
        ''',
    )
    put(Path("verse.txt"), VERSE.encode() * 20)
    worldmodel(
        "--plugin fading train text --corpus verse.txt --recurrence fading --quick --out run"
    )
    assert configuration("run")["model"]["recurrence"] == "fading"


def test_a_view():
    module(
        "stripes",
        '''
        """Shows the place of the cart as a stripe."""

        import numpy as np

        from worldmodel.envs.views import register_view


        class Stripe:
            modes = ("rgb_array",)
            drawn = 0

            def __init__(self, model, space, env):
                self.model = model

            def initial_state(self, batch_size):
                return None

            def step(self, row, state):
                return row.observation

            def draw(self, state, mode):
                Stripe.drawn += 1
                pictures = np.zeros((len(state), 40, 60, 3), np.uint8)
                for picture, place in zip(pictures, state[:, 0].tolist()):
                    picture[:, int(30 + 10 * np.clip(place, -2, 2))] = 255
                return list(pictures)


        register_view("stripe", Stripe)
        ''',
    )
    worldmodel("train control --env CartPole-v1 --quick --out run")
    words = "video run --kind dream --steps 4 --out dream.gif --picture"
    worldmodel(f"--plugin stripes {words} stripe")
    assert sys.modules["stripes"].Stripe.drawn > 0
    assert Path("dream.gif").stat().st_size > 0
    with pytest.raises(SystemExit, match="2"):
        worldmodel(f"--plugin stripes {words} stripes")


def test_an_encoder():
    """Of a model that is built in a program: no option names encoders yet."""
    from gymnasium import spaces

    from worldmodel import model_for, register_encoder
    from worldmodel.codecs import FlatEncoder

    register_encoder("doubled", lambda space: FlatEncoder(space.shape, scale=0.5))
    space = spaces.Box(-1, 1, (2,))
    model = model_for(space, spaces.Discrete(2), "rnn", hidden=4, encoder="doubled")
    assert type(model.percepts.encoder.observation) is FlatEncoder
