"""Laws of models of sequences: they find the truth where it is known, go on, and come back."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import Episodes, Learner, SequenceModel, UnknownNameError
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.modalities import modality_of
from worldmodel.sequence_model.modality import RARE, as_episodes, space_of

SMALL = {"hidden_size": 8, "decoder_hidden": 8, "latent": 2, "latent_hidden": 4, "batch_size": 8}
MATRIX = np.array([[0.9, 0.1, 0.0], [0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])  # of a Markov chain
MEMORY, NOISE = 0.8, 0.5  # of an autoregression of first order


def chains(number, length, seed):
    """Markov chains that begin with 0."""
    random = np.random.default_rng(seed)
    found = np.zeros((number, length), np.int64)
    for t in range(1, length):
        edges = MATRIX.cumsum(1)[found[:, t - 1]]
        found[:, t] = (random.random((number, 1)) > edges).sum(1)
    return list(found)


def chain_log_prob(chain):
    return np.log(MATRIX[chain[:-1], chain[1:]]).sum()


def autoregressions(number, length, seed):
    random = np.random.default_rng(seed)
    found = np.zeros((number, length))
    found[:, 0] = NOISE / np.sqrt(1 - MEMORY**2) * random.standard_normal(number)
    for t in range(1, length):
        found[:, t] = MEMORY * found[:, t - 1] + NOISE * random.standard_normal(number)
    return [row[:, None] for row in found]


def autoregression_log_prob(values):
    x = values[:, 0]
    std = np.array([NOISE / np.sqrt(1 - MEMORY**2)] + [NOISE] * (len(x) - 1))
    mean = np.append(0.0, MEMORY * x[:-1])
    return (-0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))).sum()


TRUTHS = {
    "chain": (chains, chain_log_prob, {"learning_rate": 0.03}),
    "autoregression": (
        autoregressions,
        autoregression_log_prob,
        {"learning_rate": 0.02, "head": "normal"},
    ),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_the_truth_is_found_and_not_surpassed(name):
    """The loss comes near that of the truth, and is not below it but for its standard error."""
    draw, truth, options = TRUTHS[name]
    torch.set_num_threads(1)
    options = SMALL | {"hidden_size": 12, "window": 40, "batch_size": 16} | options
    model = SequenceModel(seed=0, **options)
    model.fit(draw(60, 120, 0), updates=200)
    others = draw(40, 150, 1)
    gaps = (np.array(list(map(truth, others))) - model.log_prob(others)) / 150  # nats a frame
    error = gaps.std() / np.sqrt(len(gaps))
    assert -3 * error < gaps.mean() < 0.04


random = np.random.default_rng(0)
DATA = {
    "classes": [random.integers(2, 6, length) for length in (9, 30, 17)],
    "vectors of classes": [random.integers(-1, 3, (length, 2)) for length in (9, 30, 17)],
    "numbers": [random.normal(size=length) for length in (9, 30, 17)],
    "vectors": [random.normal(size=(length, 3)).astype("f4") for length in (9, 30, 17)],
    "truth values": [random.random((length, 4)) < 0.3 for length in (9, 30, 17)],
    "bits": [(random.random((length, 4)) < 0.3).astype("u1") for length in (9, 30, 17)],
    "flags": [random.random(length) < 0.3 for length in (9, 30, 17)],
    "texts": ["the cat sat", "on the mat", "äö" * 9],
}
HEADS = {"truth values": "subset", "bits": "nade", "vectors": "full-normal"}


def fitted(name, core="rnn", **options):
    given = SMALL | {"seed": 1, "updates": 4} | options
    return SequenceModel(core=core, **given).fit(DATA[name])


@pytest.mark.parametrize("name", DATA)
def test_samples_are_of_the_type_that_was_learned(name):
    model, first = fitted(name), DATA[name][0]
    one, prompted = model.sample(7), model.sample(5, 2, prompt=first[:3])
    assert type(one) is type(first)
    assert len(one) == 7
    assert [len(sample) for sample in prompted] == [8, 8]
    for sample in prompted:
        assert np.array_equal(sample[:3], first[:3]) or np.allclose(sample[:3], first[:3])
    if name == "texts":
        assert set(one) <= set("".join(DATA[name])) | {RARE}
    else:
        assert (one.dtype, one.shape[1:]) == (first.dtype, first.shape[1:])
        assert set(one.flatten()) <= set(range(-1, 6)) or first.dtype.kind in "f"


@pytest.mark.parametrize(("name", "core"), [(name, "rnn") for name in DATA] + [("texts", "vrnn")])
def test_a_model_that_is_saved_comes_back(name, core, tmp_path):
    model = fitted(name, core, head=HEADS.get(name, "default"))
    nats = model.log_prob(DATA[name], num_particles=3)
    assert nats.shape == (3,)
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")  # takes the place of the one before
    loaded = SequenceModel.load(tmp_path / "model")
    assert loaded.config == model.config
    assert np.array_equal(loaded.log_prob(DATA[name], num_particles=3), nats)
    loaded.fit(DATA[name], updates=2)
    assert loaded.updates == 6
    assert not np.array_equal(loaded.log_prob(DATA[name]), nats)


def test_a_model_that_goes_on_is_the_same_before_and_after_it_is_saved(tmp_path):
    model = fitted("numbers")
    model.save(tmp_path / "model")
    loaded = SequenceModel.load(tmp_path / "model")
    for one in (model, loaded):
        one.fit(DATA["numbers"], updates=3)
    assert np.array_equal(*(one.log_prob(DATA["numbers"]) for one in (model, loaded)))


def test_fit_goes_on():
    model, nats = SequenceModel(seed=0, learning_rate=0.03, **SMALL), []
    for _ in range(3):
        model.fit(DATA["texts"], updates=10)
        nats.append(model.log_prob(DATA["texts"]).sum())
    assert model.updates == 30
    assert nats == sorted(nats)


def test_the_same_seed_is_the_same_model_and_leaves_the_global_noise_alone():
    before = torch.get_rng_state()
    one, other, third = (fitted("vectors", "vrnn", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(one.log_prob(DATA["vectors"]), other.log_prob(DATA["vectors"]))
    assert np.array_equal(one.sample(9), other.sample(9))
    assert not np.array_equal(one.log_prob(DATA["vectors"]), third.log_prob(DATA["vectors"]))


def test_recordings_are_scored_one_by_one():
    """The probability of a whole is the product of its frames', whatever is beside it."""
    model = fitted("classes")
    together = model.log_prob(DATA["classes"])
    assert together == pytest.approx([model.log_prob(one)[0] for one in DATA["classes"]], rel=1e-5)


