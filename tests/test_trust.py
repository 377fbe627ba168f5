"""Opening a run imports nothing that it names, unless its user trusts it (docs/trust.md)."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from campaigns import hostile
from campaigns.hostile import HOSTILE
from campaigns.mutations import sign
from command_line import assert_refused, worldmodel
from kinds import VERSE
from runs import TINY, at, train

from worldmodel import SequenceModel, experiments
from worldmodel.agents import WorldModelAgent
from worldmodel.experiments.data.datasets import open_data
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.images.experiment import quick as quick_vae
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.experiments.rl.run import load_run
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.runs.trust import TrustConfig
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.player import new_player
from worldmodel.experiments.show.report import films
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.trust import Trust

CHOSEN = (
    *("environment 'run.evil:Evil-v0'", "environment 'ALE/Pong-v5'", "link metrics.jsonl"),
    *("saved_as_once state.pt", "lock is pipe", "escapes in environment", "many actions"),
)
LAMPS = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

gymnasium.register("Lamps-v0", CartPoleEnv, max_episode_steps=9)
"""
EVIL = f"""
from pathlib import Path

Path({{marker!r}}).touch()
{LAMPS.replace("Lamps", "Evil")}
"""
NAMES = ("evil:Evil-v0", "run.evil:Evil-v0", "antigravity:Evil-v0", "unittest.__main__:Evil-v0")
"""Names of code in a run: beside it, in it, and in Python's own library."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """Runs of every kind, as they were sent to somebody."""
    path = tmp_path_factory.mktemp("made")
    np.save(path / "images.npy", np.zeros((20, 16, 16, 1), np.uint8))
    (path / "verse.txt").write_text(20 * VERSE)
    configs = {
        "vae": quick_vae(VAEConfig(ImagesConfig(str(path / "images.npy")))),
        "baseline": BaselineConfig(EnvironmentConfig("CartPole-v1")),
    }
    folders = {name: new_run(path / name, config) for name, config in configs.items()}
    words = ("train", "control", "--env", "CartPole-v1", "--quick", "--out", path / "control")
    assert worldmodel(*words).returncode == 0
    train(folders["vae"], at("learn", 0, 1))
    WorldModelAgent("CartPole-v1", **TINY).learn(50).save(path / "agent")
    small = {"hidden_size": 4, "window": 8}
    SequenceModel(**small).fit("abcabcabc", updates=1).save(path / "sequences")
    texts = experiments.sequence_model("text", path / "verse.txt", **small)
    texts.fit(updates=1).save(path / "text")
    return {name: path / name for name in (*configs, "control", "agent", "sequences", "text")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory that Python searches first, with somebody else's module in it. Nothing
    was made here by the user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    write_module(place / "evil.py", EVIL.format(marker=str(place / "ran")))
    modules, registered = set(sys.modules), set(gymnasium.registry)
    yield place
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("evil", "run", "lamps", "antigravity"):
            del sys.modules[name]
    for id in set(gymnasium.registry) - registered:
        del gymnasium.registry[id]


def write_module(file: Path, source: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)


def received(run: Path, here: Path, **environment) -> Path:
    """A copy of a run, with a module in it, whose environment is described otherwise."""
    copy = shutil.copytree(run, here / "run")
    write_module(copy / "evil.py", (here / "evil.py").read_text())
    described = json.loads((copy / "config.json").read_text())
    if environment:
        described["config"]["environment"] |= environment
        del described["checksum"]
    (copy / "config.json").write_text(json.dumps(described))
    return copy


def assert_nothing_ran(here: Path) -> None:
    assert not (here / "ran").exists()
    assert not {"evil", "run.evil", "antigravity", "unittest.__main__"} & set(sys.modules)


NEED_IT = (
    ("evaluate", "--episodes", 2, "--held-out", 2),
    ("resume",),
    ("resume", "--steps", 5),
    ("video", "--kind", "real", "--out", "real.gif"),
    ("video", "--kind", "grid", "--observed", 1, "--out", "grid.gif"),
    ("play", "--world", "both", "--view", "browser", "--port", 0),
    ("bench", "dream", "--rollouts", 1, "--episodes", 2),
)
"""Commands that need the real environment."""
NEED_NONE = (
    ("video", "--steps", 2, "--out", "dream.gif"),
    ("plot", "--out", "curves.png"),
    ("compare", "--out", "compare.html"),
    ("export", "--out", "episodes"),
    ("report", "--out", "report.html"),
)
"""Commands that do not, or can do without."""


def command(words, run, *options):
    """The result of a command about a run."""
    verb = words[: 1 + (words[0] == "bench")]
    return worldmodel(*verb, run, *words[len(verb) :], *options)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_somebody_else_runs_nothing(name, made, here):
    """Where an environment is needed, one sentence says how to trust it."""
    run = received(made["control"], here, env=name, env_path=str(here))
    for words in NEED_IT:
        assert_refused(command(words, run), f"its environment {name!r} is code: give --trust")
    with pytest.raises(RunError, match="trust=True"):
        experiments.load(run).environment()
    assert_nothing_ran(here)


def test_what_needs_no_environment_needs_no_trust(made, here, monkeypatch):
    monkeypatch.setattr(films, "FRAMES", 2)
    monkeypatch.setattr(films, "DREAMS", 1)
    run = received(made["control"], here, env="evil:Evil-v0", env_path=str(here))
    for words in NEED_NONE:
        done = command(words, run)
        assert done.returncode == 0, done.stderr
    assert "evil:Evil-v0" in Path("report.html").read_text()
    new_player(experiments.load(run), PlayConfig(), 0).close()
    assert_nothing_ran(here)


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_agent_runs_nothing(name, made, here):
    agent = WorldModelAgent.load(received(made["agent"], here, env=name, env_path=str(here)))
    agent.predict(np.zeros(4, np.float32))
    agent.dream(2).reset(seed=0)
    agent.log_prob(agent.training.store)
    for needs in (lambda: agent.evaluate(2), lambda: agent.learn(5)):
        with pytest.raises(RunError, match="--trust"):
            needs()
    assert_nothing_ran(here)


def test_saving_it_makes_it_no_run_of_ours(made, here):
    run = received(made["agent"], here, env="evil:Evil-v0", env_path=str(here))
    WorldModelAgent.load(run).save("ours")
    with pytest.raises(RunError, match="--trust"):
        WorldModelAgent.load("ours").evaluate(2)
    assert_nothing_ran(here)


@pytest.mark.parametrize(
    "name", ["../evil:Evil-v0", ".evil:Evil-v0", "evil:", ":evil", "a:evil:b"]
)
def test_what_is_no_name_gets_a_sentence(name, made, here):
    run = received(made["control"], here, env=name)
    assert_refused(command(NEED_IT[0], run))
    assert_refused(command(NEED_IT[0], run, "--trust"), "module:id", "got", name)
    assert_nothing_ran(here)


def test_texts_among_arguments_may_name_code(made, here):
    """An environment that makes another one, which it is given the name of."""
    gymnasium.register("Other-v0", lambda env_id, render_mode=None: gymnasium.make(env_id))
    given = {"env": "Other-v0", "arguments": '{"env_id": "evil:Evil-v0"}'}
    run = received(made["control"], here, **given)
    assert_refused(command(NEED_IT[0], run), "the arguments {'env_id': 'evil:Evil-v0'}", "--trust")
    assert_nothing_ran(here)
    assert command(NEED_IT[0], run, "--trust").returncode == 0
    assert (here / "ran").exists()


def texts(value, path=()):
    """The paths of all texts of JSON, and of what could be one."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(part, dict | list):
            yield from texts(part, (*path, key))
        elif part is None or isinstance(part, str):
            yield (*path, key)


