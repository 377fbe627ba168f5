"""Laws of the window's face: events are keys, pictures are on it whole, and it closes tidily."""

import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from faces import assert_same, control_run, frames_in, player_of, toy_run
from PIL import Image

from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play import window
from worldmodel.run_folder import RunError

pygame = pytest.importorskip("pygame")

NAMED = {"left": pygame.K_LEFT, "right": pygame.K_RIGHT, "up": pygame.K_UP, "down": pygame.K_DOWN}
NAMED |= {"space": pygame.K_SPACE, "enter": pygame.K_RETURN, "escape": pygame.K_ESCAPE}
NAMED |= {"f1": pygame.K_F1}


@pytest.fixture(autouse=True)
def _unseen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@contextmanager
def opened(parts, folder, **config):
    player = player_of(parts, folder, **({"seed": 1} | config))
    shown = window.Window(player, window.with_display())
    try:
        shown.turn()
        yield shown
    finally:
        player.close()
        pygame.quit()


def post(kind, **what):
    pygame.event.post(pygame.event.Event(kind, **what))


def key_event(kind, key):
    text = key if len(key) == 1 else {"space": " ", "enter": "\r"}.get(key, "")
    number = NAMED[key] if key in NAMED else pygame.key.key_code(key)
    post(kind, key=number, unicode=text, mod=0)


def press(shown, *keys):
    """Each is pressed and let go."""
    for key in keys:
        key_event(pygame.KEYDOWN, key)
        shown.turn()
        key_event(pygame.KEYUP, key)
        shown.turn()


def pixels(shown, box):
    """[H, W, 3]"""
    surface = pygame.surfarray.array3d(shown.surface).swapaxes(0, 1)
    return surface[box.top : box.bottom, box.left : box.right]


@pytest.mark.parametrize("world", ["both", "real", "dream"])
def test_keys_are_actions_and_commands(world, tmp_path):
    keys = ["right", "up", ".", "4", "space", "]", "f", "left", "b", "y", "down", "r", "+", "x"]
    with opened(toy_run(), tmp_path, world=world) as shown:
        by_hand = player_of(toy_run(), tmp_path, world=world, seed=1)
        for key in keys:
            press(shown, key)
            assert by_hand.press(key)
            by_hand.release(key)
            assert_same(shown.player.moment, by_hand.moment)
            assert shown.player.message == by_hand.message
        assert shown.player.speed == by_hand.speed != 4


@pytest.mark.parametrize("size", [(1280, 720), (900, 500), (200, 100)])
@pytest.mark.parametrize("name", ["CartPole-v1", "Blackjack-v1"])
def test_the_pictures_are_on_it(name, size, tmp_path):
    with opened(control_run(name), tmp_path) as shown:
        shown.surface = pygame.display.set_mode(size, pygame.RESIZABLE)
        press(shown, "1")
        panels = shown.player.panels()
        assert len(shown.places) == len(panels) == 3
        if size == (200, 100):
            return  # there is no room, and no error
        for panel, box in zip(panels, shown.places, strict=True):
            assert box.right <= size[0]
            assert box.bottom <= size[1]
            way = Image.Resampling.BOX if box.width < panel.picture.shape[1] else 0  # 0: nearest
            expected = Image.fromarray(panel.picture).resize((box.width, box.height), way)
            np.testing.assert_array_equal(pixels(shown, box), np.asarray(expected))


def test_keys_that_are_held_act_together_while_time_runs(tmp_path):
    with opened(toy_run(), tmp_path, world="real", speed=60) as shown:
        key_event(pygame.KEYDOWN, "p")
        key_event(pygame.KEYDOWN, "up")
        while shown.player.moment.lead.step < 2:
            shown.turn()
        assert shown.player.moment.action == "up"
        key_event(pygame.KEYUP, "up")
        shown.turn()
        step = shown.player.moment.lead.step
        while not shown.player.moment.lead.first and shown.player.moment.lead.step < step + 2:
            shown.turn()
        assert shown.player.moment.action in ("noop", "")
        press(shown, "right", "p")
        assert not shown.player.running
        moment = shown.player.moment
        pygame.time.wait(40)
        shown.turn()
        assert shown.player.moment is moment


