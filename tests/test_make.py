"""Environments are what the options ask for, or one sentence says why not."""

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import games
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from worldmodel.codecs import encoder_for
from worldmodel.envs import arguments_from_json, make_environment, make_vector_env, velocities_of
from worldmodel.envs.make import folder_of


def played(env, actions=(), seed=0):
    """Observations, rewards and ends of one episode."""
    observations, rewards, ends = [env.reset(seed=seed)[0]], [], []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        ends.append((terminated, truncated))
        if terminated or truncated:
            break
    return observations, rewards, ends


def test_an_id_is_made_as_gymnasium_makes_it():
    ours = make_environment("Pendulum-v1", {"g": 3.0})
    theirs = gymnasium.make("Pendulum-v1", g=3.0)
    assert ours.unwrapped.g == 3.0
    actions = [np.array([0.5], np.float32)] * 20
    for a, b in zip(played(ours, actions), played(theirs, actions), strict=True):
        np.testing.assert_array_equal(a, b)


def test_repeated_actions_add_up_and_stop_at_ends():
    env = make_environment("Counting-v0", {"lengths": (7,)}, action_repeat=3)
    observations, rewards, ends = played(env, [1, 2, 3, 0])
    assert [int(o[0]) for o in observations] == [0, 3, 6, 7]
    np.testing.assert_allclose(rewards, [3 + 0.06, 6 + 0.15, 3 + 0.07], rtol=1e-12)
    assert ends == [(False, False), (False, False), (True, False)]


@pytest.mark.parametrize(
    ("limit", "repeat", "steps"), [(None, 1, 5), (3, 1, 3), (8, 1, 8), (5, 3, 2)]
)
def test_a_time_limit_replaces_the_registered_one_and_counts_own_steps(limit, repeat, steps):
    env = make_environment("Limited-v0", time_limit=limit, action_repeat=repeat)
    _, _, ends = played(env, [0] * 20)
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]


@pytest.mark.parametrize(
    ("id", "kept"),
    [
        ("CartPole-v1", [0, 2]),
        ("Pendulum-v1", [0, 1]),
        ("Acrobot-v1", [0, 1, 2, 3]),
        ("MountainCar-v0", [0]),
        ("MountainCarContinuous-v0", [0]),
    ],
)
def test_hidden_velocities_are_those_that_gymnasium_documents(id, kept):
    env, whole = make_environment(id, hidden_velocities=True), make_environment(id)
    np.testing.assert_array_equal(env.reset(seed=3)[0], whole.reset(seed=3)[0][kept])
    assert env.observation_space == spaces.Box(
        whole.observation_space.low[kept], whole.observation_space.high[kept], dtype=np.float32
    )
    assert sorted([*velocities_of(whole), *kept]) == list(range(whole.observation_space.shape[0]))
    action = env.action_space.sample()
    np.testing.assert_array_equal(env.step(action)[0], whole.step(action)[0][kept])


def test_any_entries_can_be_hidden():
    env = make_environment("Counting-v0", hide=[0, 2])
    assert [o.tolist() for o in played(env, [3, 1])[0]] == [[-1], [3], [1]]


def test_pixels_are_the_rendered_image():
    env = make_environment("Counting-v0", {"lengths": (9,)}, pixels=20, action_repeat=2)
    assert env.observation_space == spaces.Box(0, 255, (20, 20, 3), np.uint8)
    observations = played(env, [0, 0])[0]
    for steps, observation in zip((0, 2, 4), observations, strict=True):  # 6 of 60 pixels a step
        assert observation.dtype == np.uint8
        expected = np.zeros((20, 20, 3))
        expected[:, : 2 * steps] = (255, 128, 0)
        np.testing.assert_array_equal(observation, expected)


def test_pixels_become_gray():
    env = make_environment("Counting-v0", pixels=10, grayscale=True)
    assert env.observation_space.shape == (10, 10, 1)
    observation = played(env, [0])[0][1]
    luma = 0.299 * 255 + 0.587 * 128
    np.testing.assert_allclose(observation[:, 0, 0], luma, atol=1)
    assert (observation[:, 1:] == 0).all()


def test_images_are_resized_wherever_they_are_nested():
    env, old = (
        make_environment("Nested-v0", resize=6, grayscale=True),
        make_environment("Nested-v0"),
    )
    space = env.observation_space
    assert space["image"] == spaces.Box(0, 255, (6, 6, 1), np.uint8)
    assert space["pair"][1] == spaces.Box(0, 9, (6, 6, 1), np.uint8)
    assert space["vector"] == old.observation_space["vector"]
    (_, after), (_, before) = played(env, [(0, 2)])[0], played(old, [(0, 2)])[0]
    assert space.contains(after)
    np.testing.assert_array_equal(after["vector"], before["vector"])
    assert after["number"] == 1
    assert (after["pair"][1] == 1).all()
    np.testing.assert_allclose(after["image"], 0.299 * 10 + 0.114 * 255, atol=1)


