"""Predictions of a world model: an observation, then the reward given it, then the end."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, distributions as td

from worldmodel.codecs.regression import TwoHot
from worldmodel.distributions import Categorical, Joint, draw, points_of, tempered

FEW = 16  # values of an observation that are summed over, at most
Regressions = Callable[[], Mapping[str, TwoHot]]
End = Callable[[Tensor], td.Distribution]


class Consequences(Joint):
    """p(reward) p(end | reward) of rows [*], and what is regressed of them besides (most often
    nothing).

    That a prize is paid and that the game ends are one event, as a goal that is seen and the end
    that it brings are.
    """

    def __init__(
        self,
        parts: Mapping[str, td.Distribution],
        regressions: Regressions = dict,
        end: End | None = None,
    ):
        """parts: by key; end: that of "terminated", given rewards [*], if it depends on them."""
        super().__init__(parts)
        self._regressions = regressions
        self.end = end

    @property
    def regressions(self) -> Mapping[str, TwoHot]:
        """The regressions by key, batch shape [*]: losses beside the likelihood."""
        return self._regressions()

    @property
    def mean(self) -> dict[str, Any]:
        """The means of reward and end, and of what is regressed that of the regression. The end's
        is over all values that a reward takes, or over the means of its densities."""
        means = cast(dict[str, Any], super().mean)
        if self.end is not None:
            values, probs = points_of(self.parts["reward"])  # [n, *]
            means["terminated"] = (probs * self.end(values).mean).sum(0)
        return means | {key: part.mean for key, part in self.regressions.items()}

    @property
    def mode(self) -> dict[str, Any]:
        """The most probable reward, and whether it is more probable that the game ends with it."""
        return self._ended(cast(dict[str, Any], super().mode), lambda end: end.mode)

    def draw(self) -> dict[str, Any]:
        """Draws reward and end; what is regressed is not drawn, but its mean taken."""
        drawn = cast(dict[str, Any], draw(self))
        return drawn | {key: part.mean for key, part in self.regressions.items()}

    def sample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Any]:  # type: ignore[override]
        """Draws rewards, then ends given them."""
        return self._ended(super().sample(sample_shape), lambda end: end.sample())

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Any]:  # type: ignore[override]
        """Draws with gradients, of those parts that have them."""
        return self._ended(super().rsample(sample_shape), draw)

    def log_probs(self, value: Mapping[str, Any]) -> dict[str, Tensor]:
        """The log probability of each part given those before it, [*] nats."""
        log_probs = super().log_probs(value)
        if self.end is not None:
            ended = self.end(value["reward"]).log_prob(value["terminated"])
            log_probs["terminated"] = ended
        return log_probs

    def tempered(self, temperature: float | Tensor) -> "Consequences":
        """The same at a `temperature` (see `worldmodel.distributions.tempered`)."""
        end = self.end
        return Consequences(
            {key: tempered(part, temperature) for key, part in self.parts.items()},
            self._regressions,
            end and (lambda reward: tempered(end(reward), temperature)),
        )

    def _ended(
        self, drawn: dict[str, Any], choose: Callable[[td.Distribution], Tensor]
    ) -> dict[str, Any]:
        """Adds what is to `choose` of the end, given the reward that was drawn."""
        if self.end is None:
            return drawn
        return drawn | {"terminated": choose(self.end(drawn["reward"]))}


def nothing(observation: Any) -> Consequences:
    """The consequences in recordings, which have neither rewards nor ends."""
    return Consequences({})


class Prediction(td.Distribution):
    """p(observation) p(reward, end | observation) of rows [*]; value: a percept.

    That an observation shows the goal and that the game ends are one event;
    independent heads would give it the product of two probabilities.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)
    has_rsample = True

    def __init__(
        self,
        observe: Callable[[], td.Distribution],
        consequences: Callable[[Any], Consequences],
        batch_shape: torch.Size,
        separate: bool = False,
    ):
        """observe: makes the distribution of the observation, when it is asked for;
        consequences: of an observation; separate: they do not depend on it."""
        self._observe = observe
        self._observation: td.Distribution | None = None  # until it is asked for
        self._consequences = consequences
        self.separate = separate
        super().__init__(batch_shape, validate_args=False)

    @property
    def observation(self) -> td.Distribution:
        """The distribution of the observation."""
        if self._observation is None:
            self._observation = self._observe()
        return self._observation

    def consequences(self, observation: Any) -> Consequences:
        """Reward and end, given an observation [*, ...] (None does, where they are `separate`)."""
        return self._consequences(observation)

    def alone(self) -> Consequences:
        """Reward and end without an observation: given one that is drawn, if they depend on it."""
        return self.consequences(None if self.separate else draw(self.observation))

    def marginal(self, few: float = FEW) -> tuple[Tensor, Consequences]:
        """p(reward, end) as a mixture over what might be observed: weights [n, *], whose sum over
        n is one, and the components, batch shape [n, *].

        The components are all values of a Discrete observation, if it has `few` at most; else one
        that is drawn (n = 1), or none where reward and end are `separate`.
        """
        observation = None if self.separate else self.observation
        if not isinstance(observation, Categorical) or observation.probs.shape[-1] > few:
            then = self.alone()
            here = [part.mean.device for part in then.parts.values()][-1:]
            return torch.ones(1, *self.batch_shape, device=here[0] if here else None), then
        weights = observation.probs.movedim(-1, 0)  # [n, *]
        values = torch.arange(len(weights), device=weights.device) + observation.start
        values = values.reshape(-1, *[1] * (weights.dim() - 1)).expand(weights.shape)
        return weights, self.consequences(values)

    def tempered(self, temperature: float | Tensor) -> "Prediction":
        """The same at a `temperature` (see `worldmodel.distributions.tempered`)."""
        if not isinstance(temperature, Tensor) and temperature == 1:
            return self

        return Prediction(
            lambda: tempered(self.observation, temperature),
            lambda observation: self.consequences(observation).tempered(temperature),
            self.batch_shape,
            self.separate,
        )

    @property
    def mode(self) -> dict[str, Any]:
        """The most probable observation, and the most probable reward and end given that."""
        observation = self.observation.mode
        return {"observation": observation} | self.consequences(observation).mode

    def sample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Any]:  # type: ignore[override]
        """Draws observations, then rewards and ends given them, by key."""
        observation = self.observation.sample(sample_shape)
        return {"observation": observation} | self.consequences(observation).sample()

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Any]:  # type: ignore[override]
        """Draws with gradients, of those parts that have them."""
        first = Joint({"observation": self.observation}).rsample(sample_shape)
        return first | self.consequences(first["observation"]).rsample()

    def log_probs(self, percept: Mapping[str, Any]) -> dict[str, Tensor]:
        """The log probability of each part given those before it, [*] nats."""
        return self.scores(percept, regressed=False)[0]

    def losses(self, percept: Mapping[str, Any]) -> dict[str, Tensor]:
        """The losses of what is regressed, [*] by key: no log probabilities, and in no bound."""
        regressions = self.consequences(percept["observation"]).regressions
        return {key: part.loss(percept[key]) for key, part in regressions.items()}

    def scores(
        self, percept: Mapping[str, Any], regressed: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`log_probs` and, if `regressed`, `losses`; the observation is read once for both."""
        consequences = self.consequences(percept["observation"])
        log_probs = {"observation": self.observation.log_prob(percept["observation"])}
        regressions = consequences.regressions if regressed else {}
        losses = {key: part.loss(percept[key]) for key, part in regressions.items()}
        return log_probs | consequences.log_probs(percept), losses

    def log_prob(self, value: Mapping[str, Any]) -> Tensor:  # type: ignore[override]
        """The log probability of all parts together, [*] nats."""
        return cast(Tensor, sum(self.log_probs(value).values()))
