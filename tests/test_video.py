"""Laws of `worldmodel video`: films show what happened, in the real game and in dreams."""

from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from faces import control_run, untrained
from films import read

from worldmodel.agents import AgentConfig
from worldmodel.envs import Action, ToyGame, draw_ring
from worldmodel.envs.toy_game import fewest_steps, font
from worldmodel.experiments.cli import settings, verbs
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.config import TOY_GAME, EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.rl.run import Run, spaces_of
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.show import video
from worldmodel.experiments.show.config import VideoConfig
from worldmodel.experiments.show.films import GRID
from worldmodel.experiments.show.play import player as core
from worldmodel.experiments.show.play.panels import Cell, Panel, columns_for, compose, shortened
from worldmodel.experiments.show.video import ALONE, WATCHES, film, frames, plan_of
from worldmodel.options import with_options
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

CART = EnvironmentConfig("CartPole-v1")
ENVIRONMENTS = {
    "cart": CART,
    "codes": replace(CART, pixels=16, grayscale=True),
    "pixels": replace(CART, pixels=16),
    "numbers": EnvironmentConfig("Counting-v0"),
    "nested": EnvironmentConfig("Nested-v0"),
    "wheel": EnvironmentConfig("Pendulum-v1"),
}
ENDS = ("solved: ", "the end: ", "time is up: ")
RUNS = ["toy", *ENVIRONMENTS]
KINDS = list(video.KINDS)


def make_run(name: str) -> Run:
    """An untrained run."""
    if name == "toy":
        return untrained(quick(TOY_GAME), [-1.0])
    vae = "joint" if name == "pixels" else "frozen"
    agent = with_options(AgentConfig(), {"vae": vae})
    return untrained(quick(RLConfig(ENVIRONMENTS[name], agent=agent)), None)


def recorded_run() -> Run:
    """The same as if there were recorded episodes of CartPole alone."""
    shown = spaces_of(CART)
    return untrained(quick(RLConfig(data="recorded")), None, shown)


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    return {name: make_run(name) for name in RUNS} | {"recorded": recorded_run()}


def some(parts: Any, count: int, **config: Any) -> list[np.ndarray]:
    """The first frames of a film."""
    plan = plan_of(parts, VideoConfig(**config))
    return list(islice(frames(parts, plan), count))


class Said(NamedTuple):
    """What a frame was made of."""

    headline: str
    noted: str
    parts: list[Any]  # panels, or cells

    @property
    def step(self) -> int:
        return int(self.headline.split()[1])

    @property
    def action(self) -> str:
        return self.headline.split("    ")[1]


@pytest.fixture
def said(monkeypatch) -> list[Said]:
    """What the frames of films are made of, one after another."""
    heard: list[Said] = []

    def listening(compose):
        def listen(headline, noted, parts, *more):
            heard.append(Said(headline, noted, list(parts)))
            return compose(headline, noted, parts, *more)

        return listen

    monkeypatch.setattr(core, "compose", listening(core.compose))
    monkeypatch.setattr(video, "compose_grid", listening(video.compose_grid))
    return heard


# Files.


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ("toy", "both"),
        ("toy", "grid"),
        ("cart", "open-loop"),
        ("codes", "real"),
        ("codes", "dream"),
    ],
)
def test_a_film_holds_the_frames_that_went_in(tmp_path, runs, run, kind):
    files = [tmp_path / f"film{suffix}" for suffix in (".gif", ".mp4", ".webp")]
    plan = plan_of(runs[run], VideoConfig(kind, steps=5, seed=1, fps=4))._replace(dreams=4)
    done: list[int] = []
    film(runs[run], plan, files, done.append)
    assert done == [1, 2, 3, 4, 5]
    assert sorted(tmp_path.iterdir()) == files
    expected = list(islice(frames(runs[run], plan), 5))
    for file in files:
        found, fps = read(file)
        assert fps == pytest.approx(4)
        assert len(found) == 5
        for frame, other in zip(found, expected, strict=True):
            off = np.abs(frame - other)
            if file.suffix == ".mp4":
                assert off.mean() < 3
            else:
                assert off.max() <= {".gif": GRID / 2, ".webp": 0}[file.suffix]


def test_a_film_is_written_whole_or_not_at_all(tmp_path, runs):
    def stop(done):
        raise KeyboardInterrupt

    files = [tmp_path / f"film{suffix}" for suffix in (".gif", ".mp4", ".webp")]
    with pytest.raises(KeyboardInterrupt):
        film(runs["toy"], plan_of(runs["toy"], VideoConfig()), files, stop)
    assert list(tmp_path.iterdir()) == []


