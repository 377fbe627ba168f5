"""Laws of the browser's face: the server, by visitors without a browser, and the page in one."""

import asyncio
import errno
import http.client
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs worldmodel-gym[browser]")
pytest.importorskip("uvicorn", reason="needs worldmodel-gym[browser]")
websockets = pytest.importorskip("websockets", reason="needs worldmodel-gym[browser]")

from browsers import chromium, driver_path, key, viewport  # noqa: E402
from faces import control_run, toy_run  # noqa: E402
from visitors import TOKEN, Visitor, eventually, hosted  # noqa: E402

from worldmodel.experiments import load  # noqa: E402
from worldmodel.experiments.runs.processor import resident  # noqa: E402
from worldmodel.experiments.show.config import PlayConfig  # noqa: E402
from worldmodel.experiments.show.play import browser, commands, server, workers  # noqa: E402
from worldmodel.experiments.show.play.game import Game, Input, encoded, snapshots  # noqa: E402
from worldmodel.experiments.show.play.panels import difference_picture  # noqa: E402
from worldmodel.experiments.show.play.player import Player  # noqa: E402
from worldmodel.progress import Reporter  # noqa: E402
from worldmodel.run_folder import RunError  # noqa: E402

KEYS = ["right", "up", "left", "down", "space", "3", "1", "y", "right", "f", "up", "b", "down"] * 2


@pytest.fixture(scope="module")
def parts():
    return toy_run()


@pytest.fixture(scope="module")
def at(parts):
    with hosted(parts) as found:
        yield found


def alone(parts, seed, keys):
    """What a visitor is to be told, who plays these keys."""
    player = Player(parts, "both", seed)
    config = [(snapshots(player), player.moment.action)]
    for name in keys:
        player.press(name)
        config.append((snapshots(player), player.moment.action))
    player.close()
    return config


def asked(address, **headers):
    """A page's status and text."""
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


# Who comes in.


def test_nothing_is_answered_without_the_token(at):
    status, page, headers = asked(at.address)
    assert (status, b"<canvas" in page) == (200, True)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path in ("/", "/?token=wrong", "/?token=%C3%A4", "/recording/x.mp4", "/play", "/nowhere"):
        status, page, _ = asked(f"http://{at.netloc}{path}")
        assert (status, b"whole address" in page) == (403, True)
    for token in ("", "wrong", TOKEN + "x"):
        with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
            Visitor(at, token)


def test_the_page_of_a_stranger_does_not_come_in(at):
    strangers = ("http://evil.example", f"http://127.0.0.1:{at.port + 1}", "null", "http://[")
    for origin in (*strangers, f"chrome-extension://{at.netloc}", at.netloc):
        with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
            Visitor(at, origin=origin)
    assert asked(at.address, Host="evil.example")[0] == 403
    assert asked(at.address, Host=f"evil.example@{at.netloc}")[0] == 403
    assert asked(at.address, Host="localhost")[0] == 200


def test_every_answer_is_for_its_own_page_alone(at):
    for path in ("/", f"/?token={TOKEN}", f"/nowhere?token={TOKEN}", "/recording/x.mp4"):
        headers = asked(f"http://{at.netloc}{path}")[2]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"]


def test_who_sends_no_request_is_disconnected(at, monkeypatch):
    """Silence, a byte now and then, and silence after an answer; games go on."""
    monkeypatch.setattr(server, "HEADER", 0.3)
    visitor = Visitor(at)
    visitor.frame()
    host, port = at.netloc.split(":")
    sockets = [socket.create_connection((host, int(port)), timeout=30) for _ in range(3)]
    whole = f"GET /?token={TOKEN} HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n"
    sockets[1].sendall(b"GET /")
    sockets[2].sendall(whole.encode() + b"GET /")
    for each in sockets:
        with each, suppress(ConnectionResetError):
            while each.recv(65_536):  # waits 30 seconds at most, and raises a TimeoutError
                pass
    assert visitor.press("right")["action"] == "right"
    visitor.leave()


def test_there_are_too_many_connections_once(capsys):
    """Said in one line, however often; other errors of the loop are left to asyncio."""
    heard = []
    loop = type("Loop", (), {"default_exception_handler": staticmethod(heard.append)})
    server.say_once.cache_clear()
    full = {"exception": OSError(errno.EMFILE, "Too many open files")}
    for _ in range(3):
        server.reported(loop, full)
    assert capsys.readouterr().err.count("too many connections") == 1
    other = {"message": "other"}
    server.reported(loop, other)
    assert heard == [other]


