"""Policy optimizers in the dream: our own policy gradient, or an algorithm of stable-baselines3,
unchanged, with the dream as its environment."""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from worldmodel import Replay, Schedule, Trainer, nested, ranks
from worldmodel.agents.critics import SlowCritic
from worldmodel.agents.imagination import Imagination
from worldmodel.agents.policy_gradient import Bonus, PolicyGradient
from worldmodel.agents.recorded_values import RecordedValues
from worldmodel.compiling import compiled
from worldmodel.envs import DreamVectorEnv
from worldmodel.graphs.engine import GraphFunction
from worldmodel.objectives import Metrics

if TYPE_CHECKING:
    from worldmodel.agents.sb3 import Learner


RISE = 1.02  # of the weight of the entropy bonus, a rollout
MOST = 100.0  # times that it becomes larger


class PolicyOptimizer(ABC):
    """An optimizer of a policy, by one rollout in the dream at a time."""

    takes_bonus = False  # besides the dream's rewards

    @abstractmethod
    def begin(self) -> None:
        """Begins new dreams: the model has changed, and beliefs with it."""

    @abstractmethod
    def update(self, bonus: Bonus | None = None) -> Metrics:
        """Makes one rollout, and learns from it; bonus: where `takes_bonus`."""

    def rescale(self, unit: float) -> None:  # noqa: B027 (most have no scale)
        """Sets the least spread that returns count as, where gains are divided by it."""

    def compile(self, say: Callable[[str], None], as_graph: bool = False) -> None:  # noqa: B027
        """Compiles the steps of dreams, where their number stays the same (see `compiled`), or
        has onnxruntime compute them (`GraphFunction`)."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The state that the next rollout depends on besides the policy, for `torch.save`."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from `state`."""


