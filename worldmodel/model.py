"""A world model: an encoder of percepts, a sequence core, a decoder of percepts."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.codecs import (
    DistModule,
    Encoder,
    Head,
    NormalHead,
    PerceptDecoder,
    PerceptEncoder,
    Reach,
    TwoHot,
    action_codec,
    begin_as_before,
    decoder_for,
    encoder_for,
    reach_of,
)
from worldmodel.cores import CORES, Inference, SequenceCore
from worldmodel.distributions import Chain, Joint, draw, tempered
from worldmodel.nets import SkipGRU
from worldmodel.sequences import PERCEPT_KEYS, Row, Sequences


class ModelState(NamedTuple):
    core: Any  # the core's state, leaves [B, ...]
    history: Tensor  # [B, N, E], the encodings of the last N percepts, newest last


def context_size(action_size: int, encoding_size: int, feedback: bool, history: int) -> int:
    """The size C of a core's contexts."""
    return action_size + (history * encoding_size if feedback else 0)


class WorldModel(nn.Module):
    """p(percepts | actions) of whole sequences, as a recurrence over rows.

    The context of row t is its action and, with `feedback`, the encodings of the `history`
    percepts before it; on a first row both are zero. The evidence of row t is the encoding of
    its percept.
    """

    def __init__(
        self,
        encoder: Encoder,
        core: SequenceCore,
        decoder: DistModule,
        action_size: int,
        feedback: bool = True,
        history: int = 1,
        dropout: float = 0.0,
        reach: Reach | None = None,
    ):
        """encoder: of (percept, first); decoder: of the core's features, to a `Joint` or `Chain`
        over percepts; dropout: of the encodings in contexts, in training mode; reach: where
        generated observations stay."""
        super().__init__()
        expected = context_size(action_size, encoder.size, feedback, history)
        if core.context_size != expected:
            raise ValueError(
                f"the core expects contexts of size {core.context_size}, but actions of size "
                f"{action_size} and {history} encodings of size {encoder.size} make {expected}; "
                f"build it with context_size={expected}"
            )
        if core.evidence_size != encoder.size:
            raise ValueError(
                f"the core expects evidence of size {core.evidence_size}, but the encoder gives "
                f"{encoder.size}; build it with evidence_size={encoder.size}"
            )
        self.encoder = encoder
        self.core = core
        self.decoder = decoder
        self.action_size = action_size
        self.feedback = feedback
        self.history = history
        self.dropout = nn.Dropout(dropout)
        self.reach = reach or Reach()
        self.belief_size = core.belief_size + encoder.size

    def initial_state(self, batch_size: int) -> ModelState:
        core = self.core.initial_state(batch_size)
        like = nested.leaves(core)[0]
        return ModelState(core, like.new_zeros(batch_size, self.history, self.encoder.size))

    def predict(self, action: Tensor, state: ModelState) -> tuple[Joint | Chain, Any]:
        """The distribution of the next percept, and the core's state that it was read from.

        action [B, A] -> (a distribution with batch shape [B], core state)
        """
        core = self.core.step(self._context(action, state.history), state.core)
        return self.decoder(self.core.features(core)), core

    @property
    def reads_observations(self) -> bool:
        """Whether what it generates depends on the observations that it draws: by feedback, or
        by reward and end, which see the observation unless the decoder is `separate`."""
        return self.feedback or not self.decoder.separate

    def step(
        self,
        first: Tensor,
        action: Tensor,
        state: ModelState,
        temperature: float = 1.0,
        draw_observations: bool = True,
    ) -> tuple[Row, ModelState]:
        """Generates one row, and the state after it. first bool [B], action [B, A].

        An observation out of `reach` is set on its edge; reward and end are those of the
        observation that was drawn. The percept, not the latent, is drawn at the `temperature`
        (see `tempered`). draw_observations: False only where not `reads_observations`; they then
        have size 0, and the history stays as it was.
        """
        action = action.masked_fill(first[:, None], 0.0)
        state = nested.where(first, self.initial_state(len(first)), state)
        if not draw_observations:
            return self._step_unseen(first, action, state, temperature)
        percept, core = self.predict(action, state)
        drawn = draw(tempered(percept, temperature))
        drawn["observation"] = self.reach(drawn["observation"])
        row = void_row(first, action, drawn)
        history = self.remember(self.encoder((row.percept, first)), state.history)
        return row, ModelState(core, history)

    def _step_unseen(
        self, first: Tensor, action: Tensor, state: ModelState, temperature: float
    ) -> tuple[Row, ModelState]:
        """`step` without the observation, which nothing reads."""
        core = self.core.step(self._context(action, state.history), state.core)
        decoder = cast(PerceptDecoder, self.decoder)
        consequences = decoder.consequences(self.core.features(core))
        drawn = draw(tempered(consequences, temperature)) | {"observation": action[:, :0]}
        return void_row(first, action, drawn), state._replace(core=core)

    def infer(
        self, sequences: Sequences, state: ModelState, particles: int = 1
    ) -> tuple[Inference, ModelState]:
        """Explains sequences [T, B, ...] from the states before their first rows.

        Only row 0 of a column may be a first row. With K particles the latents are drawn K times
        and B becomes K * B, particle after particle.

        Returns the inference, whose `states` are model states [T, K * B, ...], and the states
        of the last valid rows, [K * B, ...].
        """
        contexts, evidence, windows, state = self._read(sequences, state)
        inference, core = self.core.infer(
            contexts, evidence, sequences.mask, state.core, particles
        )
        history = _last(windows, sequences).repeat(particles, 1, 1)  # [K * B, N, E]
        states = ModelState(inference.states, windows[1:].repeat(1, particles, 1, 1))
        return inference._replace(states=states), ModelState(core, history)

    def explain(self, sequences: Sequences, particles: int = 1) -> Inference:
        """The core's inference over whole windows [T, B, ...] from its initial state, leaves
        [T, K * B, ...]: `infer` without what is carried on to the next window."""
        prepared, core = self.prepare(sequences, self.initial_state(sequences.mask.shape[1]))
        return self.core.explain_all(prepared, nested.repeat(core, particles), particles)

    def prepare(self, sequences: Sequences, state: ModelState) -> tuple[Any, Any]:
        """What the core's `explain` reads at each row, leaves [T, B, ...], and its state before
        the first row: for loops of one's own, where `infer` draws what it likes."""
        contexts, evidence, _, state = self._read(sequences, state)
        return self.core.prepare(contexts, evidence, sequences.mask, state.core), state.core

    def history_after(self, sequences: Sequences, state: ModelState) -> Tensor:
        """The history of the state that `infer` ends with, [B, N, E], without inference."""
        return _last(self._read(sequences, state)[2], sequences)

    def _read(
        self, sequences: Sequences, state: ModelState
    ) -> tuple[Tensor, Tensor, Tensor, ModelState]:
        """Contexts [T, B, C], evidence [T, B, E], histories [T + 1, B, N, E], and the state
        before the first row."""
        rows = self.fill(sequences)
        if rows.first[1:].any():
            raise ValueError(
                "a window lies inside one episode: only row 0 may be a first row; cut what a "
                "GenCore generated by Episodes.cut, and take its windows or sequences"
            )
        batch_size = rows.first.shape[1]
        actions = rows.action.masked_fill(rows.first[..., None], 0.0)
        copies = len(state.history) // batch_size
        fresh = self.initial_state(len(state.history))
        state = nested.where(rows.first[0].repeat(copies), fresh, state)
        evidence = self.encoder((rows.percept, rows.first))  # [T, B, E]
        past = torch.cat([state.history[:batch_size].transpose(0, 1), evidence])
        windows = past.unfold(0, self.history, 1).transpose(-1, -2)  # [T + 1, B, N, E]
        contexts = self._context(actions, windows[:-1])  # [T, B, C]
        return contexts, evidence, windows, state

    def observe(self, row: Row, state: ModelState) -> ModelState:
        """The state after one more row that really happened: `infer` over it, on the state's
        device (reality is on the CPU)."""
        device = state.history.device
        sequences = Sequences.whole(nested.map(lambda leaf: leaf.to(device)[None], row))
        return self.infer(sequences, state)[1]

    def belief(self, state: ModelState) -> Tensor:
        """What an agent may know after the last row: [*, belief_size], a function of rows."""
        return torch.cat([self.core.belief(state.core), state.history[..., -1, :]], -1)

    def log_probs(self, states: Any, sequences: Sequences) -> dict[str, Tensor]:
        """log p(percept | state) by key, [T, K, B] nats, zero where not scored.

        states: of the core, [T, K * B, ...].
        """
        features, percept, scored = self._to_score(states, sequences)
        log_probs = self.decoder(features).log_probs(percept)
        return {key: torch.where(scored[key], value, 0.0) for key, value in log_probs.items()}

    def regression_losses(self, states: Any, sequences: Sequences) -> dict[str, Tensor]:
        """The losses of what the decoder regresses, by key, [T, K, B], zero where not scored.

        They are no log probabilities, and no bound contains them; most decoders have none.
        """
        if not self.decoder.regressed:
            return {}
        features, percept, scored = self._to_score(states, sequences)
        return {
            key: torch.where(scored[key], regression.loss(percept[key]), 0.0)
            for key, regression in self.decoder.regressions(features, percept).items()
        }

    def regressions(self, core: Any, percept: dict[str, Any]) -> dict[str, TwoHot]:
        """What the decoder regresses of percepts [*], given the states of the core [*, ...] that
        they come from: its `mean` is the model's reward, where those have any scale."""
        return self.decoder.regressions(self.core.features(core), percept)

    def _to_score(
        self, states: Any, sequences: Sequences
    ) -> tuple[Tensor, dict[str, Any], dict[str, Tensor]]:
        """Features [T, K, B, F], the percepts [T, 1, B, ...] that they stand beside, and by key
        which are scored, bool [T, 1, B]. states: of the core, [T, K * B, ...]."""
        rows = self.fill(sequences)
        batch_size = rows.first.shape[1]
        features = self.core.features(states).unflatten(1, (-1, batch_size))
        percept = nested.map(lambda leaf: leaf.unsqueeze(1), rows.percept)
        consequences = (sequences.scored & ~rows.first)[:, None]
        scored = dict.fromkeys(PERCEPT_KEYS, consequences)
        return features, percept, scored | {"observation": sequences.scored[:, None]}

    def fill(self, sequences: Sequences) -> Row:
        """The rows, with a value of its support wherever there is nothing to read."""
        rows, mask = sequences.rows, sequences.mask
        void = cast(dict[str, Any], self.decoder.void)

        def filled(key: str, valid: Tensor) -> Any:
            value = getattr(rows, key)
            if key not in void:
                return value
            return nested.map(
                lambda x, v: torch.where(nested.broadcast(valid, x), x, v.to(x)), value, void[key]
            )

        valid = {key: mask & ~rows.first for key in PERCEPT_KEYS} | {"observation": mask}
        action = torch.where(mask[..., None], rows.action, 0.0)
        percept = {key: filled(key, valid[key]) for key in PERCEPT_KEYS}
        return Row(rows.first & mask, action, **percept)

    def _context(self, action: Tensor, history: Tensor) -> Tensor:
        if not self.feedback:
            return action
        return torch.cat([action, self.dropout(history.flatten(-2))], -1)

    def remember(self, encoding: Tensor, history: Tensor) -> Tensor:
        """The history [B, N, E] after one more encoding [B, E]."""
        return torch.cat([history[:, 1:], encoding[:, None]], 1)


