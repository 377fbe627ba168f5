"""Laws of sequence cores, and of the world model around one.

A core is checked small, in float64, none of its parameters zero, with noise that is fed by hand:
so what should be equal is equal to 1e-12.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.agent import BeliefAgent
from worldmodel.cores import Inference, SequenceCore
from worldmodel.environment import Dream
from worldmodel.likelihoods import log_prob
from worldmodel.model import WorldModel
from worldmodel.objectives import ELBO
from worldmodel.recurrences import Recurrence
from worldmodel.sequences import Row, Sequences
from worldmodel.testing.law import (
    Laws,
    alike,
    close,
    cross,
    demand,
    finite,
    jacobian,
    same,
    unreached,
)
from worldmodel.testing.material import (
    PLANE,
    SYMBOLS,
    Blind,
    columns,
    core_states,
    excite,
    fed,
    gradients,
    model_around,
    noise_for,
    padded,
    random_rows,
    spoil,
)

CONTEXT, EVIDENCE = 3, 2  # sizes that cores are checked with


@dataclass(frozen=True)
class CoreCase:
    """A core to be checked, and properties that laws cannot infer."""

    make: Callable[[int, int], SequenceCore]
    """(context_size, evidence_size) -> a core, small: laws run it many times."""
    name: str = ""
    deaf: bool = False
    """The core ignores contexts and has no memory, as a VAE."""
    fixed_prior: bool = False
    """The prior of its latents does not depend on contexts."""
    fits: tuple[tuple[float, int], ...] = ((1.0, 100), (0.4, 100), (0.1, 100))
    """Weights of the divergence, and updates; the first is taken with which its latents become
    informative."""
    says: float = 0.001
    """Nats a row of the latents' divergence, at least, once they are informative."""

    def __str__(self) -> str:
        return self.name or getattr(self.make, "__name__", repr(self.make))

    def core(
        self, context_size: int = CONTEXT, evidence_size: int = EVIDENCE, seed: int = 0
    ) -> SequenceCore:
        """The core in float64, none of its parameters zero."""
        torch.manual_seed(seed)
        return excite(self.make(context_size, evidence_size).double())

    def model(self, feedback: bool = True, history: int = 1, **options: Any) -> WorldModel:
        """A small world model around it; options: of `model_around`."""
        return model_around(self.make, feedback, history, **options)

    @property
    def filtering(self) -> bool:
        return self.core().filtering

    @property
    def latents(self) -> int:
        """The size of its latent."""
        return self.core().initial_state(1).latent.shape[-1]


def is_filter(case: CoreCase) -> bool:
    return case.filtering


def has_latents(case: CoreCase) -> bool:
    return case.latents > 0


CORE_LAWS = Laws()
"""Laws of sequence cores."""
AROUND = [
    {"feedback": True, "history": 1},
    {"feedback": True, "history": 2},
    {"feedback": False, "history": 1},
]
PARTICLES = [{"particles": 1}, {"particles": 2}]
KINDS = [{"density": False}, {"density": True}]
SHAPES = cross([{"time": 1}, {"time": 4}], [{"batch": 1}, {"batch": 3}])