def put(value, path, leaf):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = leaf


@pytest.mark.parametrize("file", ["config.json", "spaces.json", "statistics.json"])
@pytest.mark.parametrize("kind", ["control", "text", "vae", "sequences", "baseline"])
def test_no_word_of_a_run_is_imported(kind, file, made, here):
    """Code is named in one place after another of the files that describe a run."""
    run = received(made[kind], here)
    for described in run.rglob(file):
        saved = described.read_text()
        plain = json.dumps({**json.loads(saved), "checksum": None})
        for path in texts(json.loads(plain)):
            changed = json.loads(plain)
            put(changed, path, "evil:Evil-v0")
            described.write_text(json.dumps(changed))
            open_all(run)
            assert_nothing_ran(here)
        described.write_text(saved)


def open_all(run) -> None:
    """Opens a run in every way that makes no environment, or fails to."""
    for load in (experiments.load, WorldModelAgent.load, SequenceModel.load):
        with contextlib.suppress(Exception):
            load(run)


def test_recorded_episodes_run_nothing(made, here):
    """Those of a run whose environment is code; and a Minari data set says where it comes from."""
    run = received(made["control"], here, env="evil:Evil-v0", env_path=str(here))
    pytest.importorskip("minari", reason="the extra 'minari' is not installed")
    assert worldmodel("export", run, "--out", here / "set", "--format", "minari").returncode == 0
    metadata = here / "set" / "data" / "metadata.json"
    spec = gymnasium.spec("CartPole-v1").to_json()
    spec = spec.replace("gymnasium.envs.classic_control.cartpole", "evil")
    spec = spec.replace("CartPole-v1", "Evil-v0")
    assert '"evil:' in spec
    described = json.loads(metadata.read_text()) | {"env_spec": spec, "eval_env_spec": spec}
    metadata.write_text(json.dumps(described))
    for data in (run, here / "set"):
        assert open_data(data).episodes.steps == 90
    assert_nothing_ran(here)