def _last(windows: Tensor, sequences: Sequences) -> Tensor:
    """The histories [T + 1, B, N, E] after the last valid rows, [B, N, E]."""
    return windows[sequences.lengths, torch.arange(windows.shape[1], device=windows.device)]


def void_row(first: Tensor, action: Tensor, percept: dict[str, Any]) -> Row:
    """A row [B] of a drawn percept; void on first rows, zero where a world has no such key."""
    nothing = action.new_zeros(len(first))
    reward = percept.get("reward", nothing).to(action.dtype)
    terminated = percept.get("terminated", nothing.bool())
    return Row(
        first,
        action,
        percept["observation"],
        reward.masked_fill(first, 0.0),
        terminated & ~first,
    )


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
    spare_rewards: int = 0,
    **core_options: Any,
) -> WorldModel:
    """A world model of an environment with the given spaces.

    core: its name in `worldmodel.CORES`; hidden: units of the core, and of the decoder if there is
    no `decoder_hidden`; reward_support: the values that rewards take, or None for a Gaussian
    density; dropout: of the features that the decoder reads, in training mode; head: of
    observations, its name in `worldmodel.HEADS`, a name and its options, or a head of your own
    that reads the decoder's units; or several of those by key (see `decoder_for`), where the
    default of the space is not wanted; encoder: one of your own, or several by key;
    reward_regression: regresses rewards besides (`TwoHot`); separate: reward and end do not depend
    on the observation, given the features; minimum_std: of the densities of standardised numbers,
    where the default is not wanted; spare_rewards: values that rewards may take besides, when they
    come (`FiniteHead.extend`); core_options: the core's own. With
    `recurrence="skip-gru"` heads of observations read the core's features behind the decoder's
    units, and with them what the core hears; their Gaussians begin with the observation before.
    """
    if core not in CORES:
        raise ValueError(f"there is no core {core!r}; there are {', '.join(CORES)}")
    percepts = PerceptEncoder(encoder_for(observation_space, encoder))
    actions = action_codec(action_space).size
    contexts = context_size(actions, percepts.size, feedback, history)
    sequence_core = CORES[core](contexts, percepts.size, hidden=hidden, **core_options)
    decoder_hidden = decoder_hidden or hidden
    skip = isinstance(getattr(sequence_core, "recurrence", None), SkipGRU)
    shown = sequence_core.feature_size if skip else 0
    observation = decoder_for(observation_space, decoder_hidden + shown, head)
    if skip and feedback:
        heard = decoder_hidden + hidden  # where the columns of the context begin
        begin_as_before(observation, percepts.observation, heard + contexts - percepts.size)
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
        spare_rewards,
    )
    if minimum_std is not None:
        for module in decoder.modules():
            if isinstance(module, NormalHead):
                module.minimum_std = minimum_std
    return WorldModel(
        percepts,
        sequence_core,
        decoder,
        actions,
        feedback,
        history,
        reach=reach_of(observation_space),
    )
