"""Laws of exported models: graphs draw the rows of torch, in onnxruntime and on a page."""

import inspect
import json
import re
import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from browsers import chromium, driver_path
from campaigns.processes import Process, ended
from gymnasium import spaces
from runs import TINY

from worldmodel import (
    CORES,
    BeliefAgent,
    Dream,
    Row,
    action_codec,
    autoencoder_for,
    model_for,
    nested,
)
from worldmodel.agents import WorldModelAgent
from worldmodel.agents.policy_gradient import Policy
from worldmodel.autoencoder import decode_images, encode_images
from worldmodel.codecs import decoder_for
from worldmodel.codecs.registry import HEADS
from worldmodel.distributions import tempered
from worldmodel.experiments.cli import settings, verbs
from worldmodel.noise import Noise, NoiseStream
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

pytest.importorskip("onnx", reason="needs worldmodel-gym[onnx]")
pytest.importorskip("onnxruntime", reason="needs worldmodel-gym[onnx]")
from worldmodel.experiments.export.graphs import (
    dream_graph,
    flat,
    image_graphs,
    next_of,
    policy_graph,
    session_of,
)
from worldmodel.experiments.runs.labels import COMMANDS
from worldmodel.graphs import operators
from worldmodel.graphs.tape import ExportError

ROOT = Path(__file__).parents[1]
POINT, CHOICE = spaces.Box(-1, 1, (3,)), spaces.Discrete(3, start=1)
ATOMS = ("mixed", {"atoms": [[], [1.0], [0.5, 0.2]]})
CASES = {
    "rnn": {"core": "rnn"},
    "rnn lstm, two layers": {"core": "rnn", "recurrence": "lstm", "layers": 2},
    "rnn normalised-gru": {"core": "rnn", "recurrence": "normalised-gru"},
    "rnn skip-gru, history": {"core": "rnn", "recurrence": "skip-gru", "history": 2},
    "rnn gated-linear": {"core": "rnn", "recurrence": "gated-linear", "layers": 2},
    "independent": {"core": "independent"},
    "independent filter": {"core": "independent", "smoothing": False},
    "vrnn": {"core": "vrnn", "recurrence": "lstm"},
    "srnn": {"core": "srnn"},
    "srnn filter": {"core": "srnn", "smoothing": False},
    "rssm": {"core": "rssm"},
    "rssm classes": {"core": "rssm", "latent": 4, "latent_classes": 3, "separate": True},
}


def made(observation=POINT, action=CHOICE, spread=0.2, **options):
    """A dream, and an agent, of random weights large enough to matter."""
    torch.manual_seed(0)
    options = {"head": ATOMS, "hidden": 8, "open_rewards": True} | options
    model = model_for(observation, action, reward_support=[0.0, 1.0], **options)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(spread * torch.randn_like(parameter))
    agent = BeliefAgent(model, Policy(model.belief_size, action_codec(action), 8))
    return Dream(model, 12, observation, action), agent


def example(space):
    """A member of a space, as rows hold it."""
    if isinstance(space, spaces.Dict):
        return {key: example(part) for key, part in space.items()}
    space.seed(0)
    value = torch.as_tensor(np.asarray(space.sample()))[None]
    return value.float() if value.is_floating_point() else value


def noise_for(graph, random):
    draws = {"normal": random.standard_normal, "uniform": random.random}
    return {name: draws[name](len(graph.inputs[name]), np.float32) for name in graph.noise}


def as_noise(given):
    return Noise(*(torch.as_tensor(given.get(name, np.zeros(0))) for name in Noise._fields))


def assert_close(found, expected, what):
    for name, tensor in expected.items():
        np.testing.assert_allclose(
            found[name].astype(float), tensor.double(), 1e-5, 1e-5, err_msg=f"{what} {name}"
        )