@pytest.mark.parametrize(
    ("kind", "load"), [("agent", WorldModelAgent.load), ("sequences", SequenceModel.load)]
)
def test_a_model_that_lacks_a_value_gets_a_sentence(kind, load, made, here):
    run = received(made[kind], here)
    (values,) = run.glob("checkpoints/*/values.json")
    values.write_text(json.dumps({**json.loads(values.read_text()), "stages": 3}))
    sign(run, values)
    with pytest.raises(RunError, match=r"run cannot be read.*damaged, or of another version"):
        load(run)


def test_another_environment_than_was_learned_from_gets_a_sentence(made, here):
    said = "the observations of the real environment are Box"
    assert_refused(worldmodel("evaluate", received(made["control"], here, env="Acrobot-v1")), said)
    with pytest.raises(RunError, match=said):
        WorldModelAgent.load(made["agent"], "Acrobot-v1").evaluate(2)


@pytest.mark.parametrize("change", [{"experiment": ["evil"]}, {"config": 3}])
def test_a_configuration_of_other_types_gets_a_sentence(change, made, here):
    run = received(made["control"], here)
    described = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(described | change | {"checksum": None}))
    assert_refused(worldmodel("evaluate", run), "names no experiment")


def test_a_configuration_of_a_terabyte_is_not_read(made, here):
    run = received(made["control"], here)
    os.truncate(run / "config.json", 2**40)
    assert_refused(worldmodel("evaluate", run), "config.json has 1,099,511,627,776 bytes")


def test_a_slice_of_the_hostile_folders(tmp_path):
    chosen = [one for one in HOSTILE if one.base == "episodes" or one.name in CHOSEN]
    (tally,) = hostile.run(12, 0, tmp_path, sys.stderr, chosen, ("evaluate", "export"))
    assert tally.wrong == []
    assert tally.counts["sentence"] > 8


def test_what_a_hostile_folder_names_is_neither_printed_as_it_is_nor_a_fault(tmp_path):
    names = ("environment 'evil:\\x00'", "escapes in measured")
    chosen = [one for one in HOSTILE if one.name in names]
    (tally,) = hostile.run(2, 0, tmp_path, sys.stderr, chosen, ("plot", "resume"))
    assert tally.wrong == []
    assert sum(tally.counts.values()) == len(names)


def test_a_hostile_folder_that_succeeds_is_noticed(tmp_path, monkeypatch):
    """Here the user trusts it."""
    (evil,) = [one for one in HOSTILE if one.name == "environment 'evil:Evil-v0'"]
    monkeypatch.setattr(RunFolder, "open", lambda path, trust=None: RunFolder(path, Trust(True)))
    (tally,) = hostile.run(1, 0, tmp_path, sys.stderr, [evil], ("evaluate",))
    (wrong,) = tally.wrong
    assert "code ran" in wrong


# What is the user's own.


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a user's own module, a run and an agent of it, and the user's state."""
    mine = tmp_path_factory.mktemp("user") / "mine"
    write_module(mine / "lamps.py", LAMPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setenv("XDG_STATE_HOME", str(mine.parent / "state"))
        patch.chdir(mine)
        words = ("train", "control", "--env", "lamps:Lamps-v0", "--quick", "--out", "run")
        assert worldmodel(*words).returncode == 0
        WorldModelAgent("lamps:Lamps-v0", **TINY).learn(50).save("agent")
    forget()
    return mine


@pytest.fixture
def mine(trained, here, monkeypatch) -> Path:
    """The same, the user being elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(trained.parent / "state"))
    yield trained
    forget()