def inputs(time: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts [T, B, C], evidence [T, B, E], a mask that is true [T, B]."""
    torch.manual_seed(1)
    contexts = torch.randn(time, batch, CONTEXT).double()
    evidence = torch.randn(time, batch, EVIDENCE).double()
    return contexts, evidence, torch.ones(time, batch, dtype=torch.bool)


def sizes(tree: Any) -> set[int]:
    """The sizes of leaves."""
    return {len(leaf) for leaf in nested.leaves(tree)}


def shape(found: Tensor, expected: tuple[int, ...], what: str) -> None:
    demand(found.shape == expected, f"{what} has shape {tuple(found.shape)}, expected {expected}")


# Structures.


@CORE_LAWS.add(SHAPES)
def a_core_gives_back_the_structure_of_its_state(case: CoreCase, time: int, batch: int) -> None:
    """`step`, `posterior_step` and `infer` return states of the names, shapes and types of
    `initial_state`; features [*, feature_size], beliefs [*, belief_size]."""
    core = case.core()
    state = core.initial_state(batch)
    demand(hasattr(state, "latent"), "a state without a field `latent`")
    demand(sizes(state) == {batch}, f"initial_state({batch}) has leaves of {sizes(state)} rows")
    contexts, evidence, mask = inputs(time, batch)
    after = core.step(contexts[0], state)
    alike(after, state, "the state after a step")
    demand(sizes(after) == {batch}, f"a step of {batch} rows gives {sizes(after)}")
    for particles in (1, 2):
        inference, last = core.infer(contexts, evidence, mask, state, particles)
        alike(last, state, "the state after inference")
        for part in nested.leaves(inference):
            rows = tuple(part.shape[:2])
            expected = (time, particles * batch)
            demand(rows == expected, f"inference of {rows} rows and columns, expected {expected}")
        same(nested.index(inference.states, -1), last, "the last of all states")
        alike(nested.index(inference.states, 0), state, "an inferred state")
    shape(core.features(after), (batch, core.feature_size), "features of one row")
    shape(core.belief(after), (batch, core.belief_size), "the belief after one row")
    many = (time, 2 * batch)
    shape(core.features(inference.states), (*many, core.feature_size), "features")
    shape(core.belief(inference.states), (*many, core.belief_size), "beliefs")


@CORE_LAWS.add(cross(AROUND, SHAPES[:3]))
def a_model_gives_back_the_structure_of_its_state(
    case: CoreCase, feedback: bool, history: int, time: int, batch: int
) -> None:
    """`WorldModel.step`, `observe` and `infer` around the core give back what they were given."""
    model = case.model(feedback, history)
    state = model.initial_state(batch)
    rows = random_rows(time, batch)
    row, after = model.step(rows.first[0], rows.action[0], state)
    alike(row, nested.index(rows, 0), "a generated row")
    for other in (after, model.observe(row, state)):
        alike(other, state, "the state after a row")
        demand(sizes(other) == {batch}, f"states of {sizes(other)} rows, expected {batch}")
        shape(model.belief(other), (batch, model.belief_size), "the belief")
    for particles in (1, 3):
        inference, last = model.infer(Sequences.whole(rows), state, particles)
        alike(last, state, "the state after inference")
        same(nested.index(core_states(inference), -1), last.core, "the last of all states")
        log_probs = model.log_probs(core_states(inference), Sequences.whole(rows))
        for key, part in log_probs.items():
            shape(part, (time, particles, batch), f"the log probability of {key}")


@CORE_LAWS.add()
def no_part_normalises_over_the_batch(case: CoreCase) -> None:
    """Batch normalisation would couple the rows of a batch, which are independent."""
    kinds = {type(module).__name__ for module in case.model().modules()}
    batched = [kind for kind in kinds if "BatchNorm" in kind]
    demand(not batched, f"modules {batched}; use layer normalisation")


@CORE_LAWS.add()
def a_core_of_another_size_is_refused(case: CoreCase) -> None:
    """`context_size` and `evidence_size` are attributes, the sizes that the core was built for."""
    model = case.model()
    parts = (model.percepts, model.core)
    evidence, contexts = model.percepts.size, model.core.context_size
    other = case.core(contexts, evidence + 1)
    refused: list[tuple[Callable[[], Any], str]] = [
        (partial(WorldModel, *parts, action_size=3), f"context_size={contexts + 1}"),
        (
            partial(WorldModel, *parts, action_size=2, history=2),
            f"context_size={contexts + evidence}",
        ),
        (
            partial(WorldModel, model.percepts, other, action_size=2),
            f"evidence_size={evidence}",
        ),
    ]
    for build, advice in refused:
        try:
            build()
        except ValueError as error:
            demand(advice in str(error), f"the error does not advise {advice}: {error}")
        else:
            raise AssertionError(f"a model was built where {advice} is needed")


# The two ways through a core: the prior's, which dreams, and the posterior's, which infers.


@CORE_LAWS.add()
def latents_are_drawn_from_the_noise_alone(case: CoreCase) -> None:
    """Draws are by `Gaussian.draw` or `OneHots.draw`, in `step` and in `posterior_step`, once a
    row: fixed noise fixes what is drawn, and other noise draws another latent."""
    core, batch = case.core(), 3
    contexts, evidence, mask = inputs(1, batch)
    state = core.initial_state(batch)

    def drawn(noise: Tensor, seed: int) -> tuple[Any, Any]:
        torch.manual_seed(seed)
        with fed(noise):
            stepped = core.step(contexts[0], state)
        with fed(noise):
            return stepped, core.infer(contexts, evidence, mask, state)[1]

    noise = noise_for(core, 1, batch)
    same(drawn(noise, 0), drawn(noise, 1), "two draws with the same noise")
    if not case.latents:
        return
    other = drawn(noise_for(core, 1, batch, seed=5), 0)
    for way, one, another in zip(("step", "posterior_step"), drawn(noise, 0), other, strict=True):
        differ = (one.latent != another.latent).any()
        demand(differ, f"{way} draws the same latent whatever the noise: not from the prior")


@CORE_LAWS.add(AROUND)
def dream_follows_the_model(case: CoreCase, feedback: bool, history: int) -> None:
    """A posterior that is the prior infers the very states that generated a dream, and scores
    every row by the distribution that it was drawn from. So `step` does with a context what
    `prepare` and `posterior_step` do with it."""
    time, batch = 5, 3
    model = case.model(feedback, history)
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
        same(core, after.core, "what `predict` and `step` make of a state")
        rows.append(row)
        states.append(after.core)
        log_probs.append(percept.log_probs(row.percept))
        state = after
    sequences = Sequences.whole(nested.stack(rows))
    with fed(noise):
        inference, last = model.infer(sequences, model.initial_state(batch))
    close(core_states(inference), nested.stack(states), "states that explain the dream")
    close(last, state, "the last state")
    found = model.log_probs(core_states(inference), sequences)
    for key, value in nested.stack(log_probs).items():
        close(found[key][1:, 0], value[1:], f"log p({key})")
    close(found["observation"][0, 0], log_probs[0]["observation"], "log p(first observation)")


@CORE_LAWS.add()
def fused_inference_equals_the_loop_over_posterior_steps(case: CoreCase) -> None:
    """`posterior_all` gives what the plain loop over `posterior_step` gives, and so does `infer`:
    a core that overrides it computes the same."""
    time, batch, particles = 5, 3, 2
    core = case.core()
    contexts, evidence, _ = inputs(time, batch)
    mask = torch.arange(time)[:, None] < torch.tensor([5, 2, 4])
    state = core.step(torch.randn(batch, CONTEXT).double(), core.initial_state(batch))
    prepared = core.prepare(contexts, evidence, mask, state)
    states = nested.map(lambda leaf: torch.cat([leaf] * particles), state)
    noise = noise_for(core, time, batch, particles)
    with fed(noise):
        fused = core.posterior_all(prepared, states, particles)
    with fed(noise):
        looped = SequenceCore.posterior_all(core, prepared, states, particles)
    close(fused, looped, "`posterior_all` beside the loop")
    with fed(noise):
        inference, _ = core.infer(contexts, evidence, mask, state, particles)
    close(inference, looped, "`infer` beside the loop")
    for t in range(time):  # and the loop is one `posterior_step` after another
        one = nested.map(lambda leaf: torch.cat([leaf[t]] * particles), prepared)  # noqa: B023
        with fed(noise[t : t + 1]):
            posterior, prior, states = core.posterior_step(one, states)
        step = Inference(states, posterior, prior)
        close(step, nested.index(inference, t), f"`posterior_step` at row {t}")


@CORE_LAWS.add(PARTICLES)
def the_way_back_written_by_hand_is_that_of_autograd(case: CoreCase, particles: int) -> None:
    """Gradients of a fused inference equal those of the plain loops over cells, and most
    parameters have one."""
    core, time, batch = case.core(), 5, 3
    torch.manual_seed(0)
    with torch.no_grad():  # small first weights would hide a mistake
        for parameter in core.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    contexts = torch.randn(time, batch, CONTEXT).double().requires_grad_()
    evidence = torch.randn(time, batch, EVIDENCE).double().requires_grad_()
    mask = torch.arange(time)[:, None] < torch.tensor([5, 2, 3])
    begin = nested.map(lambda x: torch.randn_like(x).requires_grad_(), core.initial_state(batch))
    leaves = [leaf for leaf in nested.leaves(begin) if leaf.numel()]
    noise = noise_for(core, time, batch, particles)

    def found() -> tuple[Tensor, ...]:
        with fed(noise):
            inference, last = core.infer(contexts, evidence, mask, begin, particles)
        total = torch.stack(
            [
                (torch.linspace(-1, 1, x.numel(), dtype=x.dtype) * x.flatten()).sum()
                for x in nested.leaves((inference, last))
            ]
        ).sum()
        wanted = [contexts, evidence, *leaves, *core.parameters()]
        return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)

    fast = found()
    with ExitStack() as plain:
        loop = SequenceCore.posterior_all
        plain.enter_context(mock.patch.object(type(core), "posterior_all", loop))
        for kind in {type(part) for part in core.modules() if isinstance(part, Recurrence)}:
            plain.enter_context(mock.patch.object(kind, "forward", Recurrence.forward))
        slow = found()
    close(fast, slow, "gradients, fused and plain")
    reached = sum(bool(gradient.any()) for gradient in fast)
    demand(reached > 3, f"only {reached} of inputs, states and parameters have a gradient")


@CORE_LAWS.add()
def products_of_bfloat16_change_little(case: CoreCase) -> None:
    """Under autocast parameters, gradients and what a state remembers (all but its latent) stay
    float32, and the gradient keeps its direction: a product's result is cast back before it is
    kept."""
    model = case.model(observations=PLANE).float()
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
        types = {part.dtype for part in parts}
        demand(types == {torch.float32}, f"gradients of {types}")
        found.append(torch.cat([part.flatten() for part in parts]))
    angle = float(torch.cosine_similarity(found[0], found[1], 0))
    demand(angle > 0.99, f"a cosine of {angle:.3f} between the gradients")
    demand(not torch.equal(*found), "nothing was computed in bfloat16")
    state = model.initial_state(4)
    for t in range(2):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            _, state = model.step(rows.first[t], rows.action[t], state)
    kept = [part for name, part in state.core._asdict().items() if name != "latent"]
    types = {leaf.dtype for leaf in nested.leaves(tuple(kept))}
    demand(types <= {torch.float32}, f"a state of {types} after two steps")


@CORE_LAWS.add()
def steps_can_be_compiled(case: CoreCase) -> None:
    """`compile_steps` traces what loops run: what torch.compile cannot follow would fail."""
    model = case.model()
    sequences = padded(random_rows(4, 3), [4, 2, 3])
    noise = noise_for(model, 4, 3)
    found: list[Any] = []
    for compiled in (False, True):
        if compiled:
            model.core.compile_steps(backend="eager")
        with fed(noise):
            found.append(ELBO(model)([sequences], (), 0)[0])
        begin = model.initial_state(3)
        with fed(noise):
            row = nested.index(sequences.rows, 0)
            found.append(model.step(row.first, row.action, begin)[1].core)
    close(found[0], found[2], "the loss, compiled")
    same(found[1], found[3], "a dreamt state, compiled")


# Belief is a function of rows up to now.


@CORE_LAWS.add(AROUND)
def thoughts_row_by_row_equal_beliefs_all_at_once(
    case: CoreCase, feedback: bool, history: int
) -> None:
    """An agent that observes row after row has the beliefs of inference over all rows. For
    smoothers too: later rows enter the latent alone, which a belief does not read."""
    time, batch = 6, 3
    model = case.model(feedback, history)
    rows = random_rows(time, batch)
    noise = noise_for(model, time, batch)
    with fed(noise):
        inference, _ = model.infer(Sequences.whole(rows), model.initial_state(batch))
    believer = BeliefAgent(model, nn.Identity())  # type: ignore[arg-type]
    with fed(noise):
        thoughts, mind = nested.unroll(
            believer.step, nested.steps(rows), believer.initial_state(batch)
        )
    size = model.core.belief_size
    close(thoughts[..., :size], model.core.belief(core_states(inference)), "beliefs")
    close(thoughts[-1], model.belief(mind), "the last thought and the mind's belief")
    for t in range(time):
        begin = Sequences.whole(nested.index(rows, slice(t + 1)))
        with fed(noise):
            _, state = model.infer(begin, model.initial_state(batch))
        close(thoughts[t], model.belief(state), f"the thought after row {t}")
    shape(thoughts, (time, batch, believer.thought_size), "thoughts")


@CORE_LAWS.add(AROUND, is_filter)
def states_row_by_row_equal_states_all_at_once(
    case: CoreCase, feedback: bool, history: int
) -> None:
    """A filter that observes row after row is in the states that inference over all rows finds."""
    time, batch = 6, 3
    model = case.model(feedback, history)
    rows = random_rows(time, batch)
    noise = noise_for(model, time, batch)
    with fed(noise):
        inference, last = model.infer(Sequences.whole(rows), model.initial_state(batch))
    state = model.initial_state(batch)
    with fed(noise):
        for t, row in enumerate(nested.steps(rows)):
            state = model.observe(row, state)
            at = nested.index(core_states(inference), t)
            close(state.core, at, f"the state after row {t}")
    close(state, last, "the last state")


@CORE_LAWS.add(AROUND)
def a_mind_and_a_model_restart_on_first_rows(case: CoreCase, feedback: bool, history: int) -> None:
    """After a first row nothing of the state before it is left, and only where the row is
    first."""
    model = case.model(feedback, history)
    rows = random_rows(3, 4)
    used = nested.map(lambda leaf: leaf + 1.7, model.initial_state(4))
    row = nested.index(rows, 0)
    noise = noise_for(model, 1, 4)
    ways: dict[str, Callable[[Any], Any]] = {
        "observe": lambda state: model.observe(row, state),
        "infer": lambda state: model.infer(Sequences.whole(rows), state)[1],
        "step": lambda state: model.step(row.first, row.action, state),
    }
    for name, step in ways.items():
        results = []
        for state in (used, model.initial_state(4)):
            torch.manual_seed(0)
            with fed(noise.expand(3, -1, -1)):
                results.append(step(state))
        same(results[0], results[1], f"`{name}` from a used and from a fresh state")
    some = torch.tensor([True, False, True, False])
    with fed(noise):
        mixed = model.observe(row._replace(first=some), used)
    with fed(noise):
        going = model.observe(row._replace(first=torch.zeros(4, dtype=torch.bool)), used)
    with fed(noise):
        fresh = model.observe(row, model.initial_state(4))
    close(mixed, nested.where(some, fresh, going), "a batch of which some rows are first")


# Independence of columns, padding, placeholders.


@CORE_LAWS.add(PARTICLES)
def rows_of_a_batch_are_strangers(case: CoreCase, particles: int) -> None:
    """Columns of a batch do not depend on one another; each depends on its own rows."""
    time, batch = 4, 3
    model = case.model(history=2, observations=PLANE, rewards=None)
    rows = random_rows(time, batch, PLANE, rewards=None)
    state = nested.map(lambda leaf: leaf + 0.3, model.initial_state(batch))
    rows = rows._replace(first=torch.zeros_like(rows.first))
    sources = {key: getattr(rows, key) for key in ("action", "observation", "reward")}
    for source in sources.values():
        source.requires_grad_()
    sequences = padded(rows, [4, 2, 3])
    with fed(noise_for(model, time, batch, particles)):
        inference, last = model.infer(sequences, state, particles)
    log_probs = model.log_probs(core_states(inference), sequences)
    for b in range(batch):
        mine = slice(b, None, batch)
        outputs = [columns(inference, mine), nested.index(last, mine)]
        outputs += [value[:, :, b] for value in log_probs.values()]
        total = tuple(leaf for output in outputs for leaf in nested.leaves(output))
        others = torch.arange(batch) != b
        for key, source in sources.items():
            reached = jacobian(total, source)
            unreached(reached[:, others], f"column {b} depends on the {key} of others")
            depends = (reached[:, b] != 0).any() or (key == "action" and case.deaf)
            demand(depends, f"column {b} does not depend on its own {key}")
    with fed(noise_for(model, 1, batch)):
        _, after = model.step(rows.first[0], rows.action[0], state)
    for b in range(batch):
        reached = jacobian(nested.index(after, b), rows.action)
        others = torch.arange(batch) != b
        unreached(reached[0, others], f"dream {b} depends on the actions of others")
        depends = bool((reached[0, b] != 0).any())
        demand(depends != case.deaf, f"dream {b} depends on its own action: {depends}")


@CORE_LAWS.add(cross(AROUND, KINDS))
def padding_never_leaks(case: CoreCase, feedback: bool, history: int, density: bool) -> None:
    """Values in padded rows, even NaN, change no state, no loss and no gradient; each
    column is what it is alone, without padding."""
    time, lengths = 5, [5, 3, 1]
    kind: dict[str, Any] = {"observations": PLANE, "rewards": None} if density else {}
    model = case.model(feedback, history, **kind)
    clean = padded(random_rows(time, 3, **kind), lengths)
    spoilt = clean._replace(rows=spoil(clean.rows, ~clean.mask))
    noise = noise_for(model, time, 3)
    found = []
    for sequences in (clean, spoilt):
        with fed(noise):
            inference, last = model.infer(sequences, model.initial_state(3))
        log_probs = model.log_probs(core_states(inference), sequences)
        with fed(noise):
            loss, metrics, _ = ELBO(model)([sequences], (), 0)
        with fed(noise):
            bound = log_prob(model, sequences)
        numbers = {key: torch.tensor(value).double() for key, value in metrics.items()}
        found.append((log_probs, last, loss, numbers, gradients(model, loss), bound))
    finite(found[1][3:5], "metrics and gradients")
    parts = ("log probabilities", "the last state", "the loss", "metrics", "gradients", "bounds")
    for part, before, after in zip(parts, *found, strict=True):
        same(after, before, f"{part} with illegal padding")
    for b, length in enumerate(lengths):  # and every column is what it is alone
        rows = columns(nested.index(clean.rows, slice(length)), slice(b, b + 1))
        alone = Sequences.whole(rows)
        with fed(noise[:length, b : b + 1]):
            inference, last = model.infer(alone, model.initial_state(1))
        close(last, nested.index(found[1][1], slice(b, b + 1)), f"the state of column {b} alone")
        for key, value in model.log_probs(core_states(inference), alone).items():
            padded_value = found[1][0][key]
            close(padded_value[:length, :, b], value[..., 0], f"log p({key}) of column {b} alone")
            demand((padded_value[length:, :, b] == 0).all(), f"padding has a log p({key})")


@CORE_LAWS.add()
def a_column_without_rows_keeps_its_state(case: CoreCase) -> None:
    """A column without valid rows keeps its state."""
    model = case.model(history=2)
    state = nested.map(lambda leaf: leaf + 0.3, model.initial_state(2))
    rows = random_rows(3, 2)
    rows = rows._replace(first=torch.tensor([[False, True]] * 3))  # padding may hold anything
    _, last = model.infer(padded(rows, [3, 0]), state)
    same(nested.index(last, 1), nested.index(state, 1), "the state of an empty column")


@CORE_LAWS.add(cross(AROUND, KINDS))
def on_a_first_row_action_reward_and_end_are_void(
    case: CoreCase, feedback: bool, history: int, density: bool
) -> None:
    """Placeholders, even NaN, are neither encoded nor scored; those of a dream's first row
    are zero."""
    time, batch = 3, 2
    kind: dict[str, Any] = {"rewards": None} if density else {}
    model = case.model(feedback, history, **kind)
    rows = random_rows(time, batch, **kind)
    other = spoil(rows, rows.first, ["action", "reward", "terminated"])
    noise = noise_for(model, time, batch)
    found = []
    for changed in (rows, other):
        sequences = Sequences.whole(changed)
        with fed(noise):
            inference, last = model.infer(sequences, model.initial_state(batch))
        log_probs = model.log_probs(core_states(inference), sequences)
        with fed(noise):
            loss = ELBO(model)([sequences], (), 0)[0]
        found.append((inference, last, log_probs, loss, gradients(model, loss)))
    parts = ("inference", "the last state", "log probabilities", "the loss", "gradients")
    for part, before, after in zip(parts, *found, strict=True):
        same(after, before, f"{part} with an illegal first action, reward and end")
    finite(found[1][4], "gradients")
    log_probs = found[1][2]
    for key in ("reward", "terminated"):
        demand((log_probs[key][0] == 0).all(), f"a first row has a log p({key})")
    for key, scored in (("observation", slice(None)), ("reward", slice(1, None))):
        demand((log_probs[key][scored] != 0).all(), f"a row has no log p({key})")
    state = model.initial_state(batch)
    results = []
    for action in (rows.action[0], torch.full_like(rows.action[0], 3.0)):
        torch.manual_seed(0)
        with fed(noise[:1]):
            row, after = model.step(rows.first[0], action, state)
        for key in ("action", "reward", "terminated"):
            demand(not getattr(row, key).any(), f"a dream's first row has the {key} {row}")
        results.append((row, after))
    same(results[0], results[1], "first rows after different actions")


@CORE_LAWS.add()
def rows_that_are_not_scored_count_for_nothing_but_what_follows_them(case: CoreCase) -> None:
    """They are read, and change the states of later rows; no log probability is theirs."""
    model = case.model()
    whole = Sequences.whole(random_rows(5, 2))
    late = whole._replace(loss_mask=torch.arange(5)[:, None].expand(5, 2) >= 2)
    noise = noise_for(model, 5, 2)
    bounds, parts = [], []
    for sequences in (whole, late):
        with fed(noise):
            bounds.append(log_prob(model, sequences))
        with fed(noise):
            inference, _ = model.infer(sequences, model.initial_state(2))
        parts.append(model.log_probs(core_states(inference), sequences))
    for key in parts[0]:
        same(parts[1][key][2:], parts[0][key][2:], f"log p({key}) of scored rows")
        close(bounds[1][key][2:], bounds[0][key][2:], f"the bound's {key} of scored rows")
        for value in (parts[1][key], bounds[1][key]):
            demand((value[:2] == 0).all(), f"rows that are not scored have {key}: {value[:2]}")


# No dependence on later rows.


def plane_rows(time: int) -> tuple[Row, dict[str, Tensor]]:
    """Rows of numbers [T, 2, ...], and those of their tensors that record gradients."""
    rows = random_rows(time, 2, PLANE, rewards=None)
    sources = {key: getattr(rows, key) for key in ("action", "observation", "reward")}
    for source in sources.values():
        source.requires_grad_()
    return rows, sources


@CORE_LAWS.add(AROUND)
def beliefs_do_not_peek(case: CoreCase, feedback: bool, history: int) -> None:
    """The belief after row t depends on no row after t, and it does on row t."""
    time = 4
    model = case.model(feedback, history, observations=PLANE, rewards=None)
    rows, sources = plane_rows(time)
    believer = BeliefAgent(model, nn.Identity())  # type: ignore[arg-type]
    with fed(noise_for(model, time, 2)):
        inference, _ = model.infer(Sequences.whole(rows), model.initial_state(2))
    belief = model.core.belief(core_states(inference))
    with fed(noise_for(model, time, 2)):
        thoughts, _ = nested.unroll(believer.step, nested.steps(rows), believer.initial_state(2))
    for t in range(time):
        for key, source in sources.items():
            for what in (belief[t], thoughts[t]):
                reached = jacobian(what, source)
                unreached(reached[t + 1 :], f"the belief after row {t} depends on a later {key}")
            exempt = t == 0 or (key == "action" and case.deaf)
            demand(
                exempt or (reached[t] != 0).any(),
                f"the belief after row {t} does not depend on its {key}",
            )
        seen = (jacobian(thoughts[t], rows.observation)[t] != 0).any()
        demand(seen, f"the belief after row {t} does not depend on its observation")


@CORE_LAWS.add(AROUND, is_filter)
def filters_do_not_peek(case: CoreCase, feedback: bool, history: int) -> None:
    """If `filtering` is true, no inferred state of row t depends on a row after t."""
    time = 4
    model = case.model(feedback, history, observations=PLANE, rewards=None)
    rows, sources = plane_rows(time)
    sequences = Sequences.whole(rows)
    with fed(noise_for(model, time, 2)):
        inference, _ = model.infer(sequences, model.initial_state(2))
    log_probs = model.log_probs(core_states(inference), sequences)
    for t in range(time):
        for key, source in sources.items():
            reached = jacobian(nested.index((inference, log_probs), t), source)
            unreached(reached[t + 1 :], f"what is inferred of row {t} depends on a later {key}")


@CORE_LAWS.add()
def the_prior_of_a_row_reads_neither_its_evidence_nor_the_future(case: CoreCase) -> None:
    """The prior is given the latent before it, which a smoother may have drawn. The posterior
    reads the row's evidence, and later evidence only where `filtering` is false; contexts reach
    the belief, and the prior."""
    time, batch = 4, 2
    core = case.core()
    contexts, evidence, mask = inputs(time, batch)
    contexts.requires_grad_()
    evidence.requires_grad_()
    prepared = core.prepare(contexts, evidence, mask, core.initial_state(batch))
    noise = noise_for(core, time, batch)
    state = core.initial_state(batch)
    latents = torch.randn(time + 1, *state.latent.shape).double()
    state = state._replace(latent=latents[time])
    for t in range(time):
        with fed(noise[t : t + 1]):
            posterior, prior, after = core.posterior_step(nested.index(prepared, t), state)
        unreached(jacobian(prior, evidence), f"the prior of row {t} reads evidence")
        belief = core.belief(after)
        for what, output in (("prior", prior), ("belief", belief)):
            later = jacobian(output, evidence)[t + 1 :]
            unreached(later, f"the {what} of row {t} reads later evidence")
            later = jacobian(output, contexts)[t + 1 :]
            unreached(later, f"the {what} of row {t} reads later contexts")
        reaches = bool((jacobian(belief, contexts)[: t + 1] != 0).any())
        demand(reaches != case.deaf, f"contexts reach the belief after row {t}: {reaches}")
        ahead = bool((jacobian(posterior, evidence)[t + 1 :] != 0).any())
        smooths = not core.filtering and t + 1 < time
        demand(
            ahead == smooths,
            f"filtering is {core.filtering}, and the posterior of row {t} reads later evidence: "
            f"{ahead}",
        )
        if latents.numel():
            own = (jacobian(posterior, evidence)[t] != 0).any()
            demand(own, f"the posterior of row {t} does not read its evidence")
            moved = bool((jacobian(prior, contexts)[t] != 0).any())
            fixed = case.fixed_prior or case.deaf
            demand(moved != fixed, f"the context of row {t} moves its prior: {moved}")
        state = after._replace(latent=latents[t])


# Chunks and particles.


@CORE_LAWS.add(cross(AROUND, PARTICLES), is_filter)
def two_chunks_with_a_carried_state_equal_one(
    case: CoreCase, feedback: bool, history: int, particles: int
) -> None:
    """Inference of a filter can be cut anywhere, and goes on from the state that it ended with."""
    time, cut, batch = 6, 2, 3
    model = case.model(feedback, history)
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
    close(nested.concatenate([start, end]), inference, "two chunks beside one")
    close(state, last, "the last state")


@CORE_LAWS.add([{"history": 1}, {"history": 3}], is_filter)
def a_chunk_carries_the_state_of_its_last_valid_rows(case: CoreCase, history: int) -> None:
    """A first chunk that is padded goes on as if there had been no padding."""
    model = case.model(history=history)
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
        close(found, expected, f"column {b}, that was padded after row {length - 1}")


@CORE_LAWS.add(AROUND)
def particles_equal_separate_runs(case: CoreCase, feedback: bool, history: int) -> None:
    """K particles are folded into the batch, particle after particle, without interaction."""
    time, batch, particles = 4, 3, 3
    model = case.model(feedback, history)
    sequences = padded(random_rows(time, batch), [4, 2, 3])
    noise = noise_for(model, time, batch, particles)
    state = model.initial_state(batch)
    with fed(noise):
        inference, last = model.infer(sequences, state, particles)
    log_probs = model.log_probs(core_states(inference), sequences)
    for k in range(particles):
        mine = slice(k * batch, (k + 1) * batch)
        with fed(noise[:, mine]):
            alone, end = model.infer(sequences, state)
        close(columns(inference, mine), alone, f"particle {k} alone")
        close(nested.index(last, mine), end, f"the last state of particle {k}")
        for key, value in model.log_probs(core_states(alone), sequences).items():
            close(log_probs[key][:, k], value[:, 0], f"log p({key}) of particle {k}")


# Sizes of zero, dreams.


@CORE_LAWS.add()
def contexts_can_be_empty(case: CoreCase) -> None:
    """Without actions and feedback, latents alone carry information on the past, as in a deep
    Markov model. `context_size` is then 0."""
    model = case.model(feedback=False, observations=spaces.Discrete(2), silent=True, actions=0)
    demand(model.core.context_size == 0, f"context_size {model.core.context_size}, expected 0")
    rows = random_rows(4, 3, spaces.Discrete(2), actions=2)
    rows = rows._replace(action=rows.action[..., :0])
    loss, *_ = ELBO(model)([Sequences.whole(rows)], (), 0)
    loss.backward()
    finite(loss, "the loss")
    row, state = model.step(rows.first[0], rows.action[0], model.initial_state(3))
    row, _ = model.step(~row.first, row.action, state)
    shape(row.observation, (3,), "dreamt observations")


@CORE_LAWS.add()
def a_dream_goes_on_from_inferred_states(case: CoreCase) -> None:
    """The clock begins at zero; ended games restart, without any memory of the past."""
    model = case.model()
    world = Dream(model, 3, SYMBOLS, spaces.Discrete(2))
    states = nested.map(lambda leaf: leaf + 0.4, model.initial_state(4))
    ended = torch.tensor([False, True, False, True])
    action = torch.eye(2).double()[[0, 0, 1, 1]]
    found = []
    with torch.no_grad():
        for start in (states, nested.where(ended, model.initial_state(4), states)):
            torch.manual_seed(0)
            row, after = world.step(action, world.start(start, ended))
            same(row.first, ended, "first rows")
            clock = after.clock.tolist()
            demand(clock == [1, 0, 1, 0], f"the clock stands at {clock}")
            found.append((row, after))
        same(found[0], found[1], "games that begin anew, whatever was before")
        torch.manual_seed(0)
        row, expected = model.step(ended, action, states)
    same(found[0][0], row, "the dream's row and the model's")
    same(found[0][1].model, expected, "the dream's state and the model's")
