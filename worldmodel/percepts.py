"""Encoding and prediction of percepts: the layer between the values of rows and a core."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.codecs import (
    Clamp,
    Encoder,
    PerceptModule,
    Prediction,
    TruthClamp,
    reward_clamp,
)
from worldmodel.devices import device_of
from worldmodel.distributions import Joint, draw
from worldmodel.sequences import PERCEPT_KEYS, Row, Sequences

SURELY = 1e-6  # the least probability of no end


class Filled(Sequences):
    """Sequences with a value of its support wherever there is nothing to read."""

    __slots__ = ()


class Percepts(nn.Module):
    """An encoder and a decoder of percepts, their placeholders, scales and bounds."""

    def __init__(self, encoder: Encoder, decoder: PerceptModule, clamp: Clamp | None = None):
        """encoder: of (percept, first), its leaves [*, ...] and bool [*]; decoder: of features;
        clamp: of generated observations."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.clamp = clamp or Clamp()
        self.has_rewards = "reward" in decoder.placeholder
        self.reward_clamp: Clamp = reward_clamp() if self.has_rewards else Clamp()
        self.end_clamp: Clamp = TruthClamp() if self.has_rewards else Clamp()
        self.size = encoder.size
        self.has_missing = encoder.has_missing

    @property
    def separate(self) -> bool:
        """True if reward and end do not depend on the observation, given the features."""
        return self.decoder.separate

    @property
    def regressed(self) -> tuple[str, ...]:
        """The parts of a percept that are regressed besides their likelihood."""
        return self.decoder.regressed

    def encode(self, row: Row) -> Tensor:
        """The encodings [*, E] of the percepts of rows [*]."""
        return cast(Tensor, self.encoder((row.percept, row.first)))

    def predict(self, features: Tensor) -> Prediction:
        """The distribution of percepts [*], given features [*, F]."""
        return cast(Prediction, self.decoder(features))

    def draw(self, prediction: Prediction, first: Tensor, action: Tensor) -> Row:
        """A row [*] of a percept that is drawn. What is out of a clamp is set on its edge; reward
        and end are those of the observation that was drawn, and of what is regressed the mean."""
        observation = draw(Joint({"observation": prediction.observation}))["observation"]
        drawn = prediction.consequences(observation).draw()
        return self._row(first, action, drawn | {"observation": self.clamp(observation)})

    def draw_unseen(self, prediction: Prediction, first: Tensor, action: Tensor) -> Row:
        """A row [*] of a percept drawn without its observation, which has size 0."""
        drawn = prediction.alone().draw()
        return self._row(first, action, drawn | {"observation": action[..., :0]})

    def expected(self, prediction: Prediction, rows: Row) -> tuple[Tensor, Tensor]:
        """The means of rewards of rows [*], given their observations, and log P(no end), [*]
        nats, both as far as their clamps let them."""
        found = prediction.consequences(rows.observation).mean
        reward = self.reward_clamp(found["reward"]).to(rows.reward.dtype)
        may_end = self.end_clamp(torch.ones_like(rows.first))
        ends = found["terminated"].clamp(max=1 - SURELY)  # a logarithm needs a number above 0
        lasting = torch.where(may_end, -ends, 0.0).log1p()
        return reward.masked_fill(rows.first, 0.0), lasting.masked_fill(rows.first, 0.0)

    def _row(self, first: Tensor, action: Tensor, percept: Mapping[str, Any]) -> Row:
        if self.has_rewards:
            percept = {
                **percept,
                "reward": self.reward_clamp(percept["reward"]),
                "terminated": self.end_clamp(percept["terminated"]),
            }
        return row_of(first, action, percept)

    def fill(self, sequences: Sequences) -> Filled:
        """The sequences, on the device of the weights, with a value of its support wherever there
        is nothing to read: padding, and placeholders of first rows."""
        if isinstance(sequences, Filled):
            return sequences
        rows, mask, scored = nested.to(sequences, device_of(self))
        void = cast(dict[str, Any], self.decoder.placeholder)

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
        return Filled(Row(rows.first & mask, action, **percept), mask, scored)

    def scores(
        self, features: Tensor, sequences: Sequences, regressed: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """log p(percept | features) by key and, if `regressed`, the losses of what is regressed:
        [T, K, B] nats each, zero where not scored. features: [T, K * B, F]."""
        sequences = self.fill(sequences)
        features = features.unflatten(1, (-1, sequences.mask.shape[1]))  # [T, K, B, F]
        percept = nested.map(lambda leaf: leaf.unsqueeze(1), sequences.rows.percept)
        consequences = (sequences.loss_mask & ~sequences.rows.first)[:, None]
        scored = dict.fromkeys(PERCEPT_KEYS, consequences)
        scored["observation"] = sequences.loss_mask[:, None]  # [T, 1, B]
        log_probs, losses = self.predict(features).scores(percept, regressed)
        for values in (log_probs, losses):
            for key, value in values.items():
                values[key] = torch.where(scored[key], value, 0.0)
        return log_probs, losses

    def standardise(self, values: Mapping[str, Any]) -> None:
        """Sets the scales of numbers from observations [N, ...] and rewards [M], those of first
        rows left out, by key."""
        self.encoder.standardise(values)
        self.decoder.standardise(values)

    def meet(self, values: Mapping[str, Any]) -> None:
        """Makes what came for the first time likely, and lets draws reach it; values: as those of
        `standardise`, and the ends [M] beside the rewards."""
        self.decoder.meet(values)
        self.clamp.widen(values["observation"])
        if self.has_rewards:
            self.reward_clamp.widen(values["reward"])
            self.end_clamp.widen(values["terminated"])

    def unmet(self, row: Row, is_observed: bool = True) -> Tensor:
        """True where rows [N] have a reward or an observed number out of the range that was met,
        bool [N]. Rewards of first rows are none."""
        found = self.reward_clamp.unmet(row.reward) & ~row.first
        return found | self.clamp.unmet(row.observation) if is_observed else found


def row_of(first: Tensor, action: Tensor, percept: Mapping[str, Any]) -> Row:
    """A row [B] of a percept; placeholders on first rows, zero where a world has no such key."""
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