def test_episodes_are_learned_without_their_actions():
    observation = {"place": np.arange(20) % 3, "speed": np.linspace(0, 1, 20, dtype=np.float32)}
    columns = {
        "action": np.zeros((20, 2), np.float32),
        "observation": observation,
        "reward": np.zeros(20, np.float32),
        "terminated": np.zeros(20, bool),
    }
    episodes = Episodes(columns, np.array([12, 8]))
    model = SequenceModel(**SMALL, updates=3).fit(episodes)
    assert model.log_prob(episodes).shape == (2,)
    sample = model.sample(5)
    assert {key: part.shape for key, part in sample.items()} == {"place": (5,), "speed": (5,)}


def test_validation_keeps_the_best():
    model = SequenceModel(seed=0, learning_rate=0.1, validations=5, ema_decay=0.5, **SMALL)
    model.fit(DATA["numbers"], updates=60, validation=autoregressions(3, 20, 0)[0][:, 0])
    losses = [nats for _, nats in model.training.curve]
    assert len(losses) == 5
    assert losses[-1] > min(losses)  # learned by heart
    valid = model.log_prob(autoregressions(3, 20, 0)[0][:, 0]).sum() / 20
    assert -valid == pytest.approx(min(losses), rel=1e-4)


def test_callbacks_hear_of_updates_and_end_them():
    heard = []

    def until_five(progress):
        heard.append((progress.stage, progress.done, progress.units, progress.updates))
        return progress.updates < 5

    model = SequenceModel(**SMALL).fit(DATA["texts"], updates=20, callback=until_five)
    assert heard == [("learn", number, 20, number) for number in range(1, 6)]
    model.fit(DATA["texts"], updates=2, callback=[lambda progress: None])
    assert model.updates == 7