def forget() -> None:
    sys.modules.pop("lamps", None)
    gymnasium.registry.pop("Lamps-v0", None)
    sys.path[:] = [place for place in sys.path if not place.endswith("mine")]


def limit(run) -> int:
    """The time limit of a run's environment, whose module is imported anew."""
    forget()
    return run.time_limit


def test_what_was_made_here_needs_no_flag_wherever_it_is_moved_to(mine, here):
    moved = shutil.copytree(mine / "run", here / "moved")
    assert limit(experiments.load(mine / "run")) == 9
    for words in (NEED_IT[0], NEED_IT[2]):
        forget()
        assert command(words, moved).returncode == 0
    shutil.copytree(mine / "agent", here / "agent")
    for name in ("agent", "saved again"):
        loaded = WorldModelAgent.load(here / name)
        assert limit(loaded.world) == 9
        loaded.save(here / "saved again")


def test_the_user_says_whom_to_trust(mine, here, monkeypatch):
    """By a flag; or by the name, and then the folder that the run names is not looked in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "another machine"))
    run, named = mine / "run", {"env": "lamps:Lamps-v0"}

    def opened(**options):
        return limit(load_run(TrustConfig(**options).open(run))[0])

    for options in ({}, {"env_path": mine}):
        assert opened(**options) is None
    with pytest.raises(RunError, match=rf"was not found; is it in {here}\?"):
        opened(**named)
    with pytest.raises(RunError, match=r"is 'lamps:Lamps-v0': give --env as the run has it"):
        opened(env="lamps:L-v0")
    for options in ({"trust": True}, named | {"env_path": mine}):
        assert opened(**options) == 9
    monkeypatch.chdir(mine)
    assert opened(**named) == 9
    monkeypatch.chdir(here)
    assert limit(experiments.load(run, trust=True)) == 9
    assert limit(WorldModelAgent.load(run, trust=True).world) == 9
    forget()
    assert_refused(command(NEED_IT[0], run, "--env-path", mine), "--trust")
    assert command(NEED_IT[0], run, "--env", "lamps:Lamps-v0", "--env-path", mine).returncode == 0


def test_what_is_known_is_a_digest_of_the_configuration(mine, here):
    run = Path(shutil.copytree(mine / "run", here / "run"))
    lines = (mine.parent / "state" / "worldmodel" / "runs.sha256").read_text().splitlines()
    assert hashlib.sha256((run / "config.json").read_bytes()).hexdigest() in lines
    with open(run / "config.json", "a") as file:
        file.write("\n")
    assert_refused(command(NEED_IT[0], run), "was not made here")


@pytest.mark.parametrize("place", ["", "state", "file/state"])
def test_what_cannot_be_remembered_is_asked_for(place, made, here, monkeypatch):
    """A state folder that is relative, and so another one's; or that cannot be made."""
    (here / "file").touch()
    if place.startswith("file"):
        place = str(here / place)
    monkeypatch.setenv("XDG_STATE_HOME", place)
    monkeypatch.setenv("HOME", str(here / "file"))
    config = EnvironmentConfig("lamps:Lamps-v0")
    folder = new_run(here / "new", RLConfig(config))
    assert folder.trust.is_whole  # for this command
    assert not RunFolder.open(folder.path).trust.is_whole
    assert not (here / "state").exists()


def test_folders_of_modules():
    typed, relative = Trust(env="lamps:Lamps-v0"), "mine"
    assert Trust().folder("/mine") is None
    assert Trust(is_whole=True).folder("/mine") == "/mine"
    assert Trust(is_whole=True).folder(relative) is None  # it would be in whatever is current
    assert typed.folder("/theirs") == "."
    assert typed._replace(env_path="/mine").folder("/theirs") == "/mine"


def test_a_folder_that_is_not_there_gets_a_sentence(made):
    with pytest.raises(
        RunError, match="--env-path is the folder of a module: there is no nowhere"
    ):
        TrustConfig(env_path=Path("nowhere")).open(made["control"])