def test_a_pixel_is_the_mean_of_what_it_covers():
    random = np.random.default_rng(0)

    class Noise(games.Counting):
        observation_space = spaces.Box(0, 255, (12, 8, 3), np.uint8)

        def observe(self):
            return random.integers(0, 256, (12, 8, 3), np.uint8)

    gymnasium.register("Noise-v0", Noise)
    env = make_environment("Noise-v0", resize=4)
    whole = env.env.reset()[0]
    means = whole.reshape(4, 3, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(env.observation(whole), means, atol=1)  # rounded twice
    gymnasium.registry.pop("Noise-v0")


class Shapes(games.Counting):
    """Images without channels, with channels first, of floats, in a stack of frames, and small
    boards that are none."""

    observation_space = spaces.Dict(
        gray=spaces.Box(0, 255, (40, 30), np.uint8),
        stack=spaces.Box(0, 255, (4, 40, 40), np.uint8),
        colours=spaces.Box(0, 255, (3, 40, 36), np.uint8),
        bright=spaces.Box(0, 1, (3, 40, 36), np.float32),
        frames=spaces.Box(0, 255, (4, 40, 36, 3), np.uint8),
        wide=spaces.Box(0, 255, (40, 36, 3), np.int64),
        usual=spaces.Box(0, 255, (40, 36, 3), np.uint8),
        board=spaces.Box(0, 9, (9, 9), np.uint8),
    )

    def observe(self):
        random = np.random.default_rng(self.count)
        return {
            key: random.integers(int(space.high.max()), size=space.shape).astype(space.dtype)
            if space.dtype.kind != "f"
            else random.random(space.shape, np.float32)
            for key, space in self.observation_space.items()
        }


@pytest.fixture
def shapes():
    gymnasium.register("Shapes-v0", Shapes)
    yield "Shapes-v0"
    gymnasium.registry.pop("Shapes-v0")


def test_images_come_with_their_channels_last(shapes):
    env = make_environment(shapes)
    after, before = (played(e, [0])[0][1] for e in (env, gymnasium.make(shapes)))
    assert env.observation_space.contains(after)
    np.testing.assert_array_equal(after["gray"], before["gray"][..., None])
    for key in ("stack", "colours"):
        np.testing.assert_array_equal(after[key], np.moveaxis(before[key], 0, -1))
    bright = 255 * np.moveaxis(before["bright"], 0, -1)
    np.testing.assert_allclose(after["bright"], bright, atol=0.51)  # rounded
    for frame in range(4):
        np.testing.assert_array_equal(
            after["frames"][..., 3 * frame : 3 * frame + 3], before["frames"][frame]
        )
    for key in ("usual", "board", "wide"):
        np.testing.assert_array_equal(after[key], before[key])
    assert after["wide"].dtype == np.uint8
    encoder_for(env.observation_space)


def test_frames_of_a_stack_stay_apart_when_colours_become_gray(shapes):
    env = make_environment(shapes, resize=20, grayscale=True)
    shown = {key: space.shape for key, space in env.observation_space.items()}
    assert shown.pop("board") == (20, 20, 1)  # asked for, it is an image
    assert shown.pop("stack") == (20, 20, 4)
    assert shown.pop("frames") == (20, 20, 12)
    assert set(shown.values()) == {(20, 20, 1)}
    after, before = (played(e, [0])[0][1] for e in (env, gymnasium.make(shapes)))
    assert env.observation_space.contains(after)
    means = before["stack"].reshape(4, 20, 2, 20, 2).mean((2, 4))
    np.testing.assert_allclose(after["stack"], np.moveaxis(means, 0, -1), atol=1)


def test_keys_choose_what_is_shown():
    env = make_environment("Nested-v0", keys=["vector", "image"], resize=4)
    assert set(env.observation_space) == {"vector", "image"}
    assert env.observation_space.contains(env.reset(seed=0)[0])


@pytest.mark.parametrize("id", ["Counting-v0", "Nested-v0", "CartPole-v1"])
def test_copies_are_the_same_environment_side_by_side(id):
    env = make_vector_env(id, copies=3, time_limit=4)
    assert env.num_envs == 3
    assert env.single_observation_space == make_environment(id).observation_space
    env.close()


def test_arguments_are_json():
    assert arguments_from_json("{}") == {}
    assert arguments_from_json('{"a": [1, 2.5, "x"]}') == {"a": [1, 2.5, "x"]}
    for text in ("{", "[1]", "3"):
        with pytest.raises(ValueError, match=r'such as|as in \{"g": 9.81\}'):
            arguments_from_json(text)


MODULE = """
    import gymnasium
    from gymnasium.envs.classic_control import CartPoleEnv

    gymnasium.register("Mine-v3", CartPoleEnv, max_episode_steps=7)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, of a user who has modules there."""
    (tmp_path / "games_of_mine.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "broken_game.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    gymnasium.registry.pop("Mine-v3", None)
    for module in ("games_of_mine", "broken_game"):
        sys.modules.pop(module, None)


def test_a_module_in_the_current_directory_registers_its_environments(folder):
    env = make_environment("games_of_mine:Mine-v3")
    assert env.spec.max_episode_steps == 7


def test_a_module_is_found_in_the_folder_that_is_named(folder, monkeypatch):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # not where we are
    with pytest.raises(ValueError, match=r"not found; is it in .*/nowhere\? --env-path"):
        make_environment("games_of_mine:Mine-v3", env_path="nowhere")
    assert "nowhere" not in " ".join(sys.path)
    with pytest.raises(
        ValueError, match=r"not found; is it among installed packages\? --env-path"
    ):
        make_environment("games_of_mine:Mine-v3", env_path=None)
    env = make_environment("games_of_mine:Mine-v3", env_path="..")
    assert env.spec.max_episode_steps == 7
    assert folder_of("games_of_mine:Mine-v3") == str(folder.resolve())


def test_what_is_found_from_anywhere_needs_no_folder():
    assert folder_of("CartPole-v1") is None
    assert folder_of("gymnasium.envs:CartPole-v1") is None  # installed
    assert folder_of("worldmodel.envs:worldmodel/ToyGame-v0") is None


def test_processes_import_the_module_as_well(folder):
    program = """
        from worldmodel.envs import make_vector_env
        env = make_vector_env("games_of_mine:Mine-v3", copies=2, workers=2)
        print(env.reset(seed=0)[0].shape)
        env.close()
    """
    script = folder / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.stdout == "(2, 4)\n", done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"id": "CartPol-v1"},
            r"no environment 'CartPol-v1'; did you mean CartPole-v1.*module:id",
        ),
        ({"id": "CartPole-v7"}, r"no environment 'CartPole-v7'; did you mean CartPole-v1"),
        ({"id": "Nirvana/Xyzzy-v0"}, r"no environment 'Nirvana/Xyzzy-v0'; ids look like"),
        (
            {"id": "nowhere:My-v0"},
            r"the module 'nowhere' of 'nowhere:My-v0' was not found; is it in",
        ),
        *(
            ({"id": id}, rf"expected module:id with a module as Python imports it, .*got '{id}'")
            for id in ("../lamps:My-v0", ".lamps:My-v0", "a b:My-v0", ":My-v0", "lamps:", "a:b:C")
        ),
        ({"id": "broken_game:My-v0"}, r"cannot be imported: No module named 'no_such_package'"),
        (
            {"id": "games_of_mine:Mine-v4"},
            r"games_of_mine.py registers no environment 'Mine-v4'; did you mean Mine-v3",
        ),
        ({"id": "CartPole-v1", "arguments": {"gravy": 1}}, r"does not take the arg.*'gravy'"),
        ({"id": "CartPole-v1", "time_limit": 0}, "at least one step, got 0"),
        ({"id": "CartPole-v1", "action_repeat": 0}, "at least once, got 0"),
        ({"id": "Counting-v0", "hidden_velocities": True}, "Counting-v0's numbers are velocities"),
        ({"id": "CartPole-v1", "hide": [4]}, r"shows 4 numbers, 0 to 3.*: 4 cannot be hidden"),
        ({"id": "CartPole-v1", "hide": [-1]}, r"-1 cannot be hidden"),
        ({"id": "CartPole-v1", "hide": [0, 1, 2, 3]}, "one must remain"),
        ({"id": "Nested-v0", "hide": [0]}, "only numbers of a vector can be hidden"),
        ({"id": "CartPole-v1", "resize": 8}, "CartPole-v1 shows no images"),
        ({"id": "CartPole-v1", "grayscale": True}, "CartPole-v1 shows no images"),
        ({"id": "Nested-v0", "resize": 0}, "at least one pixel a side"),
        ({"id": "Counting-v0", "pixels": 8, "hide": [0]}, "the rendered image alone"),
        ({"id": "Counting-v0", "pixels": 8, "render_mode": "human"}, "'rgb_array', got 'human'"),
        ({"id": "FrozenLake8x8-v1", "keys": ["image"]}, "has no keys"),
        ({"id": "Nested-v0", "keys": ["picture"]}, r"no picture; its keys are image"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options, sentence, folder):
    with pytest.raises(ValueError, match=sentence):
        make_environment(**options)


