"""Laws of films: what is in the file is what happened."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from envs import ToyGame
from envs.toy_game import Action
from experiments.config import GameConfig, ToyGameConfig, quick
from experiments.run import RunError
from experiments.toy_game import Parts
from experiments.video import GRID, draw, film, scenes
from worldmodel.noise import OwnNoise

STEPS = 12


def make_parts(width: int = 4, classes: int = 3) -> Parts:
    """An untrained model: its dreams end after a step or two."""
    with OwnNoise(0)():
        parts = Parts(replace(quick(ToyGameConfig()), game=GameConfig(width, classes)), [-1.0])
    for module in parts.modules.values():
        module.requires_grad_(False)
    return parts


def frames_of_gif(path: Path) -> list[np.ndarray]:
    image = Image.open(path)
    frames = []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")).astype(int))
    return frames


def frames_of_mp4(path: Path) -> tuple[dict, list[np.ndarray]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]
    return meta, [frame.astype(int) for frame in frames]


def test_a_film_shows_the_frames_that_went_in(tmp_path):
    parts, gif, mp4 = make_parts(), tmp_path / "film.gif", tmp_path / "film.mp4"
    noted = []
    film(parts, [gif, mp4], STEPS, seed=1, fps=4, note=lambda *counts: noted.append(counts))
    assert noted == [(done, STEPS) for done in range(1, STEPS + 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.gif", "film.mp4"]
    frames = [draw(scene).astype(int) for scene in islice(scenes(parts, 1, "policy"), STEPS)]
    meta, in_mp4 = frames_of_mp4(mp4)
    in_gif = frames_of_gif(gif)
    assert len(in_gif) == len(in_mp4) == STEPS
    assert meta["fps"] == pytest.approx(4)
    with Image.open(gif) as image:
        assert (image.info["loop"], image.info["duration"]) == (0, 250)
    for frame, of_gif, of_mp4 in zip(frames, in_gif, in_mp4, strict=True):
        assert of_gif.shape == of_mp4.shape == frame.shape
        assert np.abs(of_gif - frame).max() <= GRID / 2
        assert np.abs(of_mp4 - frame).mean() < 3


@pytest.mark.parametrize("agent", ["policy", "uniform"])
def test_the_same_seed_gives_the_same_film(agent):
    def pictures(seed):
        return np.stack([draw(s) for s in islice(scenes(make_parts(), seed, agent), STEPS)])

    assert (pictures(2) == pictures(2)).all()
    assert (pictures(2) != pictures(3)).any()


def test_the_real_side_is_the_game_and_both_go_on_together():
    parts = make_parts()
    game, before = ToyGame(), None
    for scene in islice(scenes(parts, 4, "uniform"), 80):
        if before is None or before.ended:
            observation, info = game.reset(seed=4 if before is None else None)
            assert (scene.step, scene.action) == (0, "")
            assert scene.dream.observation == scene.real.observation
            assert (scene.real.total, scene.dream.total) == (0, 0)
            assert not scene.ended
        else:
            observation, reward, terminated, truncated, info = game.step(
                Action[scene.action.upper()]
            )
            assert scene.episode == before.episode
            assert scene.step == before.step + 1
            assert (scene.real.reward, scene.real.terminated) == (reward, terminated)
            assert scene.real.ended == (terminated or truncated)
            assert scene.real.total == before.real.total + reward
        assert (scene.real.observation, scene.position) == (observation, info["position"])
        assert (scene.real.ring == np.eye(3)[info["ring"]]).all()
        missed = 1 - scene.dream.ring[np.arange(4), info["ring"]]
        assert scene.difference == pytest.approx(missed, abs=1e-5)
        before = scene
    assert before.episode > 3


@pytest.mark.parametrize(("width", "classes"), [(2, 2), (3, 5), (7, 10)])
def test_frames_have_even_sides_and_one_size(width, classes):
    made = [draw(s) for s in islice(scenes(make_parts(width, classes), 0, "uniform"), 6)]
    assert len({frame.shape for frame in made}) == 1
    assert all(side % 2 == 0 for side in made[0].shape[:2])


def test_a_film_is_written_whole_or_not_at_all(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film(make_parts(), [tmp_path / "a.gif", tmp_path / "b.mp4"], 3, note=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("film.avi", {}, r"a film is a \.mp4 or a \.gif file, but .*film\.avi is neither"),
        ("nowhere/film.gif", {}, "there is no folder"),
        ("film.gif", {"steps": 0}, "steps and fps above 0"),
        ("film.gif", {"fps": 0.0}, "steps and fps above 0"),
        ("film.gif", {"seed": -1}, "seed must be 0 or more"),
        ("film.gif", {"agent": "nobody"}, "agent is one of policy, uniform"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, name, options, message):
    with pytest.raises(RunError, match=message):
        film(make_parts(), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []
