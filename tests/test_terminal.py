"""Laws of the terminal's face: the player's moments, whole on the screen, whatever the run."""

import asyncio
import io

import numpy as np
import pytest
from faces import assert_same, control_run, frames_in, player_of, toy_run
from PIL import Image
from rich.console import Console

from worldmodel.envs import ring_text
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.commands import COMMANDS
from worldmodel.experiments.show.play.terminal import PlayApp, play, run
from worldmodel.run_folder import RunError

WORLDS = ["both", "real", "dream"]


def screen(app):
    """What is on the screen, as text."""
    console = Console(width=app.size.width, file=io.StringIO(), legacy_windows=False)
    lines = app.screen._compositor.render_strips()
    console.print("\n".join("".join(segment.text for segment in line) for line in lines), end="")
    return console.file.getvalue()


def in_the_terminal(script, folder, parts=None, size=(80, 24), **config):
    player = player_of(parts or toy_run(), folder, **({"seed": 1} | config))

    async def run():
        app = PlayApp(player)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(app, pilot)
        return app

    app = asyncio.run(run())
    player.close()
    return app


async def until(pilot, condition):
    while not condition():
        await pilot.pause(0.02)


@pytest.mark.parametrize("world", WORLDS)
def test_keys_are_actions_and_commands(world, tmp_path):
    keys = ["right", "up", "full_stop", "4", "space", "right_square_bracket", "f", "left", "b"]
    keys += ["y", "down", "r", "plus", "x", "left"]
    named = {"full_stop": ".", "right_square_bracket": "]", "plus": "+"}

    async def script(app, pilot):
        by_hand = player_of(toy_run(), tmp_path, world=world, seed=1)
        assert_same(app.player.moment, by_hand.moment)
        for key in keys:
            await pilot.press(key)
            assert by_hand.press(named.get(key, key))
            by_hand.release()
            assert_same(app.player.moment, by_hand.moment)
            assert app.player.message == by_hand.message
        assert app.player.speed == by_hand.speed != 4

    in_the_terminal(script, tmp_path, world=world)


@pytest.mark.parametrize("world", WORLDS)
def test_everything_fits_on_80_by_24(world, tmp_path):
    async def script(app, pilot):
        await pilot.press("right")
        text = screen(app)
        seen = ["step 1", "right", "reward -1", "return -1", "[", "what the model had expected"]
        seen += ["Turn every cell to equal home", "a bar for each value"]
        seen += ["% ", "seen", "the end", "surprise", "nats", "over time", "? all keys", "q quit"]
        assert [word for word in seen if word not in text] == []
        assert ("─ real" in text, "─ dream" in text) == (world != "dream", world != "real")
        assert ("probability of what happened" in text) == (world == "both")
        await pilot.press("question_mark")
        text = screen(app)
        useless = set() if world == "both" else {"x"} if world == "dream" else set("fb[]")
        useless |= set() if world == "both" else {"y"}
        for key, command in COMMANDS.items():
            assert (command.label in text) == (key not in useless)
        await pilot.press("right")
        assert "step 1" in screen(app)  # the key closed the help

    in_the_terminal(script, tmp_path, world=world)


def test_the_truth_is_told_at_the_end_or_when_asked_for(tmp_path):
    async def script(app, pilot):
        await pilot.press("right")
        assert "the truth" not in screen(app)
        await pilot.press("x")
        truth = app.player.environment.info["ring"][0]
        assert ring_text(np.eye(3)[truth], 1) in screen(app)
        await pilot.press("x")
        assert "the truth" not in screen(app)
        await pilot.press("right", "up")  # this solves the ring of seed 1
        assert app.player.moment.real.terminated
        assert "the truth" in screen(app)
        assert "believed" in screen(app)
        assert "solved: 3 steps, return -3, best possible -3; any action" in screen(app)
        await pilot.press("up")
        assert app.player.moment.lead.first
        assert "the truth" not in screen(app)

    in_the_terminal(script, tmp_path, world="real")


def test_time_runs_by_itself_at_its_speed(tmp_path):
    async def script(app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: app.player.moment.lead.step >= 3)
        clock = app.clock
        await pilot.press("minus")
        assert app.clock is not clock
        await until(pilot, lambda: app.player.moment.lead.step >= 5)
        await pilot.press("p")
        assert app.clock is None
        moment = app.player.moment
        await pilot.pause(0.2)
        assert app.player.moment is moment

    in_the_terminal(script, tmp_path, world="real", speed=10)


def test_the_agent_takes_over_until_somebody_acts(tmp_path):
    async def script(app, pilot):
        await pilot.press("t")
        assert "the agent plays" in screen(app)
        await until(pilot, lambda: app.player.moment.lead.step >= 2)
        await pilot.press("up")
        assert "you play" in screen(app)
        assert app.player.pilot == "human"

    in_the_terminal(script, tmp_path, world="real", speed=10)


def test_a_fork_is_seen_and_left(tmp_path):
    async def script(app, pilot):
        await pilot.press("right", "f", "left")
        assert "imagined alone (1)" in screen(app)
        assert len(app.surprises.nats) == 3
        await pilot.press("b")
        assert "imagined" not in screen(app).splitlines()[0]
        assert len(app.surprises.nats) == 2
        await pilot.press("y")
        assert "the dream watches" in screen(app)

    in_the_terminal(script, tmp_path)


def test_films_have_names_of_their_own_and_end_when_the_game_does(tmp_path):
    async def script(app, pilot):
        await pilot.press("v", "right", "up")
        assert "recording" in screen(app)
        await pilot.press("v", "right", "v", "r", "q")

    app = in_the_terminal(script, tmp_path / "videos")
    assert app._exit
    films = sorted((tmp_path / "videos").iterdir())
    assert [film.name for film in films] == ["played-1.mp4", "played-2.mp4"]
    assert list(map(frames_in, films)) == [3, 2]


def test_a_film_that_cannot_be_written_does_not_end_the_game(tmp_path):
    videos = tmp_path / "videos"
    videos.write_text("no folder")

    async def script(app, pilot):
        await pilot.press("v")
        assert "cannot be written" in " ".join(screen(app).split())
        assert "cannot be written" in app.player.message
        await pilot.press("right")
        assert app.player.moment.lead.step == 1

    in_the_terminal(script, videos)


# Pictures.


def colours_of(app):
    """Of the first pane's half blocks: the upper and the lower pixels, [H, W, 3]."""
    region = app.panes[0].picture.region
    lines = app.screen._compositor.render_strips()[region.y : region.bottom]
    rows = []
    for line in lines:
        cells = [segment for segment in line.crop(region.x, region.right)]
        blocks = [(s.style, len(s.text)) for s in cells if s.text.startswith("▀")]
        if blocks:
            for end in ("color", "bgcolor"):
                row = [
                    getattr(style, end).triplet for style, count in blocks for _ in range(count)
                ]
                rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(("size", "count"), [((160, 48), 3), ((80, 24), 2), ((60, 24), 1)])
def test_pictures_are_half_blocks_side_by_side(size, count, tmp_path):
    async def script(app, pilot):
        await pilot.press("right")
        frame = app.player.picture("real")
        pixels = colours_of(app)
        height, width = pixels.shape[:2]
        assert height == width  # as the picture
        if height < len(frame):
            small = Image.fromarray(frame).resize((width, height), Image.Resampling.BOX)
            np.testing.assert_array_equal(pixels, np.asarray(small))
        else:
            np.testing.assert_array_equal(pixels, frame)
        shown = [pane.border_title for pane in app.panes if pane.display]
        assert shown == ["real", "dream", "difference"][:count]
        assert ("tab next view" in screen(app)) == (count < 3)
        await pilot.press("tab")
        assert app.panes[0].border_title == "dream"
        await pilot.press("tab", "tab")
        assert app.panes[0].border_title == "real"

    in_the_terminal(script, tmp_path, control_run("CartPole-v1", pixels=32), size)


def test_without_a_terminal_there_is_no_playing(capsys, tmp_path):
    with pytest.raises(RunError, match="in a terminal needs one"):
        play(toy_run(), PlayConfig(), tmp_path)


def test_an_error_leaves_the_terminal_before_it_is_told(tmp_path, capsys):
    """No page of the user interface's own; one sentence follows where the command ends."""
    player = player_of(toy_run(), tmp_path)

    def fail(*arguments):
        raise RunError("pygame is not installed")

    player.text = player.picture = fail
    with pytest.raises(RunError, match="pygame"):
        run(PlayApp(player), headless=True)
    player.close()
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