@torch.no_grad()
def assert_played_alike(dream, agent, rows=40, temperature=1.0):
    """Graphs and torch play the same games under the same noise, row by row."""
    observation, action = (example(s) for s in (dream.observation_space, dream.action_space))
    actions, random = action_codec(dream.action_space), np.random.default_rng(1)
    world = dream_graph(dream, observation, action)
    mind = policy_graph(agent, observation, action, dream.action_space)
    sessions = [session_of(graph.model) for graph in (world, mind)]
    states = [{name: g.inputs[name].numpy() for name in g.state} for g in (world, mind)]

    def run(place, graph, given):
        found = sessions[place].run(None, given | states[place])
        found = dict(zip(graph.outputs, found, strict=True))
        states[place] = {name: found[next_of(name)] for name in graph.state}
        return found

    state, thinking, done, ends = dream.initial_state(1), agent.initial_state(1), action, 0
    warm = np.array(temperature, np.float32) if "temperature" in world.inputs else None
    dream.temperature = temperature
    for step in range(rows):
        noise = noise_for(world, random)
        given = {"action": done.numpy(), "reset": np.zeros(1, bool)} | noise
        row_found = run(0, world, given | ({} if warm is None else {"temperature": warm}))
        with NoiseStream(as_noise(noise)):
            row, state = dream.step(actions.encode(done), state)
        expected = flat(row.observation, "observation") | flat(state, "next")
        expected |= {"first": row.first, "reward": row.reward, "terminated": row.terminated}
        assert_close(row_found, expected, f"row {step}:")
        noise, greedy = noise_for(mind, random), step % 2 == 0
        given = {k: v for k, v in row_found.items() if k in mind.inputs}
        given |= {"last_action": done.numpy(), "greedy": np.array([greedy])}
        found = run(1, mind, given | noise)
        with NoiseStream(as_noise(noise)):
            row = row._replace(action=row.action, terminated=torch.zeros_like(row.first))
            thought, thinking = agent.step(row, thinking)
            policy = agent.policy(thought)
            drawn = policy.sample()
        code = policy.mode if greedy else drawn
        done = actions.decode(code)
        assert_close(found, {"action": done} | flat(thinking, "next"), f"action {step}:")
        ends += int(state.ended)
    assert ends >= 2


@pytest.mark.parametrize("name", CASES)
def test_graphs_play_the_games_of_torch(name):
    assert_played_alike(*made(**CASES[name]))


def test_every_core_is_exported():
    """An autoencoder is no world."""
    assert {case["core"] for case in CASES.values()} == set(CORES) - {"vae"}


MANY = spaces.Dict(
    kind=spaces.MultiDiscrete([2, 3]),
    bits=spaces.MultiBinary(3),
    bytes=spaces.Box(0, 9, (2, 2), np.uint8),
    camera=spaces.Box(0, 255, (8, 9, 1), np.uint8),
    place=spaces.Box(-1, 1, (2,), np.float64),
)
MANY_HEADS = {"bits": "nade", "place": "mixture"}


def test_graphs_hold_any_space_and_temperature():
    for action in (spaces.Box(-2, 3, (2,)), spaces.MultiDiscrete([2, 3])):
        dream, agent = made(MANY, action, 0.05, core="rssm", head=MANY_HEADS)
        assert_played_alike(dream, agent, 26, temperature=0.7)


@torch.no_grad()
def test_codes_of_images_are_those_of_torch():
    torch.manual_seed(0)
    model = autoencoder_for((12, 16, 3), latent=4, hidden=8, width=4).requires_grad_(False)
    images = torch.randint(0, 256, (1, 12, 16, 3), dtype=torch.uint8)
    graphs = image_graphs(model, images)
    encoder, decoder = (session_of(graphs[name].model) for name in ("encoder", "decoder"))
    (code,) = encoder.run(None, {"image": images.numpy()})
    np.testing.assert_allclose(code, encode_images(model, images), 1e-5, 1e-5)
    for scale in (0.3, 3.0):
        codes = (scale * torch.randn(1, 4)).float()
        (decoded,) = decoder.run(None, {"observation": codes.numpy()})
        distance = decoded.astype(int) - decode_images(model, codes).numpy().astype(int)
        assert abs(distance).max() <= 1