def test_there_is_room_for_so_many(parts):
    with hosted(parts, visitors=1, seed=3) as at:
        first = Visitor(at)
        first.frame()
        second = Visitor(at)
        assert second.frame()["type"] == "full"
        with pytest.raises(websockets.exceptions.ConnectionClosedOK):
            second.frame()
        first.leave()
        assert eventually(lambda: not at.sessions.visits)
        again = Visitor(at)
        assert (again.frame()["worlds"], "") == alone(parts, 4, [])[0]
        again.leave()


def test_idle_visitors_are_told_and_leave(parts):
    with hosted(parts, idle=0.3) as at:
        visitor = Visitor(at)
        assert visitor.frame()["type"] == "state"
        config = visitor.frame()
        assert (config["type"], "key" in config["text"]) == ("idle", True)
        assert eventually(lambda: not at.sessions.visits)


# Games.


def test_games_of_visitors_are_strangers(parts):
    with hosted(parts, seed=5) as at:
        all_of_them = [Visitor(at) for _ in range(3)]
        config = [[(visitor.frame()["worlds"], "")] for visitor in all_of_them]
        keys = [KEYS[shift:] for shift in range(3)]
        for turn in range(len(KEYS)):
            for visitor, own, heard in zip(all_of_them, keys, config, strict=True):
                if turn < len(own):
                    frame = visitor.press(own[turn])
                    heard.append((frame["worlds"], frame["action"]))
        for number, own in enumerate(keys):
            assert config[number] == alone(parts, 5 + number, own)
        for visitor in all_of_them:
            visitor.leave()


def test_pictures_are_those_of_the_player(parts, at):
    visitor = Visitor(at)
    visitor.frame()
    number = at.sessions.came - 1
    for name in ("right", "up", "x", "down"):
        visitor.press(name)
        player = Player(parts, "both", number)
    game = at.sessions.workers.all[0].registry.games[number]
    for side in ("real", "dream"):
        assert visitor.pictures[side] == encoded(game.player.picture(side))
    visitor.leave()
    player.close()


def test_who_does_not_look_misses_frames_but_no_step(at):
    visitor = Visitor(at)
    last = visitor.frame(acknowledged=False)
    for _ in range(20):
        visitor.say({"type": "press", "key": "1"})
    seen = [visitor.frame(acknowledged=False)]
    game = at.sessions.workers.all[0].registry.games[at.sessions.came - 1]
    assert eventually(lambda: game.happened == 21)
    visitor.say({"type": "got", "number": seen[-1]["number"]})
    newest = visitor.frame()
    assert newest["number"] == last["number"] + 2
    assert newest["happened"] == 21
    assert len(seen[0]["surprises"]) + len(newest["surprises"]) == 20
    visitor.leave()


def test_who_left_is_not_played_to_the_end(parts):
    """The keys that wait are dropped, and the seat is free at once."""
    with hosted(parts, visitors=1) as at:
        visitor = Visitor(at)
        visitor.frame()
        game = at.sessions.workers.all[0].registry.games[0]
        play, played = game.play, []

        def slow(*given):
            time.sleep(0.05)
            played.append(given)
            return play(*given)

        game.play = slow
        for _ in range(210):
            visitor.say({"type": "press", "key": "1"})
        assert eventually(lambda: len(played) > 2)
        visitor.leave()
        before = len(played)
        assert eventually(lambda: not at.sessions.visits)
        assert len(played) < before + 20
        again = Visitor(at)
        assert again.frame()["type"] == "state"
        again.leave()


def test_no_key_stays_down_though_its_release_is_dropped():
    async def visited():
        visit = server.Visit(None, 0, None, 1.0)
        for number in range(3 * server.INBOX):
            visit._put(Input("press" if number % 2 else "release", "left"))
        return visit

    visit = asyncio.run(visited())
    assert len(visit.inbox) == server.INBOX + 1
    assert visit.inbox[-1] == Input("release")


def test_forks_are_bounded(parts, monkeypatch):
    monkeypatch.setattr(commands, "MOST_FORKS", 3)
    player = Player(parts)
    for _ in range(5):
        player.press("f")
    assert len(player.forks) == 3
    assert "b goes back" in player.message
    player.close()


def test_time_runs_without_a_key_and_stops(at):
    visitor = Visitor(at)
    visitor.frame()
    for _ in range(3):
        visitor.press("+")
    assert visitor.press("p")["running"]
    happened = [visitor.frame()["happened"] for _ in range(5)]
    assert happened == sorted(set(happened))
    visitor.say({"type": "press", "key": "p"})
    while visitor.frame()["running"]:
        pass
    visitor.leave()


