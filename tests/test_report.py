"""Laws of reports: one page, whole, that needs nothing but itself and says what was found."""

import base64
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from command_line import assert_refused, worldmodel
from runs import train

from worldmodel.agents import AgentConfig
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.measure.calibration import Calibration, reliability, uniformity
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.rl.config import TOY_GAME, EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.rl.run import load_run
from worldmodel.experiments.runs.command import command_of, settings
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.show.play.player import Player
from worldmodel.experiments.show.report import charts, evaluated, films, page, sections
from worldmodel.experiments.show.report.kinds import Mean, Reached
from worldmodel.files import DamagedError, read_json, write_json
from worldmodel.run_folder import RunError, RunFolder

FRAMES, DREAMS = 4, 1
VOID = {"meta", "br", "img"}
CARTPOLE = quick(RLConfig(EnvironmentConfig("CartPole-v1"), agent=AgentConfig(seed=3)))
TOY = quick(replace(TOY_GAME, threads=1))


class Parsed(HTMLParser):
    """A page, read; every element that is opened is closed, and inside of its own."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.words: list[tuple[str, str]] = []  # the element that they stand in, and they
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(word for where, word in self.words if where != "style")

    @property
    def numbers(self):
        return {float(attributes["value"]) for attributes in self.all("data")}


def test_when_it_learned_stands_in_the_run_not_in_the_times_of_its_files(runs, tmp_path):
    made, _ = runs
    saved = made["toy"].values()["saved"]
    copy = tmp_path / "copy"
    shutil.copytree(made["toy"].path, copy)
    for file in copy.rglob("*.json"):
        os.utime(file, (0, 0))
    assert worldmodel("report", copy).returncode == 0
    found = Parsed((copy / "report.html").read_text())
    assert found.all("time")[0]["datetime"] == saved


def test_losses_of_densities_are_explained(runs):
    made, _ = runs
    said = DENSITIES.capitalize()
    texts = {name: (run.path / "report.html").read_text() for name, run in made.items()}
    assert {name: said in text for name, text in texts.items()} == {
        "cartpole": True,
        "toy": False,
        "offline": True,
    }


def trained(path: Path, config: RLConfig) -> RunFolder:
    """A run that was trained, and not evaluated yet."""
    folder = new_run(path, config)
    train(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(films, "FRAMES", FRAMES)
        patch.setattr(films, "DREAMS", DREAMS)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs, by name, and what `report` said when it was asked first."""
    path = tmp_path_factory.mktemp("runs")
    made = {
        "cartpole": trained(path / "cartpole", CARTPOLE),
        "toy": trained(path / "toy", TOY),
    }
    assert worldmodel("export", path / "cartpole", "--out", path / "data").returncode == 0
    offline = replace(CARTPOLE, environment=EnvironmentConfig(), data=str(path / "data"))
    made["offline"] = trained(path / "offline", offline)
    said = {}
    for name, run in made.items():
        result = worldmodel("report", run.path)
        assert result.returncode == 0, result.stderr
        said[name] = result.stderr
    return made, said


NAMES = ["cartpole", "toy", "offline"]


