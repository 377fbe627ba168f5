"""The laws that every core, and every world model around one, obeys."""

import importlib
import inspect
import itertools
import pkgutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from cores import (
    BITS,
    CORES,
    DEAF,
    FILTERING,
    LATENT,
    PLANE,
    SMOOTHING,
    fed,
    make_core,
    make_model,
    noise_for,
    padded,
    random_rows,
)
from gymnasium import spaces
from perfect import perfect_model
from torch import nn

import worldmodel
import worldmodel.cores
from worldmodel import (
    ELBO,
    Agent,
    BeliefAgent,
    Dream,
    GenCore,
    Row,
    SequenceCore,
    Sequences,
    Trainer,
    WorldModel,
    constant,
    kl_closed_form,
    kl_monte_carlo,
    nested,
    particle_filter,
)
from worldmodel.cores import Gaussian
from worldmodel.distributions import OneHot
from worldmodel.nets import RECURRENCES, Recurrence

every_core = pytest.mark.parametrize("name", CORES)
every_filter = pytest.mark.parametrize("name", FILTERING)
every_model = pytest.mark.parametrize(
    ("name", "feedback", "history"),
    [(n, f, h) for n in CORES for f, h in [(True, 1), (True, 2), (False, 1)]],
)
every_filtering_model = pytest.mark.parametrize(
    ("name", "feedback", "history"),
    [(n, f, h) for n in FILTERING for f, h in [(True, 1), (True, 2), (False, 1)]],
)


def close(found, expected, atol=1e-12):
    """Structures of one type with equal leaves."""
    assert type(found) is type(expected)
    nested.map(
        lambda a, b: torch.testing.assert_close(a, b, rtol=atol, atol=atol), found, expected
    )


def same(found, expected):
    """Structures that are equal to the last bit."""
    close(found, expected, atol=0)


def structure(tree):
    """Type names, shapes without the batch, dtypes."""
    if isinstance(tree, tuple):
        return type(tree).__name__, [structure(part) for part in tree]
    return tuple(tree.shape[1:]), tree.dtype


def columns(tree, chosen):
    """Columns of a structure [T, B, ...]."""
    return nested.index(tree, (slice(None), chosen))


def jacobian(output, source):
    """Gradient of a sum of squares of everything in `output`; zeros where it is not reached."""
    total = sum((leaf.double() ** 2).sum() for leaf in nested.leaves(output))
    if not total.requires_grad:
        return torch.zeros_like(source)
    gradient = torch.autograd.grad(total, source, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(source) if gradient is None else gradient


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


class Blind(SequenceCore):
    """A core whose posterior is its prior: it explains without looking at the evidence."""

    def __init__(self, core):
        super().__init__()
        self.core = core
        for size in ("context_size", "evidence_size", "feature_size", "belief_size", "filtering"):
            setattr(self, size, getattr(core, size))

    def initial_state(self, batch_size):
        return self.core.initial_state(batch_size)

    def step(self, context, state):
        return self.core.step(context, state)

    def prepare(self, contexts, evidence, mask, state):
        return self.core.prepare(contexts, evidence, mask, state)

    def explain(self, prepared, state):
        with fed(0 * noise_for(self.core, 1, len(state.latent))):
            posterior, prior, after = self.core.explain(prepared, state)
        if not state.latent.shape[-1]:
            return prior, prior, after
        latent = prior.draw()
        if not isinstance(posterior, Gaussian):
            return prior, prior, after._replace(latent=latent)
        with fed([(latent - posterior.mean) / posterior.std]):  # with which it draws that latent
            return prior, prior, self.core.explain(prepared, state)[2]

    def features(self, state):
        return self.core.features(state)

    def belief(self, state):
        return self.core.belief(state)

    def latent_distribution(self, parameters):
        return self.core.latent_distribution(parameters)


# Lists and structures.


def test_every_core_is_in_the_list():
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(worldmodel.__path__, "worldmodel.")
    ]
    found = {
        thing
        for module in modules
        for thing in vars(module).values()
        if inspect.isclass(thing)
        and issubclass(thing, SequenceCore)
        and not inspect.isabstract(thing)
    }
    assert found
    assert found == {type(make_core(name)) for name in CORES}
    assert found == {type(make(3, 2)) for make in worldmodel.CORES.values()}


def test_no_batch_normalisation_anywhere():
    sources = Path(worldmodel.__file__).parent.rglob("*.py")
    assert not [path for path in sources if "batchnorm" in path.read_text().lower()]
    assert not [path for path in sources if "batch_norm" in path.read_text().lower()]
    for name in CORES:
        kinds = {type(module).__name__ for module in make_model(name).modules()}
        assert not [kind for kind in kinds if "BatchNorm" in kind]


@every_core
def test_filtering_is_what_the_core_says(name):
    assert make_core(name).filtering == (name in FILTERING)