def test_beats_do_not_drift_nor_pile_up():
    beat = server.Beat()
    assert not beat.due(0.0)
    beat.follow(True, 4.0, 0.0)
    assert [beat.due(now) for now in (0.2, 0.26, 0.49, 0.51)] == [False, True, False, True]
    assert beat.next == 0.75
    assert beat.due(3.0)  # late: once, not nine times
    assert beat.due(3.0)
    assert not beat.due(3.2)
    beat.follow(True, 1.0, 3.2)
    assert beat.next == pytest.approx(4.2)
    beat.follow(False, 1.0, 3.2)
    assert not beat.due(1e9)


# Harm.

MALFORMED = [
    "",
    "left",
    "[]",
    "null",
    "3",
    '"press"',
    "{}",
    '{"type": "press"}',
    '{"type": "press", "key": 3}',
    '{"type": "point", "x": "0", "y": 0}',
    '{"type": "point", "x": NaN, "y": 0}',
    '{"type": "point", "x": Infinity, "y": 1e999}',
    '{"type": "got", "number": "7"}',
    '{"type": "got", "number": 1e99}',
    '{"type": ["press"]}',
    '{"type": "release", "key": {}}',
    "[" * 2_000,
    b"\x00\xff",
    b"",
    '{"type": "press", "key": "' + "a" * 3_000,
]
STRANGE_BUT_FINE = [
    {"type": "press", "key": "no such key"},
    {"type": "release", "key": "left"},
    {"type": "got", "number": 10**30},
    {"type": "got", "number": -5},
    {"type": "point", "x": 1e8, "y": -1e8},
]


def test_what_is_no_message_is_left_alone(parts, at):
    visitor, other = Visitor(at), Visitor(at)
    number = at.sessions.came - 2
    visitor.frame()
    other.frame()
    for turn in range(server.STRANGE):
        visitor.say(MALFORMED[turn % len(MALFORMED)])
    for message in STRANGE_BUT_FINE:
        visitor.say(message)
    config = visitor.press("right")
    assert (config["worlds"], config["action"]) == alone(parts, number, ["right"])[1]
    visitor.say("one more")
    assert visitor.frame()["type"] == "strange"
    assert other.press("up")["action"] == "up"
    other.leave()


def test_who_says_too_much_at_once_is_shut_out(at):
    visitor = Visitor(at)
    visitor.frame()
    visitor.say("x" * 100_000)
    with pytest.raises(websockets.exceptions.ConnectionClosedError):
        visitor.frame()
    assert eventually(lambda: not at.sessions.visits)


def test_who_vanishes_leaves_nothing_behind(at):
    before = set(at.sessions.folder.iterdir())
    registry = at.sessions.workers.all[0].registry
    closed = []
    for _ in range(3):
        visitor = Visitor(at)
        visitor.frame()
        assert visitor.press("v")["recording"]
        game = list(registry.games.values())[-1]
        close = game.player.environment.close
        game.player.environment.close = lambda c=close, g=game: (closed.append(g), c())
        for _ in range(5):
            visitor.say({"type": "press", "key": "1"})
        visitor.vanish()
    assert eventually(lambda: not at.sessions.visits)
    assert len(closed) == 3
    assert not registry.games
    assert set(at.sessions.folder.iterdir()) == before


def test_a_game_that_breaks_is_told_and_harms_nobody(at, capsys):
    visitor, other = Visitor(at), Visitor(at)
    visitor.frame()
    other.frame()
    game = at.sessions.workers.all[0].registry.games[at.sessions.came - 2]
    game.player.step = lambda: 1 / 0
    config = visitor.press("1")
    assert (config["type"], "division" in config["text"]) == ("broken", True)
    assert other.press("up")["action"] == "up"
    assert "ZeroDivisionError" in capsys.readouterr().err
    other.leave()


def test_memory_is_flat(parts):
    with hosted(parts, world="real") as at:
        visitor = Visitor(at)
        visitor.frame()
        sizes = []
        for count in (100, 200, 200):
            for turn in range(count):
                visitor.press("1" if turn % 2 else "2")
            sizes.append(resident())
        visitor.leave()
    assert sizes[-1] - sizes[0] < 2e6


# Recordings.