def test_pixels_need_an_environment_that_renders_them():
    class Dark(games.Counting):
        metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    gymnasium.register("Dark-v0", Dark)
    with pytest.raises(ValueError, match=r"renders 'rgb_array', but Dark-v0 renders ansi"):
        make_environment("Dark-v0", pixels=8)
    gymnasium.registry.pop("Dark-v0")


def test_what_an_installed_package_declares_registers_its_ids(tmp_path, monkeypatch):
    """As packages did for Gymnasium before its version 1.0; not if it lies where one works."""
    (tmp_path / "declared_games.py").write_text(
        textwrap.dedent(MODULE) + "\n\ndef register():\n"
        "    gymnasium.register('Declared/Mine-v0', CartPoleEnv, max_episode_steps=7)\n"
    )
    about = tmp_path / "declared_games-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: declared_games\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[gymnasium.envs]\nDeclared = declared_games:register\nOther = no_such_module:register\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        with pytest.raises(ValueError, match="no environment 'Declared/Mine-v0'"):
            make_environment("Declared/Mine-v0")
    assert make_environment("Declared/Mine-v0").spec.max_episode_steps == 7
    for id in ("Declared/Mine-v0", "Mine-v3"):
        gymnasium.registry.pop(id)


def test_ids_of_known_packages_name_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", None)  # as if it were not installed
    with pytest.raises(
        ValueError, match=r"'minigrid', which was not found; run pip install 'world"
    ):
        make_environment("MiniGrid-Empty-5x5-v0")