@every_core
@pytest.mark.parametrize(("time", "batch"), [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_a_core_gives_back_the_structure_of_its_state(name, time, batch):
    core = make_core(name)
    state = core.initial_state(batch)
    assert {len(leaf) for leaf in nested.leaves(state)} == {batch}
    contexts, evidence = torch.randn(time, batch, 3).double(), torch.randn(time, batch, 2).double()
    after = core.step(contexts[0], state)
    assert structure(after) == structure(state)
    assert {len(leaf) for leaf in nested.leaves(after)} == {batch}
    mask = torch.ones(time, batch, dtype=torch.bool)
    for particles in (1, 2):
        inference, last = core.infer(contexts, evidence, mask, state, particles)
        assert structure(last) == structure(state)
        for part in nested.leaves(inference):
            assert part.shape[:2] == (time, particles * batch)
        same(nested.index(inference.states, -1), last)
        assert structure(nested.index(inference.states, 0)) == structure(state)
    assert core.features(after).shape == (batch, core.feature_size)
    assert core.belief(after).shape == (batch, core.belief_size)
    assert core.features(inference.states).shape == (time, 2 * batch, core.feature_size)
    assert core.belief(inference.states).shape == (time, 2 * batch, core.belief_size)


@every_model
@pytest.mark.parametrize(("time", "batch"), [(1, 1), (1, 3), (4, 1)])
def test_a_model_gives_back_the_structure_of_its_state(name, feedback, history, time, batch):
    model = make_model(name, feedback, history)
    state = model.initial_state(batch)
    rows = random_rows(time, batch)
    row, after = model.step(rows.first[0], rows.action[0], state)
    assert structure(row) == structure(nested.index(rows, 0))
    for other in (after, model.observe(row, state)):
        assert structure(other) == structure(state)
        assert {len(leaf) for leaf in nested.leaves(other)} == {batch}
        assert model.belief(other).shape == (batch, model.belief_size)
    for particles in (1, 3):
        inference, last = model.infer(Sequences.whole(rows), state, particles)
        assert structure(last) == structure(state)
        same(nested.index(inference.states, -1), last)
        log_probs = model.log_probs(inference.states.core, Sequences.whole(rows))
        assert {part.shape for part in log_probs.values()} == {(time, particles, batch)}


@every_core
@pytest.mark.parametrize("particles", [1, 2])
def test_the_way_back_written_by_hand_is_that_of_autograd(name, particles, monkeypatch):
    """Gradients of a fused inference equal those of the plain loops over cells."""
    core, time, batch = make_core(name), 5, 3
    torch.manual_seed(0)
    with torch.no_grad():  # quiet first weights would hide a mistake
        [p.copy_(0.5 * torch.randn_like(p)) for p in core.parameters()]
    contexts = torch.randn(time, batch, 3).double().requires_grad_()
    evidence = torch.randn(time, batch, 2).double().requires_grad_()
    mask = torch.arange(time)[:, None] < torch.tensor([5, 2, 3])
    begin = nested.map(lambda x: torch.randn_like(x).requires_grad_(), core.initial_state(batch))
    leaves = [leaf for leaf in nested.leaves(begin) if leaf.numel()]
    noise = noise_for(core, time, batch, particles)

    def gradients():
        with fed(noise):
            inference, last = core.infer(contexts, evidence, mask, begin, particles)
        total = sum(
            (torch.linspace(-1, 1, x.numel(), dtype=x.dtype) * x.flatten()).sum()
            for x in nested.leaves((inference, last))
        )
        wanted = [contexts, evidence, *leaves, *core.parameters()]
        return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)

    fast = gradients()
    monkeypatch.setattr(type(core), "explain_all", SequenceCore.explain_all)
    for kind in RECURRENCES.values():
        monkeypatch.setattr(kind, "forward", Recurrence.forward)
    close(tuple(fast), tuple(gradients()))
    assert sum(bool(gradient.any()) for gradient in fast) > 3


@every_core
def test_products_of_bfloat16_change_little(name):
    """Parameters, states and gradients stay float32; the gradient keeps its direction."""
    model = make_model(name, observations=PLANE).float()
    rows = nested.map(
        lambda x: x.float() if x.is_floating_point() else x, random_rows(5, 4, PLANE)
    )
    noise = noise_for(model, 5, 4).float()
    found = []
    for narrow in (False, True):
        with fed(noise), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss, *_ = ELBO(model)([Sequences.whole(rows)], (), 0)
        wanted = list(model.parameters())
        parts = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        assert {part.dtype for part in parts} == {torch.float32}
        found.append(torch.cat([part.flatten() for part in parts]))
    assert torch.cosine_similarity(*found, 0) > 0.99
    assert not torch.equal(*found)
    state = model.initial_state(4)
    for t in range(2):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            _, state = model.step(rows.first[t], rows.action[t], state)
    assert nested.leaves(state.core)[0].dtype == torch.float32


@every_core
def test_steps_can_be_compiled(name):
    """Traced, and run as before: what torch.compile cannot follow would fail."""
    model = make_model(name)
    sequences = padded(random_rows(4, 3), [4, 2, 3])
    noise = noise_for(model, 4, 3)
    found = []
    for compiled in (False, True):
        if compiled:
            model.core.compile_steps(backend="eager")
        with fed(noise):
            found.append(ELBO(model)([sequences], (), 0)[0])
        with fed(noise):
            found.append(
                model.step(
                    sequences.rows.first[0], sequences.rows.action[0], model.initial_state(3)
                )[1].core
            )
    close(found[0], found[2])
    same(found[1], found[3])


@every_core
def test_a_core_of_another_size_is_refused(name):
    model = make_model(name)
    parts = (model.encoder, model.core, model.decoder)
    contexts = model.core.context_size
    with pytest.raises(
        ValueError, match=rf"contexts of size {contexts}.*context_size={contexts + 1}"
    ):
        WorldModel(*parts, action_size=3)
    with pytest.raises(ValueError, match=rf"context_size={contexts + model.encoder.size}"):
        WorldModel(*parts, action_size=2, history=2)
    core = make_core(name, contexts, model.encoder.size + 1)
    with pytest.raises(ValueError, match=rf"evidence_size={model.encoder.size}"):
        WorldModel(model.encoder, core, model.decoder, action_size=2)


# The dream and the model are one.


@every_model
def test_dream_follows_the_model(name, feedback, history):
    """A posterior that is the prior explains a dream by the very states that dreamt it, and
    scores every row by the distribution that it was drawn from."""
    time, batch = 5, 3
    model = make_model(name, feedback, history)
    actions = random_rows(time, batch).action + 0.5  # not zero on the first row either
    noise = noise_for(model, time, batch)
    model.core = Blind(model.core)
    state = model.initial_state(batch)
    rows, states, log_probs = [], [], []
    for t in range(time):
        first = torch.full((batch,), t == 0)
        with fed(noise[t : t + 1]):
            row, after = model.step(first, actions[t], state)
        action = actions[t].masked_fill(first[:, None], 0.0)
        with fed(noise[t : t + 1]):
            percept, core = model.predict(action, state)
        same(core, after.core)
        rows.append(row)
        states.append(after)
        log_probs.append(percept.log_probs(row.percept))
        state = after
    sequences = Sequences.whole(nested.stack(rows))
    with fed(noise):
        inference, last = model.infer(sequences, model.initial_state(batch))
    close(inference.states, nested.stack(states))
    close(last, state)
    found = model.log_probs(inference.states.core, sequences)
    for key, value in nested.stack(log_probs).items():
        close(found[key][1:, 0], value[1:])
    close(found["observation"][0, 0], log_probs[0]["observation"])


@every_core
def test_fused_inference_equals_the_loop_over_explain(name):
    time, batch, particles = 5, 3, 2
    core = make_core(name)
    torch.manual_seed(1)
    contexts, evidence = torch.randn(time, batch, 3).double(), torch.randn(time, batch, 2).double()
    mask = torch.arange(time)[:, None] < torch.tensor([5, 2, 4])
    state = core.step(torch.randn(batch, 3).double(), core.initial_state(batch))
    prepared = core.prepare(contexts, evidence, mask, state)
    states = nested.map(lambda leaf: torch.cat([leaf] * particles), state)
    noise = noise_for(core, time, batch, particles)
    with fed(noise):
        fused = core.explain_all(prepared, states, particles)
    with fed(noise):
        looped = SequenceCore.explain_all(core, prepared, states, particles)
    close(fused, looped)
    with fed(noise):
        inference, _ = core.infer(contexts, evidence, mask, state, particles)
    close(inference, looped)
    for t in range(time):  # and the loop is what it says: one `explain` after another
        one = nested.map(lambda leaf: torch.cat([leaf[t]] * particles), prepared)  # noqa: B023
        with fed(noise[t : t + 1]):
            posterior, prior, states = core.explain(one, states)
        close(worldmodel.Inference(states, posterior, prior), nested.index(inference, t))


# Belief is a function of rows up to now.


@every_model
def test_thoughts_row_by_row_equal_beliefs_all_at_once(name, feedback, history):
    """For smoothers too: what they foresee is in the latent, which a belief does not read."""
    time, batch = 6, 3
    model = make_model(name, feedback, history)
    rows = random_rows(time, batch)
    noise = noise_for(model, time, batch)
    with fed(noise):
        inference, _ = model.infer(Sequences.whole(rows), model.initial_state(batch))
    believer = BeliefAgent(model, nn.Identity())
    with fed(noise):
        thoughts, mind = nested.unroll(
            believer.step, nested.steps(rows), believer.initial_state(batch)
        )
    close(thoughts, model.belief(inference.states))
    close(thoughts[-1], model.belief(mind))
    assert thoughts.shape[-1] == believer.thought_size


@every_filtering_model
def test_states_row_by_row_equal_states_all_at_once(name, feedback, history):
    time, batch = 6, 3
    model = make_model(name, feedback, history)
    rows = random_rows(time, batch)
    noise = noise_for(model, time, batch)
    with fed(noise):
        inference, last = model.infer(Sequences.whole(rows), model.initial_state(batch))
    state = model.initial_state(batch)
    with fed(noise):
        for t, row in enumerate(nested.steps(rows)):
            state = model.observe(row, state)
            close(state, nested.index(inference.states, t))
    close(state, last)


@every_model
def test_a_mind_and_a_model_restart_on_first_rows(name, feedback, history):
    model = make_model(name, feedback, history)
    rows = random_rows(3, 4)
    used = nested.map(lambda leaf: leaf + 1.7, model.initial_state(4))
    row = nested.index(rows, 0)
    noise = noise_for(model, 1, 4)
    for step in (
        lambda state: model.observe(row, state),
        lambda state: model.infer(Sequences.whole(rows), state)[1],
        lambda state: model.step(row.first, row.action, state),
    ):
        results = []
        for state in (used, model.initial_state(4)):
            torch.manual_seed(0)
            with fed(noise.expand(3, -1, -1)):
                results.append(step(state))
        same(*results)
    some = torch.tensor([True, False, True, False])
    with fed(noise):
        mixed = model.observe(row._replace(first=some), used)
    with fed(noise):
        going = model.observe(row._replace(first=torch.zeros(4, dtype=torch.bool)), used)
    with fed(noise):
        fresh = model.observe(row, model.initial_state(4))
    close(mixed, nested.where(some, fresh, going))


# Strangers, padding, void.


@every_core
@pytest.mark.parametrize("particles", [1, 2])
def test_rows_of_a_batch_are_strangers(name, particles):
    time, batch = 4, 3
    model = make_model(name, history=2, observations=PLANE, rewards=None)
    rows = random_rows(time, batch, PLANE, rewards=None)
    state = nested.map(lambda leaf: leaf + 0.3, model.initial_state(batch))
    rows = rows._replace(first=torch.zeros_like(rows.first))
    sources = [rows.action, rows.observation, rows.reward]
    [source.requires_grad_() for source in sources]
    sequences = padded(rows, [4, 2, 3])
    with fed(noise_for(model, time, batch, particles)):
        inference, last = model.infer(sequences, state, particles)
    log_probs = model.log_probs(inference.states.core, sequences)
    for b in range(batch):
        mine = slice(b, None, batch)
        outputs = [columns(inference, mine), nested.index(last, mine)]
        outputs += [value[:, :, b] for value in log_probs.values()]
        total = [leaf for output in outputs for leaf in nested.leaves(output)]
        others = torch.arange(batch) != b
        for source in sources:
            reached = jacobian(tuple(total), source)
            assert (reached[:, others] == 0).all()
            assert (reached[:, b] != 0).any() or (source is rows.action and name in DEAF)
    with fed(noise_for(model, 1, batch)):
        _, after = model.step(rows.first[0], rows.action[0], state)
    for b in range(batch):
        reached = jacobian(nested.index(after, b), rows.action)
        assert (reached[0, torch.arange(batch) != b] == 0).all()
        assert (reached[0, b] != 0).any() == (name not in DEAF)


ILLEGAL = {
    "first": lambda x: ~x,
    "action": lambda x: torch.full_like(x, torch.nan),
    "observation": lambda x: torch.full_like(x, 99 if x.dtype == torch.int64 else torch.inf),
    "reward": lambda x: torch.full_like(x, torch.nan),
    "terminated": lambda x: ~x,
}


def spoil(rows, where, keys=ILLEGAL):
    """Illegal values of the given keys `where` [T, B]."""
    changed = {
        key: nested.where(where, ILLEGAL[key](getattr(rows, key)), getattr(rows, key))
        for key in keys
    }
    return rows._replace(**changed)


@every_model
@pytest.mark.parametrize("density", [False, True])
def test_padding_never_leaks(name, feedback, history, density):
    time, lengths = 5, [5, 3, 1]
    kind = {"observations": PLANE, "rewards": None} if density else {}
    model = make_model(name, feedback, history, **kind)
    clean = padded(random_rows(time, 3, **kind), lengths)
    spoilt = clean._replace(rows=spoil(clean.rows, ~clean.mask))
    noise = noise_for(model, time, 3)
    found = []
    for sequences in (clean, spoilt):
        with fed(noise):
            inference, last = model.infer(sequences, model.initial_state(3))
        log_probs = model.log_probs(inference.states.core, sequences)
        with fed(noise):
            loss, metrics, _ = ELBO(model)([sequences], (), 0)
        with fed(noise):
            bound = worldmodel.log_prob(model, sequences)
        found.append(
            (log_probs, last, loss, tuple(metrics.values()), gradients(model, loss), bound)
        )
    assert all(np.isfinite(leaf).all() for leaf in map(np.asarray, found[1][3]))
    assert all(leaf.isfinite().all() for leaf in nested.leaves(found[1][4]))
    assert found[0][3] == found[1][3]
    for part in (0, 1, 2, 4, 5):
        same(found[1][part], found[0][part])
    for b, length in enumerate(lengths):  # and every column is what it is alone
        rows = columns(nested.index(clean.rows, slice(length)), slice(b, b + 1))
        alone = Sequences.whole(rows)
        with fed(noise[:length, b : b + 1]):
            inference, last = model.infer(alone, model.initial_state(1))
        close(last, nested.index(found[1][1], slice(b, b + 1)))
        for key, value in model.log_probs(inference.states.core, alone).items():
            close(found[1][0][key][:length, :, b], value[..., 0])
            assert (found[1][0][key][length:, :, b] == 0).all()


@every_core
def test_a_column_without_rows_keeps_its_state(name):
    model = make_model(name, history=2)
    state = nested.map(lambda leaf: leaf + 0.3, model.initial_state(2))
    rows = random_rows(3, 2)
    rows = rows._replace(first=torch.tensor([[False, True]] * 3))  # padding may say anything
    _, last = model.infer(padded(rows, [3, 0]), state)
    same(nested.index(last, 1), nested.index(state, 1))


@every_model
@pytest.mark.parametrize("density", [False, True])
def test_on_a_first_row_action_reward_and_end_are_void(name, feedback, history, density):
    time, batch = 3, 2
    kind = {"rewards": None} if density else {}
    model = make_model(name, feedback, history, **kind)
    rows = random_rows(time, batch, **kind)
    other = spoil(rows, rows.first, ["action", "reward", "terminated"])
    assert other.reward[0].isnan().all()
    noise = noise_for(model, time, batch)
    found = []
    for changed in (rows, other):
        sequences = Sequences.whole(changed)
        with fed(noise):
            inference, last = model.infer(sequences, model.initial_state(batch))
        log_probs = model.log_probs(inference.states.core, sequences)
        with fed(noise):
            loss = ELBO(model)([sequences], (), 0)[0]
        found.append((inference, last, log_probs, loss, gradients(model, loss)))
    for before, after in zip(*found, strict=True):
        same(after, before)
    assert all(leaf.isfinite().all() for leaf in nested.leaves(found[1][4]))
    log_probs = found[1][2]
    assert (log_probs["reward"][0] == 0).all()
    assert (log_probs["terminated"][0] == 0).all()
    assert (log_probs["observation"] != 0).all()
    assert (log_probs["reward"][1:] != 0).all()
    state = model.initial_state(batch)
    results = []
    for action in (rows.action[0], torch.full_like(rows.action[0], 3.0)):
        torch.manual_seed(0)
        with fed(noise[:1]):
            row, after = model.step(rows.first[0], action, state)
        assert (row.action == 0).all()
        assert (row.reward == 0).all()
        assert not row.terminated.any()
        results.append((row, after))
    same(*results)


@every_core
def test_rows_that_are_not_scored_count_for_nothing_but_what_follows_them(name):
    model = make_model(name)
    whole = Sequences.whole(random_rows(5, 2))
    late = whole._replace(scored=torch.arange(5)[:, None].expand(5, 2) >= 2)
    noise = noise_for(model, 5, 2)
    bounds, parts = [], []
    for sequences in (whole, late):
        with fed(noise):
            bounds.append(worldmodel.log_prob(model, sequences))
        with fed(noise):
            inference, _ = model.infer(sequences, model.initial_state(2))
        parts.append(model.log_probs(inference.states.core, sequences))
    for key in parts[0]:
        same(parts[1][key][2:], parts[0][key][2:])
        assert (parts[1][key][:2] == 0).all()
        close(bounds[1][key][2:], bounds[0][key][2:])
        assert (bounds[1][key][:2] == 0).all()


# No peeking.


@every_model
def test_beliefs_do_not_peek(name, feedback, history):
    time = 4
    model = make_model(name, feedback, history, observations=PLANE, rewards=None)
    rows = random_rows(time, 2, PLANE, rewards=None)
    sources = [rows.action, rows.observation, rows.reward]
    [source.requires_grad_() for source in sources]
    with fed(noise_for(model, time, 2)):
        inference, _ = model.infer(Sequences.whole(rows), model.initial_state(2))
    belief = model.belief(inference.states)
    for t in range(time):
        for source in sources:
            reached = jacobian(belief[t], source)
            assert (reached[t + 1 :] == 0).all()
            unheard = t == 0 or (source is rows.action and name in DEAF)
            assert unheard or (reached[t] != 0).any()
        assert (jacobian(belief[t], rows.observation)[t] != 0).any()


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("name", ["rnn", "srnn filtering"])
def test_dropout_takes_the_past_from_contexts_in_training_and_from_nothing_else(name, history):
    model = make_model(name, history=history, observations=PLANE, rewards=None)
    model.dropout.p = 1.0
    rows = random_rows(4, 2, PLANE, rewards=None)
    rows.observation.requires_grad_()
    for training in (True, False):
        model.train(training)
        with fed(noise_for(model, 4, 2)):
            states = model.infer(Sequences.whole(rows), model.initial_state(2))[0].states
        heard = jacobian(states.core.hidden, rows.observation)
        assert (heard == 0).all() == training
        assert (jacobian(states.history, rows.observation) != 0).any()


@every_filtering_model
def test_filters_do_not_peek(name, feedback, history):
    time = 4
    model = make_model(name, feedback, history, observations=PLANE, rewards=None)
    rows = random_rows(time, 2, PLANE, rewards=None)
    sources = [rows.action, rows.observation, rows.reward]
    [source.requires_grad_() for source in sources]
    sequences = Sequences.whole(rows)
    with fed(noise_for(model, time, 2)):
        inference, _ = model.infer(sequences, model.initial_state(2))
    log_probs = model.log_probs(inference.states.core, sequences)
    for t in range(time):
        for source in sources:
            reached = jacobian(nested.index((inference, log_probs), t), source)
            assert (reached[t + 1 :] == 0).all()


@every_core
def test_the_prior_of_a_row_reads_neither_its_evidence_nor_the_future(name):
    """Given the latent before it: that one may have been drawn by a smoother."""
    time, batch = 4, 2
    core = make_core(name)
    torch.manual_seed(1)
    contexts = torch.randn(time, batch, 3).double().requires_grad_()
    evidence = torch.randn(time, batch, 2).double().requires_grad_()
    mask = torch.ones(time, batch, dtype=torch.bool)
    prepared = core.prepare(contexts, evidence, mask, core.initial_state(batch))
    noise = noise_for(core, time, batch)
    state = core.initial_state(batch)
    latents = torch.randn(time + 1, *state.latent.shape).double()
    state = state._replace(latent=latents[time])
    for t in range(time):
        with fed(noise[t : t + 1]):
            posterior, prior, after = core.explain(nested.index(prepared, t), state)
        assert (jacobian(prior, evidence) == 0).all()
        for output in (prior, core.belief(after)):
            assert (jacobian(output, evidence)[t + 1 :] == 0).all()
            assert (jacobian(output, contexts)[t + 1 :] == 0).all()
        assert (jacobian(core.belief(after), contexts)[: t + 1] != 0).any() == (name not in DEAF)
        ahead = jacobian(posterior, evidence)[t + 1 :]
        assert (ahead != 0).any() == (name in SMOOTHING and t + 1 < time)
        if name in LATENT:
            assert (jacobian(posterior, evidence)[t] != 0).any()
            fixed = "independent" in name or name in DEAF
            assert (jacobian(prior, contexts)[t] != 0).any() != fixed
        state = after._replace(latent=latents[t])


# Chunks and particles.


@every_filtering_model
@pytest.mark.parametrize("particles", [1, 2])
def test_two_chunks_with_a_carried_state_equal_one(name, feedback, history, particles):
    time, cut, batch = 6, 2, 3
    model = make_model(name, feedback, history)
    whole = Sequences.whole(random_rows(time, batch))
    noise = noise_for(model, time, batch, particles)
    with fed(noise):
        inference, last = model.infer(whole, model.initial_state(batch), particles)
    with fed(noise[:cut]):
        start, state = model.infer(
            nested.index(whole, slice(cut)), model.initial_state(batch), particles
        )
    with fed(noise[cut:]):
        end, state = model.infer(nested.index(whole, slice(cut, None)), state, particles)
    close(nested.concatenate([start, end]), inference)
    close(state, last)


@every_filter
@pytest.mark.parametrize("history", [1, 3])
def test_a_chunk_carries_the_state_of_its_last_valid_rows(name, history):
    """A first chunk that is padded goes on as if there had been no padding."""
    model = make_model(name, history=history)
    rows = random_rows(5, 2)
    noise = noise_for(model, 5, 2)
    with fed(noise):
        _, state = model.infer(padded(rows, [2, 3]), model.initial_state(2))
    for b, length in enumerate([2, 3]):
        one = columns(rows, slice(b, b + 1))
        rest = Sequences.whole(nested.index(one, slice(length, None)))
        with fed(noise[length:, b : b + 1]):
            _, found = model.infer(rest, nested.index(state, slice(b, b + 1)))
        with fed(noise[:, b : b + 1]):
            _, expected = model.infer(Sequences.whole(one), model.initial_state(1))
        close(found, expected)


@every_model
def test_particles_equal_separate_runs(name, feedback, history):
    time, batch, particles = 4, 3, 3
    model = make_model(name, feedback, history)
    sequences = padded(random_rows(time, batch), [4, 2, 3])
    noise = noise_for(model, time, batch, particles)
    state = model.initial_state(batch)
    with fed(noise):
        inference, last = model.infer(sequences, state, particles)
    log_probs = model.log_probs(inference.states.core, sequences)
    for k in range(particles):
        mine = slice(k * batch, (k + 1) * batch)
        with fed(noise[:, mine]):
            alone, end = model.infer(sequences, state)
        close(columns(inference, mine), alone)
        close(nested.index(last, mine), end)
        for key, value in model.log_probs(alone.states.core, sequences).items():
            close(log_probs[key][:, k], value[:, 0])


# Probabilities.


def all_sequences(time, rewards=(-1.0, 0.0), seed=0):
    """Every percept sequence of `time` rows over two symbols, two rewards and ends, for actions
    drawn once."""
    steps = list(itertools.product((0, 1), rewards, (False, True)))
    sequences = [
        [(start, 0.0, False), *rest]
        for start in (0, 1)
        for rest in itertools.product(steps, repeat=time - 1)
    ]
    observation, reward, terminated = (
        torch.tensor([[row[part] for row in rows] for rows in sequences]).t() for part in range(3)
    )
    actions = random_rows(time, 1, seed=seed).action.expand(-1, len(sequences), -1)
    first = torch.zeros(time, len(sequences), dtype=torch.bool)
    first[0] = True
    return Sequences.whole(Row(first, actions, observation, reward.double(), terminated))


@pytest.mark.parametrize("time", [1, 2, 3])
@pytest.mark.parametrize(("feedback", "history"), [(True, 1), (True, 2), (False, 1)])
def test_probabilities_of_all_sequences_sum_to_one(time, feedback, history):
    model = make_model("rnn", feedback, history, BITS, (-1.0, 0.0))
    for seed in range(3):
        sequences = all_sequences(time, seed=seed)
        assert sequences.mask.shape[1] == 2 * 8 ** (time - 1)
        probabilities = sum(worldmodel.log_prob(model, sequences).values()).sum(0).exp()
        assert abs(probabilities.sum() - 1) < 1e-10
        assert probabilities.max() < 0.9


@every_core
def test_text_has_neither_actions_nor_rewards(name):
    """Sizes are zero, keys are absent, and everything works as ever."""
    model = make_model(name, observations=BITS, silent=True, actions=0)
    strings = torch.tensor(list(itertools.product((0, 1), repeat=4))).t()  # [4, 16]
    first = torch.zeros(4, 16, dtype=torch.bool)
    first[0] = True
    nothing = torch.full((4, 16), torch.nan).double()  # never read
    sequences = Sequences.whole(Row(first, nothing[..., None][..., :0], strings, nothing, ~first))
    noise = noise_for(model, 4, 16)
    with fed(noise):
        log_probs = worldmodel.log_prob(model, sequences)
    assert list(log_probs) == ["observation"]
    if name.startswith("rnn"):
        assert abs(log_probs["observation"].sum(0).exp().sum() - 1) < 1e-10
    with fed(noise):
        loss, metrics, _ = ELBO(model)([sequences], (), 0)
    assert loss.isfinite()
    assert metrics.keys() == {"observation_nats", "kl_nats", "nats"}
    row, state = model.step(first[0], sequences.rows.action[0], model.initial_state(16))
    row, _ = model.step(first[1], sequences.rows.action[1], state)
    assert (row.reward == 0).all()
    assert not row.terminated.any()
    assert row.action.shape == (16, 0)


@every_core
def test_contexts_can_be_empty(name):
    """Neither actions nor feedback: the latents alone carry what was seen, as in a deep Markov
    model."""
    model = make_model(name, feedback=False, observations=BITS, silent=True, actions=0)
    assert model.core.context_size == 0
    rows = random_rows(4, 3, BITS, actions=2)
    rows = rows._replace(action=rows.action[..., :0])
    loss, *_ = ELBO(model)([Sequences.whole(rows)], (), 0)
    loss.backward()
    assert loss.isfinite()
    row, state = model.step(rows.first[0], rows.action[0], model.initial_state(3))
    row, _ = model.step(~row.first, row.action, state)
    assert row.observation.shape == (3,)


def gentle_model(name, **kind):
    """A model whose posteriors are not far from its priors: importance weights stay moderate."""
    model = make_model(name, **kind)
    with torch.no_grad():
        [parameter.mul_(0.4) for parameter in model.core.parameters()]
    return model


FITTED = {  # weight of the divergence, and updates, with which latents say something
    "independent": (0.6, 100),
    "rssm gaussian": (0.4, 100),
    "rssm categorical": (0.0, 7),
    "rssm gru layers": (0.6, 100),
    "vae": (5.0, 100),
}


SAID_LITTLE = {"independent smoothing": 0.003, "srnn skip": 0.001}  # nats, of these latents


@cache
def fitted_model(name):
    """A model whose latents matter, and whose posteriors know what to look for."""
    model = gentle_model(name, observations=BITS, rewards=(-1.0, 0.0))
    with torch.no_grad():
        [parameter.mul_(3.0) for parameter in model.decoder.parameters()]
    torch.manual_seed(0)
    weight, updates = FITTED.get(name, FITTED.get(name.split()[0], (1.0, 100)))
    objective = ELBO(model, kl_weight=constant(weight))
    trainer = Trainer(objective, model.core.parameters(), learning_rate=0.03)
    metrics = [trainer.update([all_sequences(3)]) for _ in range(updates)]
    assert metrics[-1]["kl_nats"] > SAID_LITTLE.get(name, 0.05)
    return model


@pytest.mark.parametrize("name", LATENT)
@pytest.mark.parametrize(("time", "particles"), [(1, 1000), (2, 300), (3, 50)])
def test_estimated_probabilities_of_all_sequences_sum_to_one(name, time, particles):
    model = fitted_model(name)
    sequences = all_sequences(time)
    number, repeats = sequences.mask.shape[1], 24
    many = nested.map(lambda leaf: torch.cat([leaf] * repeats, 1), sequences)
    torch.manual_seed(0)
    log_probs = sum(worldmodel.log_prob(model, many, particles).values()).sum(0)
    sums = log_probs.exp().unflatten(0, (repeats, number)).sum(1)
    error = sums.std() / repeats**0.5
    assert abs(sums.mean() - 1) < 4 * error
    assert error < 0.04  # without the latents' weights, the sums lie between 1.3 and 7


@pytest.mark.parametrize("name", LATENT)
@pytest.mark.parametrize("threshold", [0.6, 2.0])
def test_the_filter_estimates_the_likelihood_without_bias(name, threshold):
    model, time, draws = make_model(name), 4, 20_000
    strength = {"srnn lstm": 2.0, "vae": 1.0}.get(
        name, 3.0
    )  # latents matter much, all rows are possible
    with torch.no_grad():
        [parameter.mul_(strength) for parameter in model.decoder.parameters()]
    model.core = Blind(model.core)  # the posterior is the prior: no weight exceeds one
    one = Sequences.whole(random_rows(time, 1))
    torch.manual_seed(0)
    with torch.no_grad():
        exact = [
            sum(worldmodel.log_prob(model, one, 40_000).values()).sum().exp() for _ in range(8)
        ]
        many = nested.map(lambda leaf: leaf.expand(-1, draws, *leaf.shape[2:]), one)
        found = sum(particle_filter(model, many, 4, threshold).values()).sum(0).exp()
    exact = torch.stack(exact)
    error = (exact.var() / 8 + found.var() / draws).sqrt()
    assert error < 0.1 * exact.mean()
    assert abs(found.mean() - exact.mean()) < 4 * error


@pytest.mark.parametrize("name", LATENT)
def test_closed_and_sampled_divergences_agree(name):
    time, particles = 3, 20000
    model = make_model(name)
    sequences = Sequences.whole(random_rows(time, 1))
    torch.manual_seed(0)
    with torch.no_grad():
        inference = model.explain(sequences, particles)
    closed = kl_closed_form(model.core, inference)
    sampled = kl_monte_carlo(model.core, inference)
    assert (closed > 0).all()
    difference = sampled - closed
    error = difference.std(1) / particles**0.5
    assert (difference.mean(1).abs() < 4 * error).all()
    assert (error < 0.1 * closed.mean(1)).all()


@pytest.mark.parametrize("name", LATENT)
def test_bounds_rise_with_particles_towards_the_likelihood(name):
    time, draws, most = 4, 3000, 25
    model = gentle_model(name)
    one = Sequences.whole(random_rows(time, 1))
    many = nested.map(lambda leaf: leaf.expand(-1, draws, *leaf.shape[2:]), one)
    noise = noise_for(model, time, draws, most)

    def bound(particles):
        with fed(noise[:, : particles * draws]):
            found = worldmodel.log_prob(model, many, particles, at_once=noise.numel())
            return sum(found.values()).sum(0)

    bounds = [bound(particles) for particles in (1, 5, most)]  # [draws] each, paired
    for lower, higher in itertools.pairwise(bounds):
        gain = higher - lower
        assert gain.mean() > 4 * gain.std() / draws**0.5
    torch.manual_seed(1)
    exact = [sum(worldmodel.log_prob(model, one, 20000).values()).sum() for _ in range(5)]
    exact = torch.stack(exact)
    error = (exact.var() / 5 + bounds[-1].var() / draws).sqrt()
    assert bounds[-1].mean() < exact.mean() + 4 * error
    assert exact.mean() - bounds[-1].mean() < 0.5 * (bounds[-1].mean() - bounds[0].mean())
    with fed(noise[:, :draws]):
        closed = -ELBO(model)([many], (), 0)[1]["nats"] * time
    error = bounds[0].std() / draws**0.5
    assert abs(closed - bounds[0].mean()) < 4 * error


@every_core
@pytest.mark.parametrize("particles", [1, 4])
def test_entries_by_key_add_up_to_the_bound(name, particles):
    """log 1/K sum_k p(x, z_k) / q(z_k), and so for every shorter sequence."""
    time, batch = 4, 3
    model = make_model(name)
    sequences = padded(random_rows(time, batch), [4, 2, 3])
    noise = noise_for(model, time, batch, particles)
    with fed(noise):
        entries = worldmodel.log_prob(model, sequences, particles)
    with fed(noise):
        inference, _ = model.infer(sequences, model.initial_state(batch), particles)
    density = model.core.latent_distribution
    latent = inference.states.core.latent
    weights = density(inference.prior).log_prob(latent)
    weights = weights - density(inference.posterior).log_prob(latent)
    weights = weights.unflatten(1, (particles, batch)).masked_fill(~sequences.mask[:, None], 0)
    weights = weights + sum(
        model.log_probs(inference.states.core, sequences).values()
    )  # [T, K, B]
    for t in range(time):
        bound = weights[: t + 1].sum(0).exp().mean(0).log()
        close(sum(value[: t + 1].sum(0) for value in entries.values()), bound)
    assert (entries["reward"][0] == 0).all()
    assert (entries["terminated"][0] == 0).all()


# A perfect core.


def all_games(time, classes):
    """Every sequence of `time` rows: all actions, all percepts."""
    steps = np.array(list(itertools.product(range(5), range(classes), (-1, 0), (0, 1))))  # [M, 4]
    choices = [np.arange(classes)] + [np.arange(len(steps))] * (time - 1)
    index = np.stack([part.ravel() for part in np.meshgrid(*choices, indexing="ij")])  # [T, B]
    rows = steps[index]
    rows[0] = 0
    rows[0, :, 1] = index[0]
    action, observation, reward, terminated = rows.transpose(2, 0, 1)
    first = np.zeros(action.shape, bool)
    first[0] = True
    return first, action, observation, reward.astype(float), terminated.astype(bool)


def as_sequences(first, action, observation, reward, terminated):
    code = torch.nn.functional.one_hot(torch.from_numpy(action), 5).double()
    leaves = map(torch.from_numpy, (first, observation, reward, terminated))
    first, observation, reward, terminated = leaves
    code = code.masked_fill(first[..., None], 0.0)
    return Sequences.whole(Row(first, code, observation, reward, terminated))


GAMES = [(2, 2, 4), (2, 3, 3), (3, 2, 3)]
every_game = pytest.mark.parametrize(
    ("width", "classes", "time", "task"),
    [(*game, task) for game in GAMES for task in ("free", "copy", "equal")],
)


@every_game
def test_a_perfect_core_gives_every_game_its_probability(width, classes, time, task):
    model = perfect_model(width, classes, task)
    arrays = all_games(time, classes)
    sequences = as_sequences(*arrays)
    exact = model.core.exact.log_prob(*arrays)
    total = torch.from_numpy(sum(exact.values()).sum(0))
    possible = total > -torch.inf
    assert abs(total.exp().sum() - 5 ** (time - 1)) < 1e-9
    inference, _ = model.infer(sequences, model.initial_state(len(total)))
    parts = model.log_probs(inference.states.core, sequences)
    assert not any(part.isnan().any() for part in parts.values())
    close(sum(parts.values()).sum((0, 1)), total)
    reported = worldmodel.log_prob(model, sequences)
    for key, value in exact.items():
        close(reported[key][:, possible], torch.from_numpy(value)[:, possible])


@every_game
def test_impossible_sequences_have_probability_zero(width, classes, time, task):
    model = perfect_model(width, classes, task)
    arrays = all_games(time, classes)
    total = torch.from_numpy(sum(model.core.exact.log_prob(*arrays).values()).sum(0))
    reported = sum(worldmodel.log_prob(model, as_sequences(*arrays)).values()).sum(0)
    close(reported, total)


@every_core
def test_a_broken_model_is_not_reported_as_a_perfect_one(name):
    model = make_model(name)
    with torch.no_grad():
        [parameter.fill_(torch.nan) for parameter in model.decoder.parameters()]
    reported = worldmodel.log_prob(model, Sequences.whole(random_rows(3, 2)))
    assert sum(reported.values()).sum(0).isnan().all()


class Coin(Agent):
    """Plays anything, and thinks nothing."""

    thought_size = 0

    def initial_state(self, batch_size):
        return ()

    def step(self, row, state, shared=None):
        return row.reward.new_zeros(len(row.first), 0), state

    def policy(self, thought):
        return OneHot(torch.zeros(len(thought), 5).double())


@pytest.mark.parametrize("task", ["free", "copy", "equal"])
def test_dreams_of_a_perfect_model_have_the_frequencies_of_the_game(task):
    """Over restarts too: of five rows, ended games begin anew."""
    time, games = 4, 20000
    model = perfect_model(2, 2, task)
    dream = Dream(model, 100, spaces.Discrete(2), spaces.Discrete(5))
    core = GenCore(dream, Coin())
    torch.manual_seed(0)
    sequences, _, _ = core.generate(time, core.initial_state(games))
    rows = sequences.rows
    action = core.actions.decode(rows.action).masked_fill(rows.first, 0)
    parts = (rows.first, action, rows.observation, rows.reward, rows.terminated)
    arrays = [part.numpy() for part in parts]
    log_prob = sum(model.core.exact.log_prob(*arrays).values()).sum(0)
    assert np.isfinite(log_prob).all()  # nothing impossible is dreamt
    assert (rows.first[1:] == rows.terminated[:-1]).all()
    assert rows.first[0].all()
    log_prob = log_prob - np.log(5) * (~arrays[0]).sum(0)
    histories = np.concatenate(arrays).T  # [games, 5 * T]
    _, which, counts = np.unique(histories, axis=0, return_index=True, return_counts=True)
    expected = games * np.exp(log_prob[which])
    assert abs(expected.sum() / games - 1) < 1e-9  # all that is possible was dreamt
    z = (counts - expected) / np.sqrt(expected * (1 - expected / games))
    assert np.abs(z).max() < 4.5
    chi_square, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
