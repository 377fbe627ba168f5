"""A world model: percepts (their encoder and decoder) around a sequence core."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.codecs import (
    Encoder,
    Head,
    LocationScaleHead,
    PerceptDecoder,
    PerceptEncoder,
    Prediction,
    action_codec,
    begin_as_before,
    clamp_for,
    decoder_for,
    encoder_for,
)
from worldmodel.cores import CORES, Inference, SequenceCore
from worldmodel.devices import device_of
from worldmodel.nets import Dropout
from worldmodel.percepts import Filled, Percepts
from worldmodel.recurrences import SkipGRU
from worldmodel.registry import options_taken
from worldmodel.sequences import Row, Sequences


class ModelState(NamedTuple):
    """The memory of a world model of B games."""

    core: Any  # the core's state, leaves [B, ...]
    history: Tensor  # [B, N, E], the encodings of the last N percepts, newest last


def context_size(action_size: int, encoding_size: int, feedback: bool, history: int) -> int:
    """The size C of a core's contexts."""
    return action_size + (history * encoding_size if feedback else 0)


class Reading(NamedTuple):
    """The inputs of a core for sequences [T, B, ...]."""

    contexts: Tensor  # [T, B, C]
    evidence: Tensor  # [T, B, E]
    mask: Tensor  # bool [T, B]
    histories: Tensor  # [T + 1, B, N, E], before and after each row
    core: Any  # the core's state before the first row, leaves [B, ...] (or of K particles)

    @property
    def last_history(self) -> Tensor:
        """The history after the last valid row of each column, [B, N, E]."""
        lengths = self.mask.sum(0)
        return self.histories[lengths, torch.arange(len(lengths), device=lengths.device)]


FASTER = 3.0  # than other parameters what is before is learned: few rows are first ones


