"""The plan of an agent's training: how much is collected, learned and dreamt, round by round."""

from collections.abc import Mapping, Sequence
from typing import Any

from worldmodel import Stage
from worldmodel.agents.config import AgentConfig
from worldmodel.agents.image_encoder import is_encoded
from worldmodel.agents.regularisation import CANDIDATES
from worldmodel.agents.world import World
from worldmodel.codecs import by_path, is_image

FEW_STEPS, MANY_STEPS = 20, 5_000  # of a first collection that a weight decay is chosen by


class Rounds:
    """Rounds of stages, as many as it takes to collect some steps of the environment."""

    def __init__(self, config: AgentConfig, world: World, is_watched: bool):
        """is_watched: an evaluation follows each round, for the learning curve."""
        self.config = config
        self.world = world
        self.is_watched = is_watched and not world.is_recorded
        self.steps = 0  # of all rounds
        self.collections: list[int] = []  # steps by round
        self.updates: list[tuple[int, int]] = []  # segments of learning, see `in_segments`
        self.rollouts: list[tuple[int, int]] = []
        self._encoded_at = 0  # steps when the image encoder last learned

    def extend(self, stages: list[Stage], steps: int) -> None:
        """Adds the stages of rounds in which `steps` more steps are collected."""
        until, begun = self.steps + steps, len(stages)
        while self.steps < until:
            stages += self._next(until)
        for segments, kind in ((self.updates, "learn"), (self.rollouts, "improve")):
            units = [stage.units if stage.kind == kind else 0 for stage in stages]
            segments.append((sum(units[:begun]), sum(units[begun:])))

    def cut(self, kept: Sequence[Stage]) -> None:
        """Forgets the rounds that none of the kept stages belongs to."""
        begun = 1 + max((stage.round for stage in kept), default=-1)
        self.collections = self.collections[:begun]
        self.steps = sum(self.collections)
        encoded = [stage.round for stage in kept if stage.kind == "encode"]
        self._encoded_at = sum(self.collections[: encoded[-1] + 1]) if encoded else 0

    @property
    def choice_updates(self) -> int:
        """Updates with each weight decay that is chosen from."""
        return max(1, self.config.learning.first_updates // 2)

    def _next(self, until: int) -> list[Stage]:
        """The stages of one more round, of which `until` is the last step, at most."""
        config, number = self.config, len(self.collections)
        if number:
            short = config.collect.collect_steps
            growth = 0.0 if self.world.is_recorded else config.collect.collect_growth
            steps = min(max(short, round(growth * self.steps)), until - self.steps)
            updates = max(1, round(config.learning.update_ratio * min(steps, short)))
            rollouts = max(1, round(config.policy.rollout_ratio * min(steps, short)))
        else:
            steps = min(config.collect.prefill, until)
            updates, rollouts = config.learning.first_updates, config.policy.first_rollouts
        self.steps += steps
        self.collections.append(steps)
        stages = []
        if not self.world.is_recorded:
            stages.append(Stage("collect", number, 1))
        elif number == 0:
            stages.append(Stage("read", number, 1))
        has_doubled = self.steps >= config.images.vae_growth * self._encoded_at
        if is_encoded(self.world.observation_space, config.images) and has_doubled:
            stages.append(Stage("encode", number, config.images.vae_updates))
            self._encoded_at = self.steps
        if number == 0 and self._may_choose(steps):
            stages.append(Stage("choose", number, len(CANDIDATES) * self.choice_updates))
        stages += [Stage("learn", number, updates), Stage("improve", number, rollouts)]
        if self.is_watched:
            stages.append(Stage("evaluate", number, 1))
        return stages

    def _may_choose(self, steps: int) -> bool:
        """True if the weight decay is chosen by the first collection, of so many steps."""
        parts = by_path(self.world.observation_space).values()
        is_asked = self.config.learning.weight_decay is None and not self.world.is_recorded
        return is_asked and FEW_STEPS <= steps <= MANY_STEPS and not any(map(is_image, parts))

    def values(self) -> dict[str, Any]:
        """Plain values that the next rounds depend on."""
        return {
            "planned": self.steps,
            "encoded_at": self._encoded_at,
            "collections": self.collections,
            "updates": self.updates,
            "rollouts": self.rollouts,
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Takes `values` back. Learners and optimizers that hold the segments see the new ones."""
        self.steps, self._encoded_at = values["planned"], values["encoded_at"]
        self.collections = list(values["collections"])
        self.updates[:] = [tuple(segment) for segment in values["updates"]]
        self.rollouts[:] = [tuple(segment) for segment in values["rollouts"]]