def test_a_recording_is_what_was_shown(parts, at, tmp_path):
    visitor = Visitor(at)
    visitor.frame()
    game = at.sessions.workers.all[0].registry.games[at.sessions.came - 1]
    assert visitor.press("v")["recording"]
    frames = [game.player.frame()]
    for name in ("right", "up", "left"):
        visitor.press(name)
        frames.append(game.player.frame())
    config = visitor.press("v")
    name = config["films"][0]
    assert config["message"] == f"recorded: {name}"
    status, film, headers = asked(at.recording(name))
    assert (status, headers["Content-Type"]) == (200, "video/mp4")
    assert_shows(film, frames, tmp_path)
    assert asked(at.recording("other.mp4"))[0] == 404
    assert asked(at.recording("..%2F..%2Fetc%2Fpasswd"))[0] == 404
    visitor.leave()
    assert eventually(lambda: is_gone(at.recording(name)))


def is_gone(url):
    try:
        return asked(url)[0] == 404
    except http.client.IncompleteRead:  # removed while it is sent
        return False


def assert_shows(film, frames, folder):
    """Frames as they were but for the codec's losses."""
    (folder / "film.mp4").write_bytes(film)
    decoded = iio.imread(folder / "film.mp4", plugin="FFMPEG")
    assert len(decoded) == len(frames)
    for got, went_in in zip(decoded, frames, strict=True):
        assert np.abs(got.astype(float) - went_in).mean() < 3


def test_a_server_that_ends_does_not_wait_for_a_slow_game(parts, capfd, monkeypatch):
    monkeypatch.setattr(server, "FAREWELL", 0.2)
    with hosted(parts) as at:
        visitor = Visitor(at)
        visitor.frame()
        game = at.sessions.workers.all[0].registry.games[0]
        play, begun = game.play, threading.Event()

        def slow(*given):
            begun.set()
            time.sleep(1.0)
            return play(*given)

        game.play = slow
        visitor.say({"type": "press", "key": "1"})
        assert begun.wait(60)
    assert "Traceback" not in capfd.readouterr().err


def test_recordings_are_few_and_end_by_themselves(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.show.play.game.FILM_FRAMES", 3)
    monkeypatch.setattr("worldmodel.experiments.show.play.game.FILMS", 2)
    game = Game(parts, PlayConfig(), 0, tmp_path / "own")
    for _ in range(3):
        game.play([Input("press", "v")], False, False)
        for _ in range(2):
            reply = game.play([Input("press", "right")], False, False)
        assert game.player.film is None
    assert len(reply.films) == 2
    assert sorted(reply.films.values()) == sorted((tmp_path / "own").iterdir())
    game.close()
    assert not (tmp_path / "own").exists()


# Beginnings and ends.


def test_a_port_that_is_taken_and_an_address_that_is_none():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port}.*--port"):
            browser.bound(PlayConfig(port=port))
    with pytest.raises(RunError, match="no address"):
        browser.bound(PlayConfig(host="no such host", port=0))
    with pytest.raises(RunError, match="choose another"):
        browser.bound(PlayConfig(host="192.0.2.1", port=0))


def test_without_shared_memory_one_is_told_how_many_can_play(parts, monkeypatch):
    def refuse(*arguments):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(RunError, match=r"/dev/shm.*--visitors 8"):
        workers.Workers(parts, PlayConfig(visitors=9))


def test_missing_packages_are_named(parts, monkeypatch):
    import worldmodel.experiments.show.play

    monkeypatch.delattr(worldmodel.experiments.show.play, "server")
    monkeypatch.delitem(sys.modules, "worldmodel.experiments.show.play.server")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(RunError, match=r"pip install 'worldmodel-gym\[browser\]'"):
        browser.play(parts, PlayConfig(port=0), Path("run/videos"))


SERVE = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from faces import toy_run
from worldmodel.experiments.show.play.browser import play
from worldmodel.experiments.show.config import PlayConfig
if __name__ == "__main__":
    play(toy_run(), PlayConfig(port=0, seed=3, visitors=9), Path("a run/videos"))