def test_the_pointer_sets_what_is_continuous(tmp_path):
    with opened(control_run("Pendulum-v1"), tmp_path) as shown:
        box = shown.places[0]
        for share in (0.75, 0.0, 0.5):
            at = (box.left + round(share * box.width), box.top + box.height // 2)
            post(pygame.MOUSEBUTTONDOWN, button=1, pos=at)
            shown.turn()
            torque = 4 * (at[0] - box.left) / box.width - 2
            played = shown.player.moment.action.removeprefix("torque ")
            assert float(played) == pytest.approx(torque, abs=1e-2)
            post(pygame.MOUSEBUTTONUP, button=1, pos=at)
            shown.turn()
            assert shown.player.controls.action == 0
        step = shown.player.moment.lead.step
        post(pygame.MOUSEBUTTONDOWN, button=1, pos=(box.left, box.bottom + 1))
        post(pygame.MOUSEBUTTONDOWN, button=3, pos=(box.left, box.top))
        shown.turn()
        assert shown.player.moment.lead.step == step == 3


def test_a_pointer_that_is_dragged_steers_while_time_runs(tmp_path):
    with opened(control_run("Pendulum-v1"), tmp_path, world="real", speed=0.5) as shown:
        press(shown, "p")
        box = shown.places[0]
        post(pygame.MOUSEBUTTONDOWN, button=1, pos=(box.left, box.top))
        post(pygame.MOUSEMOTION, buttons=(1, 0, 0), pos=(box.right - 1, box.top), rel=(0, 0))
        shown.turn()
        assert float(shown.player.controls.action[0]) == pytest.approx(2, abs=0.1)


def test_help_covers_the_game_until_a_key_is_pressed(tmp_path):
    with opened(toy_run(), tmp_path) as shown:
        before = pygame.surfarray.array3d(shown.surface)
        for key in ("?", "f1"):
            press(shown, key)
            assert (pygame.surfarray.array3d(shown.surface) != before).any()
            press(shown, "right")
            assert shown.player.moment.lead.step == 0
        press(shown, "right")
        assert shown.player.moment.lead.step == 1


def test_films_end_when_it_is_closed(tmp_path, monkeypatch, capsys):
    keys = ["v", "right", "up", "v", "v", "left", "q"]

    class Scripted(window.Window):
        def turn(self):
            press_key = keys.pop(0)
            key_event(pygame.KEYDOWN, press_key)
            key_event(pygame.KEYUP, press_key)
            super().turn()

    monkeypatch.setattr(window, "Window", Scripted)
    window.play(toy_run(), PlayConfig(view="window"), tmp_path)
    assert keys == []
    assert frames_in(tmp_path / "played-1.mp4") == 3
    assert frames_in(tmp_path / "played-2.mp4") == 2
    assert "played-2.mp4" in "".join(capsys.readouterr())


@pytest.mark.parametrize("way", ["q", "escape", "the cross"])
def test_it_closes(way, tmp_path):
    with opened(toy_run(), tmp_path) as shown:
        if way == "the cross":
            post(pygame.QUIT)
        else:
            key_event(pygame.KEYDOWN, way)
        shown.run()
        assert shown.quitting


def test_without_pygame_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(RunError, match=r"pip install 'worldmodel-gym\[window\]'.*--view browser"):
        window.play(toy_run(), PlayConfig(), tmp_path)


@pytest.mark.parametrize("driver", [None, "nonsense"])
def test_without_a_desktop_it_says_so(driver, monkeypatch, tmp_path):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    if driver is not None:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    elif sys.platform != "linux":
        pytest.skip("other systems have a desktop")
    with pytest.raises(RunError, match=r"needs a desktop.*--view browser"):
        window.play(toy_run(), PlayConfig(), tmp_path)


@contextmanager
def a_screen(monkeypatch):
    """A display server of the test's own, whose screen nobody sees."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            monkeypatch.setenv("DISPLAY", ":" + server.stdout.readline().decode().strip())
            yield
        finally:
            server.terminate()


def do(*what):
    subprocess.run(["xdotool", *map(str, what)], check=True)


def test_real_keys_and_a_real_pointer(monkeypatch, tmp_path):
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    for name in ("SDL_VIDEODRIVER", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEO_WINDOW_POS", "0,0")
    with a_screen(monkeypatch), opened(control_run("Pendulum-v1"), tmp_path) as shown:
        assert pygame.display.get_driver() == "x11"
        box = shown.places[0]
        do("mousemove", box.left + 3 * box.width // 4, box.top + box.height // 2)
        while not (pygame.mouse.get_focused() and pygame.key.get_focused()):
            shown.turn()
        for step, what in enumerate((["key", "Right"], ["key", "Left"], ["click", 1]), start=1):
            do(*what)
            while shown.player.moment.lead.step < step:
                shown.turn()
            torque = (2, -2, 1)[step - 1]
            assert float(shown.player.moment.action) == pytest.approx(torque, abs=0.02)
        do("key", "q")
        shown.run()