@pytest.mark.parametrize("name", HEADS)
def test_draws_are_functions_of_the_noise_or_refused(name):
    """Torch's own generator is left alone, and noise that was taken gives the same again."""
    space = next((s for s in SPACES if HEADS[name].fit.holds(s)), None)
    assert space is not None, f"a space that {name} describes is missing"
    torch.manual_seed(0)
    head = decoder_for(space, 6, name)
    with torch.no_grad():
        distribution = head(torch.randn(3, 6))
        before = torch.get_rng_state()
        try:
            with NoiseStream() as stream:
                drawn = distribution.sample()
        except ValueError as error:
            refused = str(error)
            assert "draws at random" in refused
            return
        after = torch.get_rng_state()
        with NoiseStream(stream.taken):
            again = distribution.sample()
        assert torch.equal(torch.get_rng_state(), after)
    assert all(map(torch.equal, nested.leaves(drawn), nested.leaves(again)))
    assert not torch.equal(before, after)


SPACES = (
    spaces.Box(0, 9, (2,), np.uint8),
    spaces.Discrete(4),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,)),
    spaces.Box(0, 255, (8, 8, 1), np.uint8),
    spaces.MultiBinary((8, 8, 1)),
    spaces.Dict(offset=spaces.Box(-1, 1, (2,)), pen=spaces.Discrete(3)),
)


def test_draws_from_noise_have_their_distribution():
    """Means over 20,000 draws, within five standard errors of those of torch's own draws."""
    torch.manual_seed(0)
    dream, _ = made(core="vrnn")
    state = dream.initial_state(1)
    state = dream.step(torch.zeros(1, 3), state)[1]
    many = 20_000
    with torch.no_grad():
        model = torch.utils._pytree.tree_map(lambda x: x.expand(many, *x.shape[1:]), state.model)
        draw = partial(dream.model.step, torch.zeros(many, dtype=torch.bool), torch.zeros(many, 3))
        own = draw(model)[0]
        with NoiseStream():
            from_noise = draw(model)[0]
    for key in ("observation", "reward", "terminated"):
        one, other = (getattr(row, key).double() for row in (own, from_noise))
        error = (one.var(0) / many + other.var(0) / many).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() <= 5 * error + 1e-9).all()


def test_a_temperature_that_is_a_tensor_is_the_number():
    normal = torch.distributions.Normal(0.0, 1.0)
    assert tempered(normal, torch.tensor(4.0)).scale == tempered(normal, 4.0).scale


# Runs.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of CartPole that has learned next to nothing."""
    path = tmp_path_factory.mktemp("exported") / "run"
    agent = WorldModelAgent("CartPole-v1", core="vrnn", **TINY)
    agent.learn(total_timesteps=70).save(path)
    return path


def export(run, out, format):
    verbs.export(settings.Export(run, out, format), Reporter())
    return out


@pytest.fixture(scope="module")
def folder(run):
    return export(run, run.parent / "onnx", "onnx")


def test_the_example_acts_without_torch_as_the_agent_does(run, folder):
    """Its program has 25 lines, without those that import."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.S)
    code = [line for line in program.splitlines() if line and not re.match("import|from", line)]
    assert len(code) <= 25

    def alone():
        import subprocess

        blocked = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = [{str(folder)!r}]\n"
        subprocess.run([sys.executable, "-c", blocked + program], check=True)

    result = ended(Process(alone, folder.parent), 100)
    assert result.code == 0, result.error
    assert result.out.strip() == f"{steps_of(WorldModelAgent.load(run), folder)} steps"


@torch.no_grad()
def steps_of(agent, folder):
    """Steps that torch plays under the example's noise."""
    about, random = json.loads((folder / "model.json").read_text()), np.random.default_rng(0)
    kinds = [(x["name"], x["shape"]) for x in about["graphs"]["policy"]["inputs"] if "noise" in x]
    player, env = agent.policy, gymnasium.make("CartPole-v1")
    seen, reward, first, over, steps = env.reset(seed=0)[0], 0.0, True, False, 0
    mind, code, no = player.initial_state(1), torch.zeros(1, 2), torch.zeros(1, dtype=torch.bool)
    while not over:
        draws = {"normal": random.standard_normal, "uniform": random.random}
        noise = {name: draws[name](shape).astype(np.float32) for name, shape in kinds}
        observation = torch.from_numpy(seen)[None]
        row = Row(no | first, code, observation, torch.tensor([float(reward)]), no)
        with NoiseStream(as_noise(noise)):
            thought, mind = player.step(row, mind)
        code = player.policy(thought).mode
        seen, reward, terminated, truncated, _ = env.step(int(code.argmax()))
        first, over, steps = False, terminated or truncated, steps + 1
    return steps