def test_known_packages_are_those_that_are_installed(folder, monkeypatch):
    """No file of the current directory, although it is where Python looks first."""
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "minigrid", raising=False)
    (folder / "minigrid.py").write_text("raise AssertionError")
    with contextlib.suppress(ValueError):  # it may be installed
        make_environment("MiniGrid-Nowhere-v0")
    assert sys.path[:2] == [str(folder), ""]


def test_atari_needs_its_id_alone():
    pytest.importorskip("ale_py", reason="the extra 'atari' is not installed")
    env = make_vector_env(
        "ALE/Pong-v5", {"frameskip": 1}, action_repeat=4, resize=64, grayscale=True
    )
    assert env.single_observation_space == spaces.Box(0, 255, (64, 64, 1), np.uint8)
    observation = env.reset(seed=0)[0]
    for _ in range(20):  # until the ball is in play
        after, *_ = env.step(np.array([2]))
    assert len(np.unique(after)) > 2
    assert (after != observation).any()
    env.close()


def test_popgym_needs_its_id_alone():
    """A card is shown; the reward is for naming the one of four steps before."""
    pytest.importorskip("popgym", reason="the extra 'popgym' is not installed")
    env = make_environment("popgym-RepeatPreviousEasy-v0")
    cards, rewards, ended = [int(env.reset(seed=0)[0])], [], False
    while not ended:
        named = cards[-4] if len(cards) >= 4 else 0
        card, reward, terminated, truncated, _ = env.step(named)
        cards.append(int(card))
        rewards.append(reward)
        ended = terminated or truncated
    assert sum(rewards) == pytest.approx(1.0)


def test_pixels_of_classic_control():
    pytest.importorskip("pygame", reason="the extra 'classic-control' is not installed")
    env = make_environment("CartPole-v1", pixels=64)
    before = env.reset(seed=0)[0]
    for _ in range(8):
        after = env.step(1)[0]
    assert env.observation_space.contains(after)
    assert 0.001 < (before != after).mean() < 0.2  # a cart has moved before a white ground
    assert after.mean() > 200


@pytest.mark.parametrize(("copies", "workers"), [(0, 0), (2, 3), (2, -1)])
def test_workers_share_copies(copies, workers):
    with pytest.raises(ValueError, match=f"got {workers if copies else copies}"):
        make_vector_env("CartPole-v1", copies=copies, workers=workers)


def test_without_a_screen_pygame_does_not_look_for_one(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "")  # so that it is put back
    monkeypatch.delenv("SDL_VIDEODRIVER")
    env = make_environment("CartPole-v1", render_mode="rgb_array")
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"
    env.reset(seed=0)
    assert env.render().shape == (400, 600, 3)
    env.close()
