"""Text: a vocabulary from the corpus, exact likelihoods, samples, and a sentence for bad files."""

import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import assert_refused, worldmodel
from recordings import train
from runs import assert_same

from worldmodel.experiments.data.readers.files import BadFileError
from worldmodel.experiments.recordings import experiment
from worldmodel.experiments.recordings.config import (
    GenerateConfig,
    ScoreConfig,
    SequenceModelConfig,
    TextConfig,
    TextDataConfig,
    quick_recordings,
)
from worldmodel.experiments.recordings.generation import generate
from worldmodel.experiments.recordings.scoring import evaluate
from worldmodel.experiments.recordings.text import LONGEST, Text, characters
from worldmodel.experiments.runs.registry import new_run
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError
from worldmodel.sequence_model.generation import dream
from worldmodel.sequence_model.modality import RARE, as_episodes
from worldmodel.sequence_model.scoring import scored
from worldmodel.sequence_model.training import model_of

VERSE = "the cat sat on the mat\nthe dog sat on the log\nä\n" * 20


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "verse.txt"
    file.write_text(VERSE)
    return file


def config_of(*files, core="rnn", **settings):
    data = TextDataConfig(tuple(map(str, files)), **settings)
    config = TextConfig(data=data, seed=1)
    return quick_recordings(replace(config, model=replace(config.model, core=core)))


def text_of(*files, **config):
    data = TextDataConfig(tuple(map(str, files)), **config)
    return Text(data, Text.first_statistics(data, lambda line: None))


def read(text):
    return list(text.learned(lambda line: None))


def test_a_text_comes_back_and_its_last_share_is_held_out(corpus):
    text = text_of(corpus, held_out=0.25)
    parts = read(text)
    assert [part.split for part in parts] == ["train", "valid"]
    assert "".join(text.decode(part.observation) for part in parts) == VERSE
    assert len(parts[0].observation) == int(0.75 * len(VERSE))
    assert text.symbols[0] == RARE
    assert sorted(text.symbols[1:]) == sorted(set(VERSE))


def test_rare_characters_are_one_symbol(corpus):
    corpus.write_text(VERSE + "xyz")
    text = text_of(corpus, rare=2)
    assert not set("xyz") & set(text.symbols)
    (_, last) = read(text)
    assert text.decode(last.observation).endswith(RARE * 3)


def test_long_texts_are_cut_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.recordings.text.LONGEST", 100)
    monkeypatch.setattr(
        "worldmodel.experiments.recordings.text.BLOCK", 7
    )  # cuts characters of two bytes
    file = tmp_path / "long.txt"
    file.write_text("äöü" * 111, encoding="utf-8-sig")
    text = text_of(file, held_out=0.5)
    parts = read(text)
    assert [(p.split, len(p.observation)) for p in parts] == [
        ("train", 100),
        ("train", 66),
        ("valid", 100),
        ("valid", 67),
    ]
    assert "".join(text.decode(p.observation) for p in parts) == "äöü" * 111
    assert LONGEST == 2**20


def test_what_was_never_learned_is_said(corpus, tmp_path):
    text, lines = text_of(corpus), []
    other = tmp_path / "other.txt"
    other.write_text("the qat")
    (recording,) = text.recordings([str(other)], "stop", lines.append)
    assert recording.split is None
    assert text.decode(recording.observation) == f"the {RARE}at"
    assert "'q'" in lines[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 characters"),
        (b"a", "1 characters"),
        (b"abc\xffdef", "byte 3"),
        (b"ab" * 40_000 + b"\xe4b", "byte 80000"),
        (b"abc\xc3", "byte 3"),
        ("abc".encode("utf-16")[:-1], "no UTF-16 text: byte 6"),
        ("abc".encode("utf-16-le"), "UTF-16LE"),
        ("äbc".encode("utf-16-be"), "UTF-16BE"),
    ],
)
def test_bad_files_get_a_sentence(tmp_path, content, said):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(BadFileError, match=said) as error:
        list(characters(file))
    assert str(file) in str(error.value)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be with its mark"])
def test_a_text_is_the_same_in_every_code_that_its_mark_tells(tmp_path, monkeypatch, code):
    monkeypatch.setattr("worldmodel.experiments.recordings.text.BLOCK", 7)
    file = tmp_path / "a.txt"
    text = VERSE + "🙂ä\n"
    file.write_bytes(("\ufeff" * code.endswith("mark") + text).encode(code.split()[0]))
    assert "".join(characters(file)) == text


def test_what_cannot_be_opened_is_a_bad_file(tmp_path):
    with pytest.raises(BadFileError, match=r"cannot be read \(Is a directory\)"):
        list(characters(tmp_path))


def test_a_text_that_is_left_out_adds_no_characters(tmp_path, corpus):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"xyz" * 40_000 + b"\xff")
    assert not set("xyz") & set(text_of(corpus, bad, on_error="skip").symbols)