def test_a_folder_says_all_that_its_graphs_need(folder):
    about = json.loads((folder / "model.json").read_text())
    for graph in about["graphs"].values():
        names = [x["name"] for x in graph["outputs"]]
        for x in graph["inputs"]:
            assert {"shape", "type"} <= x.keys()
            assert x.get("next", names[0]) in names
    assert about["environment"] == "CartPole-v1"


def test_what_cannot_be_exported_is_a_sentence(run, folder, tmp_path):
    for out, format, words in (
        (folder, "onnx", "already exists"),
        (tmp_path, "html", "dream.html"),
        (folder / "model.json" / "dream.html", "html", "cannot be made"),
    ):
        with pytest.raises(RunError, match=words) as said:
            export(run, out, format)
        assert len(str(said.value)) < 300


def test_what_depends_on_values_is_refused():
    _, agent = made(core="rnn")

    class Choosy(BeliefAgent):
        def thought(self, state):
            thought = super().thought(state)
            return thought if thought.sum() > 0 else -thought

    choosy = Choosy(agent.model, agent.head)
    with pytest.raises(ExportError, match="depends on the values"):
        policy_graph(choosy, torch.zeros(1, 3), torch.ones(1, dtype=torch.int64), CHOICE)


in_a_browser = pytest.mark.skipif(driver_path() is None, reason="needs Chromium and its driver")

PLAY = """
const found = [], bare = (values) => Object.fromEntries(Object.entries(values).map(
  ([name, x]) => [name, [...x.data].map(Number)]));
dreamer.world = dreamer.graphs.dream.initial();
dreamer.mind = dreamer.graphs.policy.initial();
for (const { action, dream, policy } of arguments[0]) {
  const given = (graph, noise) => Object.fromEntries(graph.inputs.filter((x) => x.noise).map(
    ({ name, type, shape }) => [name, tensor(type, shape, noise[name])]));
  const row = dreamer.step(action, given(dreamer.graphs.dream, dream));
  const next = dreamer.choose(row, given(dreamer.graphs.policy, policy));
  found.push({ reward: row.reward, first: row.first, observation: bare(row.observation), next,
               mind: bare(dreamer.mind), world: bare(dreamer.world) });
}
return found;
"""


COMPUTE = """
return arguments[0].map(([program, inputs]) => {
  const graph = new Graph(program), given = Object.fromEntries(graph.inputs.map(
    ({ name, type, shape }) => [name, tensor(type, shape, inputs[name])]));
  return Object.fromEntries(Object.entries(graph.run(given)).map(
    ([name, x]) => [name, [...x.data].map(Number)]));
});
"""


def graphs_of_all_kinds():
    """Graphs of images, and of a dream of many spaces."""
    dream, _ = made(MANY, spaces.Box(-2, 3, (2,)), 0.05, core="rssm", head=MANY_HEADS)
    model = autoencoder_for((12, 16, 3), latent=4, hidden=8, width=4).requires_grad_(False)
    images = torch.randint(0, 256, (1, 12, 16, 3), dtype=torch.uint8)
    world = dream_graph(dream, example(MANY), example(dream.action_space))
    return [world, *image_graphs(model, images).values()]