class WorldModel(nn.Module):
    """p(percepts | actions) of whole sequences, as a recurrence over rows.

    The context of row t is its action and, with `feedback`, the encodings of the `history`
    percepts before it. On a first row the action is zero, and so are these, or `before`, which is
    learned: zero is the mean of all percepts, after which few episodes begin. The evidence of row
    t is the encoding of its percept (Dreamer's `embed`).
    """

    def __init__(
        self,
        percepts: Percepts,
        core: SequenceCore,
        action_size: int,
        feedback: bool = True,
        history: int = 1,
        dropout: float = 0.0,
        learns_before: bool = False,
    ):
        """dropout: of the encodings in contexts, in training mode; learns_before: what stands for
        the percepts before a first row."""
        super().__init__()
        expected = context_size(action_size, percepts.size, feedback, history)
        if core.context_size != expected:
            raise ValueError(
                f"the core expects contexts of size {core.context_size}, but actions of size "
                f"{action_size} and {history} encodings of size {percepts.size} make {expected}; "
                f"build it with context_size={expected}"
            )
        if core.evidence_size != percepts.size:
            raise ValueError(
                f"the core expects evidence of size {core.evidence_size}, but the encoder gives "
                f"{percepts.size}; build it with evidence_size={percepts.size}"
            )
        self.percepts = percepts
        self.core = core
        self.action_size = action_size
        self.feedback = feedback
        self.history = history
        self.dropout = Dropout(dropout)
        self.before = nn.Parameter(torch.zeros(percepts.size)) if learns_before else None
        self.register_load_state_dict_pre_hook(_begin)
        self.belief_size = core.belief_size + percepts.size

    @property
    def reads_observations(self) -> bool:
        """True if generation depends on the observations that are drawn: by feedback, or by
        reward and end, unless they are `separate`."""
        return self.feedback or not self.percepts.separate

    @property
    def device(self) -> torch.device:
        """The device of the weights, where states, predictions and dreams are, too."""
        return device_of(self)

    def initial_state(self, batch_size: int) -> ModelState:
        """The state before the first rows of B games."""
        core = self.core.initial_state(batch_size)
        shape = batch_size, self.history, self.percepts.size
        if self.before is None:
            return ModelState(core, nested.leaves(core)[0].new_zeros(shape))
        return ModelState(core, (FASTER * self.before).expand(shape))

    def predict(self, action: Tensor, state: ModelState) -> tuple[Prediction, Any]:
        """The distribution of the next percept, and the core's state that it was read from.

        action [B, A] -> (a prediction with batch shape [B], core state)
        """
        core = self.core.step(self._context(action, state.history), state.core)
        return self.percepts.predict(self.core.features(core)), core

    def advance(self, row: Row, core: Any, state: ModelState) -> ModelState:
        """The state after a row [B, ...], whose percept enters the history; core: its state of
        this row; state: the one before the row."""
        past = torch.cat([state.history, self.percepts.encode(row)[:, None]], 1)
        if self.percepts.has_missing:
            past = self.percepts.encoder.carried(past.transpose(0, 1)).transpose(0, 1)
        return ModelState(core, past[:, 1:])

    def step(
        self,
        first: Tensor,
        action: Tensor,
        state: ModelState,
        temperature: float | Tensor = 1.0,
        draw_observations: bool = True,
    ) -> tuple[Row, ModelState]:
        """Generates one row, and the state after it. first bool [B], action [B, A].

        The percept, not the latent, is drawn at the `temperature` (see `tempered`).
        draw_observations: False only where not `reads_observations`; they then have size 0, and
        the history stays as it was.
        """
        action = action.masked_fill(first[:, None], 0.0)
        state = nested.where(first, self.initial_state(len(first)), state)
        prediction, core = self.predict(action, state)
        prediction = prediction.tempered(temperature)
        if not draw_observations:
            row = self.percepts.draw_unseen(prediction, first, action)
            return row, state._replace(core=core)
        row = self.percepts.draw(prediction, first, action)
        return row, self.advance(row, core, state)

    def expected(
        self, rows: Row, cores: Any, temperature: float | Tensor = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The mean rewards of rows [*] that were generated at the `temperature`, given their
        observations, and log P(no end), [*] nats; cores: the core's states that the rows were
        drawn from, leaves [*, ...]."""
        prediction = self.percepts.predict(self.core.features(cores)).tempered(temperature)
        return self.percepts.expected(prediction, rows)

    def infer(
        self, sequences: Sequences, state: ModelState | None = None, particles: int = 1
    ) -> tuple[Inference, ModelState]:
        """Infers latents of sequences [T, B, ...] from the states before their first rows, by
        default the initial one.

        Only row 0 of a column may be a first row. With K particles the latents are drawn K times
        and B becomes K * B, particle after particle.

        Returns the core's inference, leaves [T, K * B, ...], and the model's states after the
        last valid rows, [K * B, ...].
        """
        reading = self.read(sequences, state)
        inference, core = self._infer(reading, particles)
        return inference, ModelState(core, reading.last_history.repeat(particles, 1, 1))

    def states(self, sequences: Sequences, state: ModelState | None = None) -> ModelState:
        """The model's states after every row, as `infer` gives them, leaves [T, B, ...]."""
        reading = self.read(sequences, state)
        return ModelState(self._infer(reading)[0].states, reading.histories[1:])

    def observe(self, row: Row, state: ModelState) -> ModelState:
        """The state after one more row of the environment, on any device: `infer` over it."""
        sequences = Sequences.whole(nested.map(lambda leaf: leaf[None], row))
        return self.infer(sequences, state)[1]

    def belief(self, state: ModelState) -> Tensor:
        """The belief after the last row, [*, belief_size]: a function of rows alone."""
        return torch.cat([self.core.belief(state.core), state.history[..., -1, :]], -1)

    def log_probs(self, states: Any, sequences: Sequences) -> dict[str, Tensor]:
        """log p(percept | state) by key, [T, K, B] nats, zero where not scored.

        states: of the core, [T, K * B, ...].
        """
        return self.percepts.scores(self.core.features(states), sequences, regressed=False)[0]

    def fill(self, sequences: Sequences) -> Filled:
        """Sequences as the model reads them (see `Percepts.fill`); refused where they are none
        that it can read, which is asked before they are on the model's device."""
        if not isinstance(sequences, Filled):
            inside = sequences.rows.first[1:] & sequences.mask[1:]
            if inside.numel() and inside.any():
                raise ValueError(
                    "a window lies inside one episode: only row 0 may be a first row; cut what a "
                    "GenCore generated by Episodes.cut, and take its windows or sequences"
                )
        return self.percepts.fill(sequences)

    def read(self, sequences: Sequences, state: ModelState | None = None) -> Reading:
        """The core's inputs for sequences, from the states before their first rows."""
        rows, mask, _ = self.fill(sequences)
        batch_size = rows.first.shape[1]
        state = self.initial_state(batch_size) if state is None else state
        actions = rows.action.masked_fill(rows.first[..., None], 0.0)
        copies = len(state.history) // batch_size
        fresh = self.initial_state(len(state.history))
        state = nested.where(rows.first[0].repeat(copies), fresh, state)
        evidence = self.percepts.encode(rows)  # [T, B, E]
        past = torch.cat([state.history[:batch_size].transpose(0, 1), evidence])
        if self.percepts.has_missing:
            past = self.percepts.encoder.carried(past)
        histories = past.unfold(0, self.history, 1).transpose(-1, -2)  # [T + 1, B, N, E]
        contexts = self._context(actions, histories[:-1])  # [T, B, C]
        return Reading(contexts, evidence, mask, histories, state.core)

    def _infer(self, reading: Reading, particles: int = 1) -> tuple[Inference, Any]:
        contexts, evidence, mask, _, core = reading
        return self.core.infer(contexts, evidence, mask, core, particles)

    def _context(self, action: Tensor, history: Tensor) -> Tensor:
        if not self.feedback:
            return action
        return torch.cat([action, self.dropout(history.flatten(-2))], -1)


def _begin(model: WorldModel, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Lets weights be loaded that were saved when nothing was learned of what is before."""
    if model.before is not None:
        state.setdefault(prefix + "before", torch.zeros_like(model.before))


def model_for(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    core: str = "srnn",
    hidden: int = 128,
    reward_support: Sequence[float] | None = None,
    feedback: bool = True,
    history: int = 1,
    dropout: float = 0.0,
    head: Head | Mapping[str, Head] | None = None,
    encoder: Encoder | Mapping[str, Encoder] | None = None,
    reward_regression: bool = False,
    separate: bool = False,
    decoder_hidden: int | None = None,
    minimum_std: float | None = None,
    open_rewards: bool = False,
    reward_groups: Sequence[Sequence[float]] = (),
    **core_options: Any,
) -> WorldModel:
    """A world model of an environment with the given spaces.

    core: its name in `worldmodel.CORES`; hidden: units of the core, and of the decoder if there is
    no `decoder_hidden`; reward_support: the values that rewards take, or None for a Gaussian
    density; dropout: of the features that the decoder reads, in training mode, and within a
    recurrence that has any; head: of observations, its name in `worldmodel.HEADS`, a name and its
    options, or a head of your own that reads the decoder's units; or several of those by key (see
    `decoder_for`), where the default of the space is not wanted; encoder: one of your own, or
    several by key; reward_regression: regresses rewards besides (`TwoHot`); separate: reward and
    end do not depend on the observation, given the features; minimum_std: of the densities of
    standardised numbers, where the default is not wanted; open_rewards: other rewards than those
    of the support, or without one than those met, may come (`MixedHead`, `StudentHead`);
    reward_groups: means and deviations of rewards that lie far apart (`GroupedHead`);
    core_options: the core's own. With `recurrence="skip-gru"` heads of observations read the
    core's features behind the decoder's units, and with them the context; their densities begin
    with the observation before.
    """
    if core not in CORES:
        raise ValueError(f"there is no core {core!r}; there are {', '.join(CORES)}")
    percept_encoder = PerceptEncoder(encoder_for(observation_space, encoder))
    actions = action_codec(action_space).size
    contexts = context_size(actions, percept_encoder.size, feedback, history)
    core_options = options_taken(CORES[core], {"dropout": dropout}) | core_options
    sequence_core = CORES[core](contexts, percept_encoder.size, hidden=hidden, **core_options)
    decoder_hidden = decoder_hidden or hidden
    skip = isinstance(getattr(sequence_core, "recurrence", None), SkipGRU)
    shown = sequence_core.feature_size if skip else 0
    observation = decoder_for(observation_space, decoder_hidden + shown, head)
    before = hidden + contexts - percept_encoder.size if skip and feedback else None  # a column
    if before is not None:
        begin_as_before(observation, percept_encoder.observation, decoder_hidden + before)
    decoder = PerceptDecoder(
        sequence_core.feature_size,
        decoder_hidden,
        observation,
        encoder_for(observation_space, copy.deepcopy(encoder)),
        reward_support,
        dropout,
        reward_regression,
        separate,
        skip,
        open_rewards,
        reward_groups,
        None if any(True for _ in percept_encoder.parameters()) else before,  # it is what it was
    )
    if minimum_std is not None:
        for module in decoder.modules():
            if isinstance(module, LocationScaleHead):
                module.minimum_std = minimum_std
    percepts = Percepts(percept_encoder, decoder, clamp_for(observation_space))
    return WorldModel(percepts, sequence_core, actions, feedback, history, learns_before=feedback)