def test_a_thousand_mutants_are_read_or_refused(tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / "mutant.txt"
    whole = np.frombuffer(VERSE.encode(), np.uint8)
    refused = 0
    for _ in range(1_000):
        mutant = whole[: random.integers(0, len(whole))].copy()
        where = random.integers(0, max(1, len(mutant)), random.integers(0, 4))
        if len(mutant):
            mutant[where] = random.integers(0, 256, len(where))
        file.write_bytes(mutant.tobytes())
        try:
            text = text_of(file)
        except RunError:
            refused += 1
        else:
            found = sum(len(part.observation) for part in read(text))
            assert found == len(mutant.tobytes().decode("utf-8-sig"))
    assert 0 < refused < 1_000


def test_a_corpus_of_one_character_is_refused(tmp_path, corpus):
    same = tmp_path / "same.txt"
    same.write_text("aaaa")
    with pytest.raises(RunError, match="nothing to learn"):
        text_of(same)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff\xfd")
    with pytest.raises(BadFileError, match="no UTF-8"):
        text_of(corpus, bad)
    lines = []
    data = TextDataConfig((str(corpus), str(bad)), on_error="skip")
    facts = Text.first_statistics(data, lines.append)
    assert "left out" in lines[0]
    assert len(list(Text(data, facts).learned(lines.append))) == 2
    assert sum("left out" in line for line in lines) == 2


@pytest.mark.parametrize("core", ["rnn", "srnn"])
def test_probabilities_of_all_short_texts_sum_to_one(core):
    text = Text(SimpleNamespace(), {"symbols": RARE + "ab"})
    torch.manual_seed(0)
    model = model_of(
        text, SequenceModelConfig(core=core, hidden_size=6, latent=2, latent_hidden=4)
    )
    model = model.double().eval()
    every = [np.array(letters, np.uint8) for letters in itertools.product(range(3), repeat=3)]
    source = as_episodes(text, every)
    nats = [s.log_prob.sum() for s in scored(model, text, source, "iwae", 512)]
    assert len(nats) == 27
    tolerance = 1e-10 if core == "rnn" else 0.05
    assert abs(np.exp(nats).sum() - 1) < tolerance


def test_a_dream_goes_on_from_its_prompt():
    text = Text(SimpleNamespace(), {"symbols": RARE + "ab"})
    torch.manual_seed(0)
    model = model_of(text, SequenceModelConfig(hidden_size=6)).eval()
    prompt = text.prompt("abba", 0, print)
    whole = dream(model, text, 5, 3, prompt=prompt)
    assert [text.decode(sample)[:4] for sample in whole] == ["abba"] * 3
    assert [len(sample) for sample in whole] == [9] * 3
    # the first letter drawn has the probabilities that the likelihood gives it after the prompt
    draws = np.array([s[4] for s in dream(model, text, 1, 4_000, prompt=prompt)])
    each = [np.append(prompt, symbol).astype(np.uint8) for symbol in range(3)]
    nats = sorted(scored(model, text, as_episodes(text, each), "elbo", 1), key=lambda s: s.episode)
    for symbol, score in enumerate(nats):
        expected = math.exp(score.log_prob[-1])
        error = math.sqrt(expected * (1 - expected) / len(draws))
        assert abs((draws == symbol).mean() - expected) < 4 * error


@pytest.mark.parametrize("core", ["rnn", "vrnn"])
@pytest.mark.parametrize("stop", [("learn", 2), ("validate", 0)])
def test_a_stopped_run_goes_on_to_the_last_bit(tmp_path, corpus, core, stop):
    config = config_of(corpus, core=core)
    whole, parted = (new_run(tmp_path / name, config) for name in ("whole", "parted"))
    train(whole)
    kind, done = stop
    train(parted, lambda t: (t.stages[t.stage].kind, t.done - 1) == (kind, done))
    corpus.unlink()  # the run has its own copy
    train(parted)
    assert_same(parted, whole)


def test_a_run_is_scored_and_dreams(tmp_path, corpus, capsys):
    folder = new_run(tmp_path / "run", config_of(corpus, core="vrnn"))
    train(folder)
    result = evaluate(folder, ScoreConfig(bound_particles=4, each=True))
    assert result["bound"] == "iwae"
    nats = result["nats_per_character"]
    assert result["bits_per_character"] == pytest.approx(nats / math.log(2))
    assert result["perplexity"] == pytest.approx(math.exp(nats))
    assert sum(part["rows"] for part in result["each"]) == result["characters"]
    total = sum(part["nats"] for part in result["each"])
    assert total == pytest.approx(nats * result["characters"])
    assert "".join(part["text"] for part in result["each"]) == VERSE[int(0.9 * len(VERSE)) :]
    (file,) = generate(folder, GenerateConfig(length=20, samples=2, prompt="the "), Reporter())
    assert file.read_text().count("the ") >= 2
    samples = sorted((folder.path / "samples").iterdir())
    assert [sample.name for sample in samples] == ["001.txt", "002.txt", "checksums.json"]
    assert experiment.load(folder).modality.symbols == RARE + "".join(sorted(set(VERSE)))


def test_what_a_user_can_mend_gets_a_sentence(tmp_path, corpus):
    run = tmp_path / "run"
    missing = worldmodel("train", "text", "--corpus", tmp_path / "none.txt", "--out", run)
    assert_refused(missing, "none.txt")
    head = worldmodel(
        "train", "text", "--corpus", corpus, "--out", run, "--head", "normal", "--quick"
    )
    assert_refused(head, "normal", "categorical")
    assert not run.exists()


def test_the_command_line_learns_scores_and_dreams(tmp_path, corpus):
    run = tmp_path / "run"
    trained = worldmodel("train", "text", "--corpus", corpus, "--out", run, "--quick")
    assert trained.returncode == 0, trained.stderr
    config = worldmodel("evaluate", run, "--data", corpus, "--json")
    assert json.loads(config.stdout)["recordings"] == 1
    dreamt = worldmodel("generate", run, "--length", 9, "--samples", 1, "--temperature", 0.5)
    assert dreamt.returncode == 0, dreamt.stderr
    assert len(dreamt.stdout.rstrip("\n")) <= 9
    refused = worldmodel("generate", run, "--temperature", 0)
    assert_refused(refused, "--temperature must be positive")