def test_minutes_become_updates(monkeypatch):
    asked = []
    monkeypatch.setattr(
        Learner, "updates_within", lambda learner, minutes, *rest: asked.append(minutes) or 3
    )
    assert SequenceModel(**SMALL).fit(DATA["texts"], minutes=0.5).updates == 3
    assert SequenceModel(minutes=0.2, **SMALL).fit(DATA["texts"]).updates == 3
    assert SequenceModel(minutes=0.2, **SMALL).fit(DATA["texts"], updates=2).updates == 2
    assert asked == [0.5, 0.2]


def test_spaces_are_those_of_the_data():
    assert space_of(np.array([3, 5, 4])) == spaces.Discrete(3, start=3)
    assert space_of(np.array([True, False])) == spaces.Discrete(2)
    assert space_of(np.eye(3, dtype=int)) == spaces.MultiBinary(3)
    assert space_of(np.array([[0, 1], [2, 4]])) == spaces.MultiDiscrete([3, 4], start=[0, 1])
    assert space_of(np.zeros((4, 2))).shape == (2,)
    with pytest.raises(ValueError, match="numbers, integers or truth values"):
        space_of(np.array(["a"]))


def test_text_that_was_never_learned_is_one_symbol():
    text = modality_of(["abc"])
    assert text.symbols == RARE + "abc"
    assert text.decode(text.encode("cabx")) == "cab" + RARE
    assert as_episodes(text, [text.encode("ab")]).columns["observation"].tolist() == [1, 2]


def test_what_does_not_fit_gets_a_sentence(tmp_path):
    model = fitted("classes")
    for data, words in [
        (np.array([9, 9]), "pass observation_space="),
        (np.zeros((4, 2), int), "frames of shape"),
        (np.array([0.5, 1.5]), "float64 came"),
        ([], "one recording or more"),
        ([np.arange(2, 5), np.empty(0, int)], r"of \[3, 0\] frames"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.log_prob(data)
    with pytest.raises(ValueError, match="not finite"):
        fitted("numbers").log_prob(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="this model learned text"):
        fitted("texts").log_prob(np.arange(3))
    with pytest.raises(ValueError, match="call fit"):
        SequenceModel().sample(3)
    with pytest.raises(TypeError, match="did you mean hidden_size"):
        SequenceModel(hidden_siz=3)
    with pytest.raises(UnknownNameError, match="rnn"):
        SequenceModel(core="rnnn")
    with pytest.raises(ValueError, match="categorical"):
        SequenceModel(head="normal", **SMALL).fit(DATA["classes"])
    with pytest.raises(ValueError, match="kl_cycle, too"):
        SequenceModel(kl_delay=3)
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match=r"no config\.json"):
        model.save(tmp_path / "other")
    wider = SequenceModel(observation_space=spaces.Discrete(10), **SMALL, updates=2)
    assert wider.fit(DATA["classes"]).log_prob(np.array([9, 9])).shape == (1,)


def test_head_options_may_be_a_dictionary():
    model = fitted("vectors", head="mixture", head_options={"components": 2})
    assert json.loads(model.config.model.head_options) == {"components": 2}
    assert model.model.percepts.decoder.observation.weights.out_features == 2


def test_nothing_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted("texts").sample(5)
    assert not list(tmp_path.iterdir())


def test_other_runs_say_how_they_are_loaded(tmp_path):
    RunFolder.create(tmp_path / "run", "text", {})
    with pytest.raises(RunError, match=r"worldmodel\.experiments\.load"):
        SequenceModel.load(tmp_path / "run")