def assert_computed_alike(driver, graphs):
    """The script of a page computes what torch does, of every graph one step."""
    from worldmodel.experiments.export.page import program_of

    given = [
        [program_of(g), {k: x.flatten().tolist() for k, x in g.inputs.items()}] for g in graphs
    ]
    for graph, found in zip(graphs, driver.execute_script(COMPUTE, given), strict=True):
        for name, expected in graph.step(graph.inputs).items():
            close = 1 if expected.dtype == torch.uint8 else 1e-5  # a brightness that was rounded
            numbers = expected.flatten().double()
            np.testing.assert_allclose(found[name], numbers, 1e-5, close, err_msg=name)


def test_a_page_knows_every_operator_of_graphs():
    from onnx import defs

    written = inspect.getsource(operators)
    kinds = {word for word in re.findall(r'"([A-Z]\w+)"', written) if defs.has(word)}
    assert len(kinds) > 50
    script = (files("worldmodel.experiments.export") / "graph.js").read_text()
    assert {kind for kind in kinds if not re.search(rf"\b{kind}[:(]", script)} == set()


@in_a_browser
def test_a_page_from_the_disk_dreams_the_rows_of_torch(run, tmp_path):
    pytest.importorskip("selenium", reason="needs selenium")
    from worldmodel.experiments.rl.experiment import exported
    from worldmodel.run_folder import RunFolder

    graphs = exported(RunFolder.open(run)).graphs
    page = export(run, tmp_path / "dream.html", "html")
    assert page.stat().st_size < 15e6
    random, steps, expected = np.random.default_rng(0), [], []
    values = {name: dict(graphs[name].inputs) for name in ("dream", "policy")}
    for step in range(30):
        noise = {name: noise_for(graphs[name], random) for name in values}
        action = [int(random.integers(2))]
        for name in values:
            values[name] |= {k: torch.as_tensor(x) for k, x in noise[name].items()}
        values["dream"]["action"] = torch.tensor(action)
        values["dream"]["reset"] = torch.tensor([step == 0])
        row = graphs["dream"].step(values["dream"])
        values["policy"] |= {k: row[k] for k in row if k in graphs["policy"].inputs}
        values["policy"]["last_action"] = torch.tensor(action)
        mind = graphs["policy"].step(values["policy"])
        for name, found in (("dream", row), ("policy", mind)):
            values[name] |= {k: found[next_of(k)] for k in graphs[name].state}
        expected.append((row, mind))
        given = {name: {k: x.tolist() for k, x in of.items()} for name, of in noise.items()}
        steps.append({"action": action if step else None, **given})
    with chromium() as driver:
        driver.get(page.as_uri())
        found = driver.execute_script(PLAY, steps)
        for here, (row, mind) in zip(found, expected, strict=True):
            assert here["first"] == bool(row["first"])
            assert here["next"] == mind["action"].tolist()
            np.testing.assert_allclose(here["reward"], float(row["reward"]), 1e-5, 1e-5)
            for name, numbers in here["observation"].items():
                np.testing.assert_allclose(numbers, row[name].flatten(), 1e-5, 1e-5)
            for part, outputs in (("world", row), ("mind", mind)):
                for name, numbers in here[part].items():
                    torch_ones = outputs[next_of(name)].flatten().double()
                    np.testing.assert_allclose(numbers, torch_ones, 1e-5, 1e-5, err_msg=name)
        assert_computed_alike(driver, graphs_of_all_kinds())
        for name in ("agent", "run", "restart"):
            assert driver.find_element("id", name).text == COMMANDS[name]
        assert "A return of 475 is good." in driver.find_element("class name", "purpose").text
        driver.execute_script("game.press(1)")
        assert driver.execute_script("return [game.isAgent, game.held]") == [False, [1]]
        drawn = "return [...document.querySelector('canvas').getContext('2d')" + (
            ".getImageData(0, 0, 720, 420).data].some((x) => x > 0)"
        )
        assert driver.execute_script(drawn)
        assert driver.get_log("browser") == []
