"""Laws of `worldmodel bench exact`: what it learns from, what it scores, what it says."""

import contextlib
import io
import json
from dataclasses import replace

import pytest
import torch

from worldmodel import ELBO
from worldmodel.envs import ToyGame
from worldmodel.experiments.bench import exact as bench
from worldmodel.experiments.bench.settings import ExactLearning, ExactSettings
from worldmodel.experiments.cli.main import main
from worldmodel.progress import Reporter
from worldmodel.testing.exact import chain_model

KEYS = {
    *("what", "core", "bound", "particles", "exact", "value", "gap", "se", "seconds", "updates"),
    *("length", "trained_by", "expected"),
}


@pytest.fixture(autouse=True)
def own_noise():
    """A bench seeds torch, and sets its threads: not those of other tests."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def run(*arguments):
    """Standard output, standard error and the exit code of `worldmodel bench exact`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["bench", "exact", *map(str, arguments)])
        except SystemExit as end:
            code = end.code
    return out.getvalue(), err.getvalue(), code


def test_all_figures_of_all_cores_are_there():
    out, err, code = run("--quick", "--json", "--learning-bounds", "elbo", "fivo")
    assert code == 0, err
    figures = json.loads(out)
    assert all(set(figure) == KEYS for figure in figures)
    for figure in figures:
        assert figure["gap"] == pytest.approx(figure["value"] - figure["exact"])
        assert figure["se"] >= 0
    found = {(figure["what"], figure["core"], figure["trained_by"]) for figure in figures}
    filters = ["independent filtering", "vrnn", "srnn filtering", "rssm"]
    smoothers = ["independent smoothing", "srnn smoothing"]
    expected = {("bound gap", core, None) for core in ["rnn", *filters, *smoothers]}
    expected |= {
        ("fit gap", core, bound) for core in filters + smoothers for bound in ("elbo", "fivo")
    }
    expected |= {("toy game", core, "elbo") for core in ExactSettings().core}
    assert found == expected | {("fit gap", "rnn", "elbo")}
    for figure in figures:
        trained = figure["what"] != "bound gap"
        assert (figure["seconds"] > 0) == (figure["updates"] == 3) == trained
    assert len({figure["exact"] for figure in figures}) == 2  # of the chain and of the game
    assert "srnn learns the toy game: 3 updates" in err


def test_the_table_says_what_the_figures_say():
    options = ("--quick", "--on", "chain", "--core", "rnn", "vrnn", "--learning-bounds", "elbo")
    figures = json.loads(run(*options, "--json")[0])
    out, _, _ = run(*options)
    assert "bound gap" in out
    assert "fit gap" in out
    assert "toy game" not in out
    for figure in figures:
        assert f"{figure['gap']:.4f} ± {figure['se']:.4f}" in out


def test_the_same_seed_gives_the_same_figures_whatever_else_is_measured():
    def figures(*options):
        out = run("--quick", "--json", "--on", "chain", "--learning-bounds", "elbo", *options)[0]
        return [
            {key: value for key, value in figure.items() if key != "seconds"}
            for figure in json.loads(out)
            if figure["core"] == "rssm" and figure["what"] == "fit gap"
        ]

    alone = figures("--core", "rssm")
    assert alone
    assert figures("--core", "vrnn", "rssm") == alone
    assert figures("--core", "rssm", "--seed", 1) != alone


def test_gaps_by_hand_are_those_of_theory():
    config = ExactSettings(core=("vrnn", "rnn"), lengths=(6,), sequences=1_500)
    figures = list(bench.bound_gaps(config, Reporter()))
    assert [(f.bound, f.particles) for f in figures[:4]] == list(bench.SCORES)
    elbo, ten, hundred, _, rnn = figures
    assert abs(elbo.gap - elbo.expected) < 4 * elbo.se
    assert elbo.gap > ten.gap > hundred.gap > -2 * hundred.se
    assert abs(rnn.gap) < 1e-7
    assert rnn.bound == "exact"


def test_learning_closes_the_gap():
    config = ExactSettings(core=("srnn",), learning_bounds=("elbo",), lengths=(15,), sequences=200)
    gaps = []
    for updates in (1, 150):
        learning = replace(config.learning, fit_updates=updates)
        figures = bench.fit_gaps(replace(config, learning=learning), Reporter())
        gaps.append(next(figures).gap)
    assert gaps[1] < 0.2 * gaps[0]


def test_what_is_scored_is_the_average_of_the_last_weights(monkeypatch):
    def learned(decay):
        """The bias that training ends with, and the bias after its first update."""
        monkeypatch.setattr(bench, "EMA_DECAY", decay)
        chain, seen = bench.the_chain(ExactSettings()), []
        model = chain_model(chain, "rnn", 8)

        class Watched(ELBO):
            def __call__(self, *arguments):
                seen.append(model.percepts.decoder.body.bias.detach().clone())
                return super().__call__(*arguments)

        bench.learn(model, Watched(model), bench.fresh_rows(chain), 2, 0.01, "test", Reporter())
        assert not model.training
        return model.percepts.decoder.body.bias.detach(), seen[1]

    last, first = learned(0.0)
    assert not torch.equal(last, first)
    torch.testing.assert_close(learned(0.1)[0], 0.1 * first + 0.9 * last)
    early = 2 / 11  # of an average that has seen two updates, at most
    torch.testing.assert_close(learned(0.75)[0], early * first + (1 - early) * last)


def test_play_is_fresh_and_begins_at_first_rows(monkeypatch):
    monkeypatch.setattr(bench, "GAMES", 8)
    monkeypatch.setattr(bench, "PHASE_UPDATES", 1)

    def two_batches(seed):
        torch.manual_seed(0)
        batches = bench.fresh_play(ToyGame(), seed)
        return [next(batches), next(batches)]

    def symbols(batches):
        return [block.rows.observation.tolist() for batch in batches for block in batch]

    one, two = two_batches(0)
    for block in one + two:
        assert block.rows.first[0].all()
        assert torch.equal(block.loss_mask, block.mask)
    assert max(len(block.mask) for block in one + two) > 64  # whole episodes
    assert symbols([one]) != symbols([two])
    assert symbols(two_batches(0)) == symbols([one, two])
    assert symbols(two_batches(1)) != symbols([one, two])


def test_an_interrupted_bench_shows_what_it_has(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "learn", stop)
    out, err, code = run("--quick", "--json", "--core", "rnn")
    assert code == 0
    assert [figure["what"] for figure in json.loads(out)] == ["bound gap"]
    assert "what was measured until now follows" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lengths": (4, 0)}, "--lengths must be positive, got 0"),
        ({"core": ()}, "--core expects one or more, got none"),
        ({"episodes": 1}, "2 or more"),
        ({"seed": -1}, "--seed must be 0 or more, got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ExactSettings(**options)


def test_learning_without_updates_is_refused():
    with pytest.raises(ValueError, match="--fit-updates must be positive, got 0"):
        ExactLearning(fit_updates=0)