class GradientOptimizer(PolicyOptimizer):
    """A policy optimizer by our own objective, in dreams that go on between rollouts. Of several
    ranks each dreams its share of them, with noise of its own."""

    takes_bonus = True

    def __init__(
        self,
        objective: PolicyGradient,
        trainer: Trainer,
        imagination: Imagination,
        learning: nn.Module,
        acting: nn.Module,
        ema_decay: float,
        epochs: int = 1,
        minibatches: int = 1,
        least_entropy: float = -math.inf,
    ):
        """learning: the policy that dreams; acting: its average over updates, of decay
        `ema_decay`; epochs: times that a rollout is learned from, each time in so many
        minibatches; least_entropy: nats below which the weight of the entropy bonus rises from
        rollout to rollout."""
        if imagination.batch_size < ranks.size():
            raise ValueError(
                f"{ranks.size()} ranks share {imagination.batch_size} dreams: take fewer ranks, "
                "or more --num-imagined"
            )
        if epochs * minibatches > 1 and objective.serves_once:
            raise ValueError(
                f"a rollout of {type(objective).__name__} serves one update: leave out --epochs "
                "and --minibatches"
            )
        rows = imagination.batch_size * objective.length // ranks.size()
        if minibatches > rows:
            raise ValueError(
                f"--minibatches {minibatches}, and a rollout has {rows} rows: take fewer, or more "
                "--num-imagined"
            )
        self.objective = objective
        self.trainer = trainer
        self.imagination = imagination
        self.learning = learning
        self.acting = acting
        self.ema_decay = ema_decay
        self.epochs = epochs
        self.minibatches = minibatches
        self.least_entropy = least_entropy
        self.dreams: Any = ranks.part(objective.start(), self.number)  # until the first `begin`
        self.before = self._weights()  # of the acting policy, at the last `begin`
        self.is_aside = False  # the average goes on with `before`, while another policy acts
        self.is_compiled = False

    @property
    def number(self) -> int:
        """Dreams of all ranks."""
        return self.imagination.batch_size

    def begin(self) -> None:
        self.dreams = self.imagination.begin()
        self._go_on_averaging()

    def _go_on_averaging(self) -> None:
        if self.is_aside:
            self.exchange()
            self.is_aside = False
        else:
            self.before = self._weights()

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.acting.parameters()]

    @torch.no_grad()
    def exchange(self) -> None:
        """Lets the policy act that acted at the last `begin`, and calls the other one `before`."""
        now = self._weights()
        for acting, before in zip(self.acting.parameters(), self.before, strict=True):
            acting.copy_(before)
        self.before = now

    @torch.no_grad()
    def keep_before(self, is_undone: bool) -> None:
        """Lets the policy act that acted at the last `begin`. Learning goes on with the other one,
        whose average grows on, or where that `is_undone` from the one that acts."""
        self.exchange()
        self.is_aside = not is_undone
        if not is_undone:
            return
        for learned, acting in zip(
            self.learning.parameters(), self.acting.parameters(), strict=True
        ):
            learned.copy_(acting)

    def begin_anew(self) -> None:
        """Forgets the scale of the returns so far: others are sought from now on."""
        self.trainer.state = self.objective.initial_state()

    def rescale(self, unit: float) -> None:
        if self.objective.unit is not None:
            self.objective.unit = unit

    def compile(self, say: Callable[[str], None], as_graph: bool = False) -> None:
        if not self.is_compiled:
            reads = [self.imagination.dream.model, self.learning]
            graph = functools.partial(GraphFunction, reads=reads, changing=self.learning)
            self.objective.gen_core.compile(say, graph if as_graph else compiled)
            self.is_compiled = True

    def update(self, bonus: Bonus | None = None) -> Metrics:
        self.objective.bonus = bonus
        dreams = self.imagination.go_on(self.dreams)
        with ranks.own_noise():
            rollout, self.dreams = self.objective.roll(dreams)
        return self._learn(rollout)

    def _learn(self, batch: Any) -> Metrics:
        """Learns from a rollout, or what is made of it, in all epochs."""
        for _ in range(self.epochs):
            for part in self._parts(batch):
                metrics = self.trainer.update(part)
                self._average()
        is_below = metrics.get("entropy", math.inf) < self.least_entropy
        factor = self.objective.entropy_factor * (RISE if is_below else 1 / RISE)
        self.objective.entropy_factor = min(max(factor, 1.0), MOST)
        return metrics

    def _parts(self, batch: Any) -> Iterable[Any]:
        """The minibatches of a rollout; itself where first rows have left too few others."""
        rows = len(nested.leaves(batch)[0])
        if self.minibatches == 1 or ranks.any_of(rows < self.minibatches):
            return [batch]
        with ranks.own_noise():
            learned: Any = self.trainer.objective
            return learned.parts(batch, self.minibatches)

    @torch.no_grad()
    def _average(self) -> None:
        """Updates the averages of weights: the policy's, which acts in reality, and the slow
        critic's, if there is one."""
        if isinstance(self.objective.critic, SlowCritic):
            self.objective.critic.follow()
        updates = self.trainer.updates
        kept = min(self.ema_decay, updates / (10 + updates))
        pairs = zip(self.acting.parameters(), self.learning.parameters(), strict=True)
        for acting, learned in pairs:
            acting.lerp_(learned, 1 - kept)

    def state_dict(self) -> dict[str, Any]:
        return {
            "trainer": self.trainer.state_dict(),
            "minibatches": self.minibatches,
            "dreams": nested.leaves(ranks.whole(self.dreams, self.number)),
            "entropy_factor": self.objective.entropy_factor,
            "before": self.before,
            "is_aside": self.is_aside,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        minibatches = state.get("minibatches", 1)  # earlier runs saved none
        self.trainer.updates = self.trainer.updates * self.minibatches // minibatches
        device = self.trainer.parameters[0].device
        whole = nested.to(nested.fill(self.dreams, state["dreams"]), device)
        self.dreams = ranks.part(whole, self.number)
        self.objective.entropy_factor = state["entropy_factor"]
        before = state.get("before", self.before)  # earlier runs saved none, nor what follows
        self.before = [weights.to(device) for weights in before]
        self.is_aside = state.get("is_aside", False)


class RowsOptimizer(GradientOptimizer):
    """A policy optimizer by our own objective, in dreams that begin anew in each rollout: one with
    each row of some recorded windows, another number each time, so that they are not compiled."""

    def __init__(self, *parts: Any, replay: Replay, **options: Any):
        """parts, options: of a `GradientOptimizer`."""
        super().__init__(*parts, **options)
        self.replay = replay
        self.dreams = ()  # none goes on

    compile = PolicyOptimizer.compile

    def begin(self) -> None:
        """Begins no dreams: every rollout begins its own."""
        self._go_on_averaging()

    def update(self, bonus: Bonus | None = None) -> Metrics:
        self.objective.bonus = bonus
        with ranks.own_noise():
            dreams, recorded = self.imagination.with_rows(self.replay)
            rollout, _ = self.objective.roll(dreams)
        learned = self.trainer.objective
        if isinstance(learned, RecordedValues):
            return self._learn(learned.examples(rollout, recorded))
        return self._learn(rollout)


class SB3Optimizer(PolicyOptimizer):
    """A policy optimizer by an algorithm of stable-baselines3, which is called repeatedly.

    PPO, A2C and RecurrentPPO resume to the last bit after an interruption, games and all. DQN and
    SAC, whose replay is not kept, refill it from the dream: they go on from the same weights,
    optimizers and games, to other numbers.
    """

    def __init__(self, learner: "Learner", dreams: DreamVectorEnv, steps: int, share: Schedule):
        """steps: dreamt in a rollout, all games together; share: of the algorithm's learning
        rate, by rollout."""
        self.learner = learner
        self.dreams = dreams
        self.steps = steps
        self.share = share
        self.rollouts = 0

    def begin(self) -> None:
        self.learner.begin(self.dreams, _draw_seed())

    def compile(self, say: Callable[[str], None], as_graph: bool = False) -> None:
        if as_graph:
            graph = functools.partial(GraphFunction, reads=[self.dreams.dream.model])
            self.dreams.core.compile(say, graph)

    def update(self, bonus: Bonus | None = None) -> Metrics:
        metrics = self.learner.learn(self.steps, self.share(self.rollouts), _draw_seed())
        self.rollouts += 1
        return metrics

    def state_dict(self) -> dict[str, Any]:
        has_begun = self.learner.has_begun
        return {
            "learner": self.learner.state_dict(),
            "dreams": self.dreams.state_dict() if has_begun else {},
            "rollouts": self.rollouts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rollouts = state["rollouts"]
        if state["dreams"]:
            self.learner.begin(self.dreams, 0)
            self.dreams.load_state_dict(state["dreams"])
        self.learner.load_state_dict(state["learner"])


def _draw_seed() -> int:
    """Draws a seed from torch's generator, which checkpoints hold."""
    return int(torch.randint(2**31 - 1, ()))