@pytest.fixture(scope="module")
def pages(runs):
    return {name: (run.path / "report.html").read_text() for name, run in runs[0].items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_can_be_read(pages, name):
    found = Parsed(pages[name])
    names = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(names) == len(set(names))
    links = [a["href"] for a in found.all("a")]
    links += [a.get("xlink:href", a.get("href")) for a in found.all("use")]
    links += re.findall(r"url\(([^)]*)\)", pages[name])
    assert {link.removeprefix("#") for link in links} <= set(names)
    headings = [word for where, word in found.words if where == "h2"]
    assert headings == list(sections.TITLES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_needs_nothing_but_itself(pages, name):
    text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", pages[name])
    text = re.sub(r"data:[\w/]+;base64,[\w+/=]+", "data:", text)
    assert not re.search(r"https?:|ftp:|@import|<link|<script|<iframe|<object|<base", text)
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r'\b(src|href|poster|action|data)="(?!#|data:)', text)
    assert "default-src 'none'" in Parsed(pages[name]).all("meta")[1]["content"]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_tables_and_films_are_described(pages, name):
    found = Parsed(pages[name])
    if charts.available():
        titles = {a["id"] for a in found.all("title") if "id" in a}
        assert {svg["aria-labelledby"] for svg in found.all("svg")} == titles
        assert len(titles) >= 5
    assert all(video["aria-label"] for video in found.all("video"))
    assert len(found.all("caption")) == len(found.all("table")) > 5
    assert all("scope" in head for head in found.all("th"))


def decoded(video, tmp_path):
    """The frames of a film in a page, [n, H, W, 3]."""
    kind, content = video["src"].split(",")
    assert kind == "data:video/mp4;base64"
    path = tmp_path / "film.mp4"
    path.write_bytes(base64.b64decode(content))
    frames = imageio_ffmpeg.read_frames(str(path))
    width, height = next(frames)["size"]
    return np.stack([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in frames])


@pytest.mark.parametrize("name", NAMES)
def test_films_have_the_frames_that_went_in(pages, tmp_path, name):
    videos = Parsed(pages[name]).all("video")
    assert len(videos) == DREAMS + (name != "offline")
    for video in videos:
        frames = decoded(video, tmp_path)
        size = int(video["height"]), int(video["width"])
        assert frames.shape == (FRAMES, *size, 3)
        assert frames.std() > 1
        assert video["poster"].startswith("data:image/png;base64,")


def test_a_film_is_of_the_game_that_is_played(runs, tmp_path):
    run = load_run(runs[0]["cartpole"])[0]
    shown = films.film(run, "both", 3, "words")
    player = Player(run, "both", 3, "agent")
    source = {"src": "data:video/mp4;base64," + base64.b64encode(shown.mp4).decode()}
    for frame in decoded(source, tmp_path):
        assert np.abs(frame.astype(float) - player.frame()).mean() < 3
        player.step()
    player.close()


def numbers_of(result) -> list[float]:
    """What a page shows of what `evaluate` found."""
    shown = [result["real_steps_used"], result["seed"]]
    shown += [result[key] for key in ("optimal_return", "random_return") if key in result]
    for world in ("real", "dream"):
        shown += [result[f"{world}_return_{key}"] for key in ("mean", "iqm")]
        shown += result[f"{world}_return_ci95"] or []
    for part in result["open_loop"]["by_key"].values():
        shown += part["error"] + part["error_as_before"]
    return [value for value in shown if value is not None]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_that_were_found(runs, pages, name):
    result = json.loads(worldmodel("evaluate", runs[0][name].path, "--json").stdout)
    expected = numbers_of(result)
    assert len(expected) >= 5
    assert set(expected) <= Parsed(pages[name]).numbers


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_that_is_missing_is_made(runs, name):
    """And left to `evaluate --save` to be kept."""
    made, said = runs
    assert "evaluating" in said[name]
    assert not (made[name].path / "evaluation.json").exists()
    assert "final" not in {line["stage"] for line in made[name].metrics()}


def copied(run: RunFolder, path: Path) -> Path:
    shutil.copytree(run.path, path)
    return path


def test_an_evaluation_is_taken_only_if_it_is_of_the_newest_checkpoint(runs, tmp_path):
    run = RunFolder.open(copied(runs[0]["offline"], tmp_path / "run"))
    file, checkpoint = run.path / "evaluation.json", run.checkpoint()
    assert evaluated(run, checkpoint) is None
    assert worldmodel("evaluate", run.path, "--save").returncode == 0
    found = read_json(file)
    assert evaluated(run, checkpoint) == found
    write_json(file, found | {"wall_seconds": 0.0})
    assert evaluated(run, checkpoint) is None
    for damaged in (json.dumps(found)[:-1], "[]"):
        file.write_text(damaged)
        with pytest.raises(DamagedError, match=r"evaluation\.json is damaged"):
            evaluated(run, checkpoint)


def test_names_are_escaped(runs, tmp_path):
    path = copied(runs[0]["offline"], tmp_path / "<script>&\"'")
    out = tmp_path / "page.html"
    result = worldmodel("report", path, "--out", out)
    assert result.returncode == 0, result.stderr
    assert not (path / "report.html").stat().st_mtime > out.stat().st_mtime
    found = Parsed(out.read_text())
    assert not found.all("script")
    assert ("h1", "<script>&\"'") in found.words
    odd = RLConfig(EnvironmentConfig("<b>-v0", arguments='{"a": "</pre><i>"}'), data="<u>&amp;")
    found = Parsed(sections.configuration(odd))
    assert not {"b", "i", "u"} & {tag for tag, _ in found.elements}
    assert "<u>&amp;" in found.text


def test_every_setting_is_there_and_the_command_is_whole():
    found = Parsed(sections.configuration(CARTPOLE))
    config = list(settings(CARTPOLE))
    names = [word for where, word in found.words if where == "th"]
    assert sorted(n for n in names if n not in ("setting", "value")) == sorted(
        setting.option.removeprefix("--") for setting in config
    )
    differing = [word for where, word in found.words if where == "strong"]
    assert len(differing) == 1 + sum(setting.differs for setting in config)
    assert command_of(CARTPOLE) in re.sub(r"<[^>]*>", "", sections.configuration(CARTPOLE))
    captions = [word for where, word in found.words if where == "caption"]
    assert len(captions) == len(set(captions))


def test_what_a_run_without_an_environment_lacks_is_said(pages):
    found = Parsed(pages["offline"])
    assert "no real environment" in found.text
    assert "Not recorded in this run: real returns." in found.text
    assert "recorded episodes that nothing was learned from" in found.text


def judged(reward=None, density=None, values=()) -> Parsed:
    """The section on calibration, of ends that are as they should be."""
    end = reliability(np.full(100, 0.25), np.arange(100) < 25)
    found = Calibration(end, reward, density, list(values), 64, 3)
    return Parsed(sections.calibration(found, "made up", ""))


def test_rewards_are_judged_as_they_are():
    right = np.random.default_rng(0).random(4_000)
    text = judged(density=uniformity(right)).text
    assert "Rewards have a density" in text
    assert "about as many as should" in text
    assert "no more than chance explains" in text
    assert "too sure of themselves" in judged(density=uniformity(np.round(right))).text
    assert "wider than" in judged(density=uniformity(0.4 + 0.2 * right)).text
    one = reliability(np.ones(9), np.ones(9, bool))
    assert "All rewards are 1" in judged(one, values=[1.0]).text
    two = reliability(np.full(900, 0.9), np.arange(900) < 450)
    text = judged(two, values=[0.0, 1.0]).text
    assert "one of 0, 1" in text
    assert "times as much" in text


def test_errors_of_calibration_are_on_the_page():
    found = judged(reliability(np.full(90, 0.9), np.arange(90) < 45), values=[0.0, 1.0])
    assert any(abs(value - 0.4) < 1e-9 for value in found.numbers)
    assert "25 of 100 rows were ends" in found.text


def test_a_page_is_written_whole_or_not_at_all(runs, tmp_path, monkeypatch):
    path = copied(runs[0]["cartpole"], tmp_path / "run")
    before = (path / "report.html").read_bytes()

    def broken(parts):
        raise RunError("the film broke")

    monkeypatch.setattr("worldmodel.experiments.show.report.films.filmed", broken)
    assert_refused(worldmodel("report", path), "the film broke")
    assert (path / "report.html").read_bytes() == before
    assert not list(path.glob("*.part"))


def test_without_matplotlib_there_are_tables(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "find_spec", lambda name: None)
    out = tmp_path / "page.html"
    result = worldmodel("report", runs[0]["offline"].path, "--out", out)
    assert result.returncode == 0
    assert "worldmodel-gym[plots]" in result.stderr
    found = Parsed(out.read_text())
    assert "worldmodel-gym[plots]" in found.text
    assert not found.all("svg")
    assert len(found.all("table")) > 5


def test_other_runs_have_none(tmp_path):
    run = new_run(tmp_path / "vae", VAEConfig(ImagesConfig("x")))
    assert_refused(worldmodel("report", run.path), "no `report` for runs of vae")
    assert_refused(worldmodel("report", tmp_path / "nowhere"), "there is no run")


def test_where_a_page_cannot_be_is_said_at_once(runs, tmp_path):
    path = runs[0]["cartpole"].path
    assert_refused(worldmodel("report", path, "--out", tmp_path), "is a folder")
    (tmp_path / "a").touch()
    out = tmp_path / "a" / "b.html"
    assert_refused(worldmodel("report", path, "--out", out), "the folder", "cannot be made")


def test_a_run_without_a_checkpoint_gets_a_sentence(tmp_path):
    run = new_run(tmp_path / "run", TOY)
    assert_refused(worldmodel("report", run.path), "no checkpoint", "worldmodel resume")


@pytest.mark.parametrize(
    ("real", "dreamt", "more_is_better", "words"),
    [
        (Mean(10, (9, 11)), Mean(10.5, (9.5, 11.5)), True, "Chance explains that much"),
        (Mean(10, (9, 11)), Mean(15, (14, 16)), True, "promises more than reality keeps"),
        (Mean(10, (9, 11)), Mean(15, (14, 16)), False, "promises less than reality gives"),
        (Mean(10, (9, 11)), Mean(5, (4, 6)), True, "promises less than reality gives"),
        (Mean(10, (9, 11)), Mean(5, (4, 6)), False, "promises more than reality keeps"),
        (None, Mean(5, (4, 6)), True, "no real environment"),
    ],
)
def test_the_gap_is_said_in_words(real, dreamt, more_is_better, words):
    assert words in sections.gap_in_words(Reached("return", more_is_better, real, dreamt, {}, 9))


def test_markup_is_escaped_once():
    inner = page.element("b", "a & b")
    assert page.element("p", inner, "<") == "<p><b>a &amp; b</b>&lt;</p>"
    assert page.element("p", title='"<') == '<p title="&quot;&lt;"></p>'
    assert Parsed(page.page("<t>", inner)).all("b")
