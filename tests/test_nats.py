"""One sign and one name: every figure in nats that a run reports is a loss, minus a mean log
likelihood, whatever the run is of. Models without latents, whose likelihood is exact."""

import math

import numpy as np
import pytest
import torch
from command_line import worldmodel
from kinds import MADE, write_files

from worldmodel import Sequences, action_codec, experiments, log_prob
from worldmodel.envs import ToyGameFilter
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.recordings.storage import held_out
from worldmodel.experiments.rl.evaluation import held_out_episodes
from worldmodel.files import read_json
from worldmodel.run_folder import RunFolder

GAMES = {"toy-game": (), "control": ("--env", "CartPole-v1")}
RECORDINGS = ("text", "audio", "midi", "strokes", "exact strokes")
ARE_DENSITIES = {"control", "audio", "strokes"}
SMALL = ("--quick", "--core", "rnn", "--threads", 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Quick runs by name, each made once, with what was printed."""
    found = {}

    def run(name):
        if name not in found:
            place = tmp_path_factory.mktemp("nats")
            if name in GAMES:
                config = ("train", name, *GAMES[name])
            else:
                files = write_files(MADE[name], place / "files", number=8)
                option = "--corpus" if name == "text" else "--data"
                config = ("train", MADE[name].kind, option, files, *MADE[name].options)
            result = worldmodel(*config, "--out", place / "run", *SMALL)
            assert result.returncode == 0, result.stderr
            found[name] = place / "run", result.stdout
        return found[name]

    return run


def nats_in(figures, path=()):
    """All that is called nats, but for standard errors, by where it stands."""
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from nats_in(value, (*path, key))
        elif "nats" in key and not key.endswith("_se"):
            yield (*path, key), value


def evaluation(path):
    return read_json(path / "evaluation.json")


def held_out_of_game(path):
    """What a run of games is scored on, and its log likelihood by key, [T, B], where `counted`."""
    run = experiments.load(path)
    scored = held_out_episodes(RunFolder(path), run, run.config.evaluation)
    sequences = scored.sequences(run.components.actions)
    counted = sequences.mask & ~sequences.rows.first
    by_key = {key: x.double() for key, x in log_prob(run.model, sequences).items()}
    return run, sequences, counted, by_key


def mean(log_probs, counted):
    """The mean loss of rows, nats."""
    return -log_probs[counted].mean().item()


def close(found, expected):
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        assert found[place] == pytest.approx(value, rel=1e-5, abs=1e-6), place


def test_the_toy_games_losses(runs):
    path, _ = runs("toy-game")
    run, sequences, counted, by_key = held_out_of_game(path)
    figures = evaluation(path)
    exact = exact_log_prob(run, sequences)
    by_key, exact = (x | {"": sum(x.values())} for x in (by_key, exact))
    expected = {}
    for key in by_key:
        place = ("by_key", key) if key else ()
        model, best = by_key[key], exact[key]
        expected |= {
            (*place, "nats_per_step"): mean(model, counted),
            (*place, "exact_nats_per_step"): mean(best, counted),
            (*place, "gap_nats_per_step"): mean(model, counted) - mean(best, counted),
        }
    close(dict(nats_in(figures)), expected)
    assert figures["exact_nats_per_step"] > 0  # of probabilities


def exact_log_prob(run, sequences: Sequences):
    rows = sequences.rows
    action = run.components.actions.decode(rows.action)
    leaves = (rows.first, action, rows.observation, rows.reward)
    game = run.one.unwrapped
    exact = ToyGameFilter(game.width, game.classes, game.task)
    found = exact.log_prob(*(leaf.numpy() for leaf in (*leaves, rows.terminated)))
    return {key: torch.as_tensor(value).double() for key, value in found.items()}


def test_losses_of_control(runs):
    path, _ = runs("control")
    _, _, counted, by_key = held_out_of_game(path)
    expected = {("by_key", key, "nats_per_step"): mean(x, counted) for key, x in by_key.items()}
    expected |= {("nats_per_step",): mean(sum(by_key.values()), counted)}
    close(dict(nats_in(evaluation(path))), expected)


@pytest.mark.parametrize("name", RECORDINGS)
def test_losses_of_recordings(runs, name):
    path, _ = runs(name)
    run, figures = experiments.load(path), evaluation(path)
    model, kind, store = run.model, run.modality, held_out(RunFolder.open(path))
    total, codec = 0.0, action_codec(kind.action_space)
    for episode in range(len(store)):
        sequences = store.sequences(codec, np.array([episode]))
        total += sum(x.double().sum().item() for x in log_prob(model, sequences).values())
        total += {  # figures are of standardised samples, and of very offsets
            "audio": lambda rows: rows.numel() * math.log(kind.statistics["std"]),
            "exact strokes": lambda rows: -np.log(kind.grid.sizes)[rows.numpy()].sum(),
        }.get(name, lambda rows: 0.0)(sequences.rows.observation)
    key = f"nats_per_{kind.frame}"
    close(dict(nats_in(figures)), {(key,): -total / store.rows})
    assert figures[key] > 0 or name in ARE_DENSITIES
    assert figures["density"] == (name in ARE_DENSITIES)
    assert all(value > 0 for value in figures.get("counting", {}).values())
    if name == "text":
        assert figures["bits_per_character"] == pytest.approx(figures[key] / math.log(2))
        assert figures["perplexity"] == pytest.approx(math.exp(figures[key]))


@pytest.mark.parametrize("name", [*GAMES, *RECORDINGS])
def test_losses_are_called_so_and_densities_are_explained(runs, name):
    _, printed = runs(name)
    assert "loss, nats per" in printed.replace("\n", " ")
    said = " ".join(printed.split())
    assert (" ".join(DENSITIES.split()[-3:]) in said) == (name in ARE_DENSITIES)


@pytest.mark.parametrize("name", [*GAMES, "text", "midi", "strokes"])
def test_losses_that_are_logged_are_the_sums_of_their_parts(runs, name):
    """In metrics.jsonl, where nothing but the ELBO is learned by."""
    path, _ = runs(name)
    lines = [line for line in RunFolder.open(path).metrics() if line["stage"] == "learn"]
    assert lines
    for line in lines:
        parts = [value for key, value in line.items() if key.endswith("_nats")]
        assert line["nats"] == pytest.approx(sum(parts), rel=1e-5, abs=1e-5)