# All kinds.


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_have_even_sides_and_one_size(runs, run, kind):
    """Through beginnings and ends, and whatever pictures and texts there are."""
    config = {} if kind == "real" else {"horizon": 3}
    config |= {"dreams": 4} if kind == "grid" else {}
    made = some(runs[run], 9, kind=kind, agent="uniform", **config)
    assert len({frame.shape for frame in made}) == 1
    assert all(side % 2 == 0 for side in made[0].shape[:2])
    assert any((frame != made[0]).any() for frame in made)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_film(kind):
    def pictures(seed):
        return np.stack(some(make_run("toy"), 6, kind=kind, seed=seed, **few))

    few = {"dreams": 4} if kind == "grid" else {}

    before = torch.get_rng_state()
    first = pictures(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert (pictures(2) == first).all()
    assert (pictures(3) != first).any()


def test_without_a_kind_all_that_there_is_is_shown(runs):
    assert plan_of(runs["cart"], VideoConfig()).kind == "both"
    assert plan_of(runs["recorded"], VideoConfig()).kind == "dream"


def test_a_dream_needs_no_environment(runs, said):
    for kind in ("dream", "grid"):
        some(runs["recorded"], 4, kind=kind)
    assert [part.title for part in said[0].parts] == ["dream"]
    assert len(said[-1].parts) == 16


def test_a_film_is_as_fast_as_the_environment_is_shown(runs):
    def plan(run):
        return plan_of(runs[run], VideoConfig())

    assert (plan("toy").fps, plan("toy").steps) == (2, 60)
    assert (plan("cart").fps, plan("cart").steps) == (30, 300)
    assert plan("numbers").fps == 10
    assert plan("recorded").fps == 10
    slow = control_run("CartPole-v1", action_repeat=5)
    assert plan_of(slow, VideoConfig()).fps == 10
    assert plan_of(slow, VideoConfig(fps=7, steps=5))[1:3] == (5, 7)


# The real game, and the dream of it.


@pytest.mark.parametrize(
    ("kind", "agent", "count"),
    [("real", "uniform", 105), ("both", "policy", 20), ("open-loop", "uniform", 40)],
)
def test_the_real_side_is_the_toy_game_played_by_hand(runs, said, kind, agent, count):
    some(runs["toy"], count, kind=kind, seed=4, agent=agent)
    game, ended, total = ToyGame(), True, 0.0
    for frame in said:
        if ended or (kind == "open-loop" and frame.step == 0):
            _, info = game.reset(seed=4 if frame is said[0] else None)
            assert frame.step == 0
            assert frame.action == "a new game begins"
            words, ended, total = "reward none yet   return 0", False, 0.0
            end, best = [], -fewest_steps(info["ring"], 3, "copy")
            observation = info["ring"][0]
        else:
            action = Action[frame.action.upper()]
            observation, reward, terminated, truncated, info = game.step(action)
            ended, total = terminated or truncated, total + float(reward)
            how = "solved" * terminated + "time is up" * truncated
            plural = "s" * (frame.step > 1)
            end = [f"{how}: {frame.step} step{plural}, return {total:.5g}, best possible {best}"]
            words = f"reward {reward:g}   return {total:.5g}"
        real = frame.parts[0]
        assert real.title == "real"
        assert real.lines == [f"sees {observation}   {words}", *end[: int(ended)]]
        assert (real.picture == draw_ring(np.eye(3)[info["ring"]], info["position"])).all()
    assert [frame.step for frame in said].count(0) >= (1 if kind == "both" else 2)


@pytest.mark.parametrize("run", ["cart", "pixels"])
def test_the_real_side_is_the_environment_played_by_hand(runs, said, run):
    some(runs[run], 40, kind="real", seed=5, agent="uniform")
    env, ended = gymnasium.make("CartPole-v1", render_mode="rgb_array"), True
    for frame in said:
        if ended:
            env.reset(seed=5 if frame is said[0] else None)
            ended = False
        else:
            _, _, terminated, truncated, _ = env.step({"left": 0, "right": 1}[frame.action])
            ended = terminated or truncated
        picture = np.asarray(env.render(), float)
        if run == "pixels":  # as the model sees it
            assert frame.parts[0].picture.shape == (16, 16, 3)
            dark = 255 - picture.reshape(16, 25, 600, 3).mean(1)  # [16, 600, 3], rows only
            seen = 255.0 - frame.parts[0].picture
            rows = np.corrcoef(dark.mean((1, 2)), seen.mean((1, 2)))[0, 1]
            assert rows > 0.95
        else:
            assert (frame.parts[0].picture == picture).all()
    assert [frame.step for frame in said].count(0) >= 2


@pytest.mark.parametrize("run", ["toy", "cart", "codes"])
def test_the_dream_sees_the_first_row_only(runs, said, run):
    some(runs[run], 25, kind="both", agent="uniform")
    waits = False
    for frame in said:
        real, dream, difference = frame.parts
        assert [part.title for part in frame.parts] == ["real", "dream", "difference"]
        if frame.step == 0:
            assert dream.lines == real.lines
            assert difference.lines == ["the dream watches"]
        elif waits:
            assert difference.lines == ["the dream has ended"]
        else:
            said_of_it = ("probability of what happened", "what is seen agrees")
            assert difference.lines[0].startswith(said_of_it)
        waits = dream.lines[-1].startswith(ENDS)
        apart = (real.picture != dream.picture).any(-1)  # [H, W]
        red = difference.picture[..., 0] > difference.picture[..., 1].astype(int) + 30
        assert not (red & ~apart).any()
    assert any(
        frame.parts[1].picture.tobytes() != frame.parts[0].picture.tobytes() for frame in said
    )


@pytest.mark.parametrize("run", ["nested", "numbers"])
def test_worlds_are_compared_by_what_they_show(runs, said, run):
    """Where the environment draws another picture of itself, too; images are shown as they are."""
    some(runs[run], 12, kind="both", agent="uniform")
    for frame in said:
        real, dream, difference = frame.parts
        assert [part.title for part in frame.parts] == ["real", "dream", "difference"]
        assert difference.picture.shape == dream.picture.shape
        assert (real.picture.shape == dream.picture.shape) == (run == "nested")
    differences = [frame.parts[2].picture for frame in said]
    assert any((one[..., 0] > one[..., 1].astype(int) + 30).any() for one in differences)
    assert any("probability of" in frame.parts[2].lines[0] for frame in said)


# Open loops.


@pytest.mark.parametrize(("run", "observed"), [("toy", 1), ("toy", 4), ("cart", 3)])
def test_a_border_tells_whether_the_dream_watches(runs, said, run, observed):
    horizon = 5
    config = {"observed": observed, "horizon": horizon}
    made = some(runs[run], 24, kind="open-loop", agent="uniform", **config)
    begun = 0
    for number, (frame, picture) in enumerate(zip(said, made, strict=True)):
        before = said[number - 1]
        if number and (before.step - begun == observed + horizon - 1 or has_ended(before)):
            assert frame.step == 0
        elif number:
            assert frame.step == before.step + 1
        real, dream, _ = frame.parts
        watches = frame.step < observed
        assert dream.border == (WATCHES if watches else ALONE)
        assert (picture == dream.border).all(-1).sum() > 1_000
        assert (picture == (ALONE if watches else WATCHES)).all(-1).sum() < 50_000
        assert (real.border, dream.title.startswith("dream, watches")) == (None, watches)
        if watches:
            assert dream.lines[0] == real.lines[0]
    assert [frame.step for frame in said].count(0) >= 3
    assert {frame.step >= observed for frame in said} == {True, False}


def has_ended(frame: Said) -> bool:
    return frame.parts[0].lines[-1].startswith(ENDS)


def test_while_it_watches_a_dream_shows_what_is_real(runs, said):
    some(runs["cart"], 14, kind="open-loop", observed=4, horizon=2)
    watching = [frame for frame in said if frame.step < 4]
    assert len(watching) >= 8
    for frame in watching:
        real, dream, difference = frame.parts
        assert np.abs(real.picture.astype(int) - dream.picture).mean() < 0.5
        assert difference.lines == ["the dream watches"]


# Grids.


@pytest.mark.parametrize("run", ["toy", "cart", "recorded"])
def test_dreams_go_on_from_one_start_each_by_its_own_draws(runs, said, run):
    some(runs[run], 14, kind="grid", dreams=4, horizon=4)
    start = said[0].parts[0]
    apart = 0
    for frame, after in pairwise(said):
        cells = frame.parts
        assert len(cells) == 4
        if frame.headline == said[0].headline:
            assert all(same(cell, start) for cell in cells)
        else:
            apart += len({cell.picture.tobytes() for cell in cells})
        for cell, later in zip(cells, after.parts, strict=True):
            assert cell.faded == cell.words.endswith(("the end", "time is up"))
            if cell.faded and after.step > frame.step:
                assert same(cell, later)
        over = all(cell.faded for cell in cells) or frame.step == said[0].step + 4
        assert after.step == (said[0].step if over else frame.step + 1)
    assert apart > 14
    steps = [frame.step for frame in said]
    assert steps.count(steps[0]) >= 3


def same(one: Cell, other: Cell) -> bool:
    return one.words == other.words and (one.picture == other.picture).all()


@pytest.mark.parametrize("observed", [1, 3])
def test_the_start_of_a_grid_is_what_was_really_seen(runs, said, observed):
    some(runs["cart"], 2, kind="grid", dreams=4, seed=6, observed=observed)
    grid = said[0]
    said.clear()
    some(runs["cart"], observed, kind="real", seed=6)
    assert said[-1].step == grid.step == observed - 1
    shown = said[-1].parts[0].picture.astype(int)
    assert all(np.abs(cell.picture - shown).mean() < 0.5 for cell in grid.parts)
    assert all(cell.words == f"return {observed - 1}" for cell in grid.parts)


def test_games_that_are_too_short_to_be_watched_are_told(runs):
    with pytest.raises(RunError, match="no game lasts longer than the --observed 12 rows"):
        some(runs["numbers"], 1, kind="grid", observed=12)


# Words fit.


def test_a_frame_is_as_large_whatever_is_said():
    picture = np.zeros((16, 16, 3), np.uint8)
    long = " ".join(f"{number / 7:.3g}" for number in range(40))
    for count in (1, 2, 3):
        silent = compose("", "", [Panel("", [], picture)] * count, 2)
        spoken = compose(long, long, [Panel(long, [long] * 3, picture, WATCHES)] * count, 2)
        assert silent.shape == spoken.shape
        assert (silent[:, -18:-2] == spoken[:, -18:-2]).all()  # nothing is written there


def test_texts_are_cut_to_their_room():
    assert shortened("left", 22, 200) == "left"
    short = shortened("left " * 40, 22, 200)
    assert short.endswith("…")
    assert 150 < font(22).getlength(short) <= 200


@pytest.mark.parametrize("count", range(1, 30))
def test_a_grid_has_room_for_all(count):
    for size in ((64, 64), (600, 400), (456, 30)):
        columns = columns_for(count, *size)
        assert 1 <= columns <= count
        assert columns * -(-count // columns) - count <= max(2, count // 4)


# Mistakes.


@pytest.mark.parametrize(
    ("run", "config", "message"),
    [
        ("recorded", {"kind": "real"}, "no real environment: film --kind dream or grid"),
        ("recorded", {"kind": "open-loop"}, "no real environment: film --kind dream or grid"),
        ("recorded", {"kind": "grid", "observed": 3}, "leave --observed out"),
        ("cart", {"observed": 3}, "--observed is for --kind open-loop or grid, not for both"),
        ("cart", {"kind": "open-loop", "dreams": 3}, "--dreams is for --kind grid, not for open"),
        ("cart", {"kind": "real", "temperature": 2.0}, "--temperature is for --kind dream or"),
        ("cart", {"kind": "real", "horizon": 9}, "--horizon is for --kind dream or"),
        ("cart", {"kind": "open-loop", "observed": 0}, "--observed must be 1 or more"),
        ("cart", {"fps": 1000.0}, "0.1 to 100 frames a second"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(tmp_path, runs, run, config, message):
    with pytest.raises(RunError, match=message):
        film(runs[run], plan_of(runs[run], VideoConfig(**config)), [tmp_path / "film.gif"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["film.avi"], r"a film is a \.mp4, \.gif, \.webp file"),
        (["film.gif", "film.txt"], r"a film is a \.mp4, \.gif, \.webp file"),
        (["film.gif", "film.gif"], "names a file twice"),
    ],
)
def test_files_that_cannot_be_are_told_before_anything_is_filmed(tmp_path, runs, names, message):
    plan = plan_of(runs["toy"], VideoConfig())
    with pytest.raises(RunError, match=message):
        film(runs["toy"], plan, [tmp_path / name for name in names])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steps": 0}, "--steps must be positive"),
        ({"fps": 0.0}, "--fps must be positive"),
        ({"temperature": -1.0}, "--temperature must be positive"),
        ({"horizon": 0}, "--horizon must be positive"),
        ({"dreams": 0}, "--dreams must be positive"),
        ({"dreams": 101}, "--dreams is at most 100"),
        ({"observed": -1}, "--observed must be 0 or more"),
        ({"seed": -1}, "--seed must be 0 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        VideoConfig(**config)


# The verb.


def test_films_are_named_after_their_kind(tmp_path, runs, monkeypatch):
    folder = new_run(tmp_path / "run", quick(TOY_GAME))
    monkeypatch.setattr(verbs, "_playable", lambda *arguments: runs["toy"])

    def film(config, *files):
        verbs.video(settings.Video(folder.path, files, config), Reporter())

    film(VideoConfig(steps=2))
    film(VideoConfig("open-loop", steps=2))
    film(VideoConfig(steps=2), tmp_path / "film.webp")
    names = sorted(path.name for path in folder.videos.iterdir())
    assert names == ["both.gif", "both.mp4", "open-loop.gif", "open-loop.mp4"]
    assert len(read(tmp_path / "film.webp")[0]) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "no config.json"),
        (["--kind", "opera"], "open-loop"),
        (["--steps", "0"], "must be positive"),
    ],
)
def test_the_command_line_ends_mistakes_with_a_sentence(tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as ended:
        main(["video", str(tmp_path), *more])
    assert ended.value.code == 2
    config = capsys.readouterr()
    assert message in config.out + config.err