"""


def test_processes_play_the_same_games_and_ctrl_c_ends_them(parts, tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(SERVE)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    address = process.stdout.readline().split()[-1]
    netloc, token = address.removeprefix("http://").split("/?token=")
    at = type("At", (), {"netloc": netloc})
    visitors = [Visitor(at, token) for _ in range(3)]
    config = [[(visitor.frame()["worlds"], "")] for visitor in visitors]
    for key_ in KEYS[:8]:
        for visitor, heard in zip(visitors, config, strict=True):
            frame = visitor.press(key_)
            heard.append((frame["worlds"], frame["action"]))
    assert config == [alone(parts, 3 + number, KEYS[:8]) for number in range(3)]
    assert len(list(tmp_path.glob("worldmodel-*/*"))) == 3
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "the games are over" in out
    assert not list(tmp_path.glob("worldmodel-*"))


# In a browser.

in_a_browser = pytest.mark.skipif(driver_path() is None, reason="needs Chromium and its driver")


@pytest.fixture(scope="module")
def chrome():
    pytest.importorskip("selenium", reason="needs selenium")
    with chromium() as driver:
        yield driver


class Page:
    """The page, as a person sees it."""

    def __init__(self, driver, at):
        self.driver, self.at = driver, at
        driver.get_log("browser")
        driver.get(at.address)
        assert eventually(lambda: self.ask("state !== null"))

    def ask(self, expression):
        return self.driver.execute_script(f"return {expression}")

    def press(self, name):
        """The state after a key."""
        before = self.ask("state.number")
        key(self.driver, name)
        assert eventually(lambda: self.ask("Number(document.body.dataset.frame)") > before)
        return self.ask("state")

    def text(self, selector):
        return self.driver.find_element("css selector", selector).text

    def pixels(self, side):
        script = """
        const canvas = document.querySelector(`#${arguments[0]} canvas`);
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, canvas.height, Array.from(data)];
        """
        width, height, data = self.driver.execute_script(script, side)
        return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]

    def assert_quiet(self):
        """Nothing was complained about, and nobody else was asked."""
        assert self.driver.get_log("browser") == []
        asked = self.ask("performance.getEntries().map(entry => entry.name)")
        elsewhere = [name for name in asked if "://" in name and self.at.netloc not in name]
        assert elsewhere == []


def solution(at, number):
    """The keys that make all cells of a visitor's ring equal home."""
    ring = at.sessions.workers.all[0].registry.games[number].player.environment.info["ring"][0]
    turns = [["right"] + ["up"] * int((ring[0] - value) % 3) for value in ring[1:]]
    keys = [key for turn in turns for key in turn]
    while keys[-1] == "right":
        keys.pop()
    return keys


@in_a_browser
def test_a_whole_toy_game_in_a_browser(chrome, parts, at, tmp_path):
    page = Page(chrome, at)
    assert "Turn every cell to equal home" in page.text("#purpose")
    assert "as the model believes it" in page.text("#real h2")
    is_grey = "document.getElementById('back').getAttribute('aria-disabled')"
    number = at.sessions.came - 1
    keys = solution(at, number)
    config = [page.ask("state"), *map(page.press, keys)]
    assert [(t["worlds"], t["action"]) for t in config] == alone(parts, number, keys)
    assert [t["worlds"]["real"]["end"] for t in config] == [""] * len(keys) + ["solved"]
    assert page.text("#real .end") == "solved"
    assert page.text("#said").startswith(f"solved: {len(keys)} steps, return -{len(keys)}, best ")
    assert "any action" in page.text("#said")
    assert page.press("left")["worlds"]["real"]["step"] == 0
    keys = ["right", "up", "1"]
    for name in keys:
        page.press(name)
    assert page.text("#headline").startswith(f"Step {len(keys)}: ")
    assert page.press("y")["watching"]
    assert "watches" in page.text("#line")
    reality = page.ask("state.worlds.real")
    assert page.ask(is_grey) == "true"
    assert page.press("f")["forks"] == 1
    assert page.ask(is_grey) == "false"
    assert page.press("up")["worlds"]["real"] == reality
    assert page.press("b")["forks"] == 0
    assert "back at the fork" in page.text("#said")
    assert page.press("t")["pilot"] == "agent"
    assert page.ask("document.getElementById('agent').getAttribute('aria-pressed')") == "true"
    assert eventually(lambda: page.ask("state.action") != "")
    while page.press("t")["running"]:
        pass
    assert page.press("v")["recording"]
    page.press("right")
    name = page.press("v")["films"][0]
    chrome.find_element("css selector", "#films a").click()
    file = chrome.downloads / name
    assert eventually(file.exists)
    (tmp_path / "film.mp4").write_bytes(file.read_bytes())
    assert len(iio.imread(tmp_path / "film.mp4", plugin="FFMPEG")) == 2
    page.assert_quiet()


@in_a_browser
def test_buttons_work_and_phones_are_wide_enough(chrome, at):
    viewport(chrome, 390, 844, phone=True)
    page = Page(chrome, at)
    assert page.ask("document.documentElement.scrollWidth") <= 390
    buttons = chrome.find_elements("css selector", "button[data-key]")
    assert len(buttons) == 5 + 14
    assert all(button.text or button.accessible_name for button in buttons)
    for selector, key_, value in (
        ('[data-key="up"]', "action", "up"),
        ("#fork", "forks", 1),
        ("#back", "forks", 0),
        ("#hotter", "temperature", 1.1),
        ("#random", "pilot", "random"),
        ("#random", "pilot", "human"),
    ):
        chrome.find_element("css selector", selector).click()
        assert eventually(lambda k=key_, v=value: page.ask("state")[k] == v), selector
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.assert_quiet()


@in_a_browser
def test_who_is_one_too_many_is_told_and_tries_again(chrome, parts):
    with hosted(parts, visitors=1) as at:
        first = Visitor(at)
        first.frame()
        chrome.get(at.address)
        assert eventually(
            lambda: chrome.execute_script("return document.querySelector('#over').open")
        )
        assert "no room" in chrome.find_element("id", "why").text.lower()
        first.leave()
        assert eventually(lambda: not at.sessions.visits)
        chrome.find_element("css selector", "#over button").click()
        assert eventually(lambda: chrome.execute_script("return state !== null"))
        assert not chrome.execute_script("return document.querySelector('#over').open")
        chrome.get("about:blank")


@pytest.fixture(scope="module")
def pixels_run(tmp_path_factory):
    """CartPole seen as 64 x 64 pixels; hardly trained."""
    pytest.importorskip("pygame", reason="needs worldmodel-gym[classic-control]")
    from worldmodel.experiments.cli.main import main

    run = tmp_path_factory.mktemp("runs") / "pixels"
    config = ["--env", "CartPole-v1", "--pixels", "64", "--grayscale", "--quick"]
    main(["train", "control", "--out", str(run), *config])
    return run


def test_the_bench_finds_that_games_are_strangers(pixels_run):
    from worldmodel.experiments.bench import visitors
    from worldmodel.experiments.bench.settings import VisitorsSettings

    result = visitors.run(VisitorsSettings(pixels_run, 2, 1.0, 5.0), Reporter())
    assert (result["games_as_if_alone"], result["keys"]) == (2, 10)
    assert visitors.tables(result)[0].row_count == 9


@in_a_browser
def test_a_whole_episode_of_pixels_in_a_browser(chrome, pixels_run):
    pixels = load(pixels_run)
    with hosted(pixels) as at:
        page = Page(chrome, at)
        keys, state = [], page.ask("state")
        while not state["worlds"]["real"]["end"]:
            keys.append("right")
            state = page.press("right")
        assert (state["worlds"], state["action"]) == alone(pixels, 0, keys)[-1]
        real, dream = page.pixels("real"), page.pixels("dream")
        game = at.sessions.workers.all[0].registry.games[0]
        assert (real == game.player.picture("real")).all()
        assert (dream == game.drawn["dream"]).all()
        apart = difference_picture(real, dream)
        assert np.abs(page.pixels("apart").astype(int) - apart).max() <= 1
        assert (
            chrome.execute_script(
                "return getComputedStyle(document.querySelector('#real canvas')).imageRendering"
            )
            == "pixelated"
        )
        assert page.press("right")["worlds"]["real"]["step"] == 0
        page.assert_quiet()
        chrome.get("about:blank")
        assert eventually(lambda: not at.sessions.visits)


def torque_of(action):
    """The number in the words of an action."""
    return float(action.removeprefix("torque ")) if action else math.nan


@in_a_browser
def test_a_pointer_on_the_picture_steers_numbers(chrome):
    pytest.importorskip("pygame", reason="needs worldmodel-gym[classic-control]")
    from selenium.webdriver import ActionChains

    with hosted(control_run("Pendulum-v1")) as at:
        page = Page(chrome, at)
        assert page.text("#pointing")
        picture = chrome.find_element("css selector", "#real canvas")
        half = min(picture.size.values()) / 2  # of what is drawn, which is square
        for torque in (1.0, -2.0):
            across = round(half * torque / 2)
            ActionChains(chrome).move_to_element_with_offset(picture, across, 0).click().perform()
            near = pytest.approx(torque, abs=0.05)
            assert eventually(lambda near=near: torque_of(page.ask("state.action")) == near)
        page.assert_quiet()
        chrome.get("about:blank")
        assert eventually(lambda: not at.sessions.visits)
