"""Policy gradients: REINFORCE, actor-critic, all actions and pathwise, in any world.

The gradient of the expected return is the mean over rows of

    sum_a  grad pi(a | thought)  Q(thought, a)             (Sutton et al. 2000, theorem 1)

A world that cannot be rewound gives the consequences of one action only; there the sum is
estimated by the score function, grad log pi(a) (R - V): `ActorCritic`. A dream can be forked:
every action is tried from where the game stands, and the sum is taken as it is written:
`AllActions`. A dream can be differentiated, too: `PathwiseGradient` follows the return back
through the model's predictions. All follow the same two steps, over and over:

    rollout, state = objective.roll(state)        the agent lives in its GenCore
    trainer.update(rollout)                       one or more steps uphill
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from worldmodel import (
    ActionCodec,
    DistModule,
    Dream,
    GenCore,
    GenState,
    Registry,
    Row,
    Schedule,
    constant,
    mlp,
    nested,
    options_taken,
    ranks,
)
from worldmodel.agents.critics import Estimate, estimate
from worldmodel.distributions import Bits, OneHot, draw
from worldmodel.objectives import Figures

DECAY = 0.99  # of the spread of returns, an update
MANY = 2**24  # more numbers than PyTorch's quantile takes


class Policy(DistModule):
    """thought [*, F] -> a distribution over the codes of actions."""

    def __init__(
        self, thought_size: int, actions: ActionCodec, hidden: int = 128, unimix: float = 0.0
    ):
        """unimix: see `ActionCodec.head`."""
        super().__init__()
        self.body = nn.Sequential(mlp([thought_size, hidden, hidden], norm=True), nn.SiLU())
        self.head = actions.head(hidden, unimix)

    @property
    def placeholder(self) -> Tensor:
        return self.head.placeholder

    def forward(self, features: Tensor) -> Distribution:
        return self.head(self.body(features))


def lambda_returns(rows: Row, values: Tensor, discount: float | Tensor, lambda_: float) -> Tensor:
    """The return of each row's action, [T, B]: discounted rewards, bootstrapped from `values`.

        R_t = r_t + discount (1 - terminated_t) ((1 - lambda) V_t + lambda R_{t+1})

    with `values[t]` [T, B] the value after row t. At a truncation, where the next row is a first
    row, and after the last row R_{t+1} is V_t. The entries of first rows, which have no action,
    hold nothing of use. discount: a number, or one of each row, [T, B].
    """
    returns = []
    after = values[-1]
    broken = torch.ones_like(rows.first[0])
    for t in reversed(range(len(values))):
        following = torch.where(broken, values[t], (1 - lambda_) * values[t] + lambda_ * after)
        weight = discount[t] if isinstance(discount, Tensor) else discount
        after = rows.reward[t] + weight * torch.where(rows.terminated[t], 0.0, following)
        broken = rows.first[t]
        returns.append(after)
    return torch.stack(returns[::-1])


Bonus = Callable[[Tensor, Tensor], Tensor]
"""A reward besides that of the world: (thought [*, F], action [*, A]) -> [*]."""


class Rollout(NamedTuple):
    """The rows whose action had consequences, N of them, in order of time."""

    thought: Tensor  # [N, F], from which the action was chosen
    action: Tensor  # [N, A], its code
    returns: Tensor  # [N], of that action
    tried: Tensor  # [N, n], the one-step return of each of n actions; n = 0 if none was tried
    reward: Tensor  # [N]


def split(rows: Any, number: int) -> list[Any]:
    """Rows [N, ...] in so many parts of about the same size, at random."""
    first = nested.leaves(rows)[0]
    places = torch.randperm(len(first), device=first.device)
    return [nested.index(rows, places[part::number]) for part in range(number)]


def acted(rows: Rollout, first: Tensor) -> Rollout:
    """The rows [T, B, ...] that are no first rows, bool [T, B]; their places are read once."""
    flat = nested.map(lambda leaf: leaf.flatten(0, 1), rows)
    places = (~first).flatten().nonzero()[:, 0]
    return flat if len(places) == first.numel() else nested.index(flat, places)


class Spread(NamedTuple):
    """The spread of returns, averaged over the updates so far."""

    total: Tensor  # scalar, of the ranges from the 5th to the 95th percentile, decaying
    weight: Tensor  # scalar, of those ranges

    @classmethod
    def none(cls, device: torch.device | None = None) -> "Spread":
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def after(self, returns: Tensor) -> "Spread":
        """The spread updated by the returns [N] of one more rollout."""
        low, high = torch.quantile(
            returns[:MANY].float(), returns.new_tensor([0.05, 0.95]).float()
        )
        return Spread(
            DECAY * self.total + (1 - DECAY) * (high - low),
            DECAY * self.weight + (1 - DECAY),
        )

    @property
    def mean(self) -> Tensor:
        return self.total / self.weight


class PolicyGradient(ABC):
    """The objective of an agent's policy and of its critic, on rollouts of a GenCore."""

    serves_once = False  # a rollout is learned from in one update

    def __init__(
        self,
        gen_core: GenCore,
        batch_size: int,
        length: int,
        critic: nn.Module | None,
        discount: float,
        entropy: Schedule,
        unit: float | None = None,
    ):
        """length: rows a rollout; critic: thought [*, F] -> value [*] (see `critics.estimate`);
        entropy: the weight of the bonus, in units of returns a nat.

        unit: if given, the unit of returns is their spread (Hafner et al. 2023,
        https://arxiv.org/abs/2301.04104, eq. 12), or this, if that is larger: one weight of the
        bonus then does for rewards of any scale.
        """
        self.gen_core = gen_core
        self.batch_size = batch_size
        self.length = length
        self.critic = critic
        self.discount = discount
        self.entropy = entropy
        self.unit = unit
        self.bonus: Bonus | None = None
        self.entropy_factor = 1.0  # of the weight of the entropy bonus
        self.uniform_kl = 0.0  # weight of KL(uniform || policy), where actions can be listed

    def initial_state(self) -> Spread | tuple[()]:
        """The spread of returns, where gains are divided by it; else nothing."""
        return () if self.unit is None else Spread.none(self.start().thought.device)

    def start(self) -> GenState:
        """The games before the first rollout."""
        return self.gen_core.initial_state(self.batch_size)

    @abstractmethod
    def roll(self, state: GenState) -> tuple[Rollout, GenState]:
        """Plays `length` rows of `batch_size` games from their state, without gradients."""

    @abstractmethod
    def gain(self, rollout: Rollout, policy: Any, value: Tensor) -> Tensor:
        """The objective that the policy maximises, [N]."""

    @abstractmethod
    def target(self, rollout: Rollout, policy: Any) -> Tensor:
        """The regression target of the critic, [N]."""

    def __call__(self, batch: Rollout, state: Any, step: int) -> tuple[Tensor, Figures, Any]:
        policy = self.gen_core.agent.policy(batch.thought)
        if self.critic is None:
            estimated = Estimate(self.value(batch.thought))
        else:
            estimated = estimate(self.critic, batch.thought)
        value = estimated.mean
        entropy = policy.entropy().mean()
        critic_loss = estimated.loss(self.target(batch, policy)).mean()
        gain = self.gain(batch, policy, value.detach()).mean()
        metrics = {
            "value": value.detach().mean(),
            "return": batch.returns.detach().mean(),
            "reward": batch.reward.mean(),
            "entropy": entropy.detach(),
            "critic_loss": critic_loss.detach(),
        }
        if self.unit is not None:
            state = state.after(ranks.gathered(batch.returns.detach()))
            gain = gain / state.mean.clamp(min=self.unit)
            metrics["spread"] = state.mean
        loss = -gain - self.entropy_factor * self.entropy(step) * entropy
        if self.uniform_kl and isinstance(policy, OneHot | Bits):
            loss = loss + self.uniform_kl * policy.kl_from_uniform().mean()
        return loss + critic_loss if self.critic else loss, metrics, state

    def parts(self, rollout: Rollout, number: int) -> list[Rollout]:
        """The rollout in so many minibatches."""
        return split(rollout, number)

    def drawn_from(self, state: GenState) -> Any:
        """The core's states that the last rows of a dream were drawn from; of another world,
        nothing."""
        return state.world.model.core if isinstance(self.gen_core.environment, Dream) else ()

    def judged(self, thought: Tensor, value: Tensor, rows: Row, cores: Any) -> tuple[Row, Tensor]:
        """Rows [*] with the rewards that count for returns, and the discounts after them, [*].

        thought [*, F] and its value [*]: before the rows; cores: what they were `drawn_from`,
        leaves [*, ...]. The bonus of their actions is added, if there is one.

        In a dream the expected reward stands for the one that was drawn, and ends are set off:
        where the chance P(no end) is p, a row counts for reward + discount V (p - 1) if nothing
        ended and for reward + discount V p if it did, V the value before it. What is added is
        zero in expectation whatever V is, and takes with it most of the noise of drawn ends.
        """
        dream = self.gen_core.environment
        discount = torch.full_like(rows.reward, self.discount)
        if isinstance(dream, Dream):
            reward, lasting = dream.expected(rows, cores)
            score = (lasting - lasting.detach()).exp()  # 1; its gradient is that of log P(no end)
            discount = discount * score
            offset = lasting.exp() - torch.where(rows.terminated, 0.0, score)
            offset = self.discount * value.detach() * offset
            rows = rows._replace(reward=reward + offset.to(reward.dtype))
        if self.bonus:
            rows = rows._replace(reward=rows.reward + self.bonus(thought, rows.action))
        return rows, discount

    def value(self, thought: Tensor) -> Tensor:
        """The critic's value [*] of thoughts [*, F]; zero without a critic."""
        if self.critic is None:
            return thought.new_zeros(thought.shape[:-1])
        return self.critic(thought)


class ActorCritic(PolicyGradient):
    """The score function of the actions that were chosen, with lambda returns.

    With `critic=None` and `lambda_=1` it is REINFORCE (Williams 1992).
    """

    def __init__(
        self,
        gen_core: GenCore,
        batch_size: int,
        length: int,
        critic: nn.Module | None = None,
        discount: float = 0.99,
        lambda_: float = 0.95,
        entropy: Schedule = constant(1e-3),
        unit: float | None = None,
    ):
        if critic is None and lambda_ != 1.0:
            raise ValueError(
                f"lambda_={lambda_} bootstraps from a critic, and there is none: pass a critic, "
                "or lambda_=1.0 for REINFORCE"
            )
        super().__init__(gen_core, batch_size, length, critic, discount, entropy, unit)
        self.lambda_ = lambda_

    @torch.no_grad()
    def roll(self, state: GenState) -> tuple[Rollout, GenState]:
        return self._rolled(state)

    def _rolled(self, state: GenState) -> tuple[Rollout, GenState]:
        thoughts, rows, cores = [state.thought], [], []
        reads_observations = isinstance(self.gen_core.environment, Dream)  # see `judged`
        for _ in range(self.length):
            (row, thought), state = self.gen_core.step(state)
            thoughts.append(thought)
            if not reads_observations:
                row = row._replace(observation=row.reward[:, None][:, :0])
            rows.append(row)
            cores.append(self.drawn_from(state))
        thought, row = torch.stack(thoughts), nested.stack(rows)
        before, value = thought[:-1], self.value(thought)
        judged, discount = self.judged(before, value[:-1], row, nested.stack(cores))
        returns = lambda_returns(judged, value[1:], discount, self.lambda_)
        nothing = returns.new_zeros(*returns.shape, 0)
        rollout = Rollout(before, row.action, returns, nothing, row.reward)
        return acted(rollout, row.first), state

    def gain(self, rollout: Rollout, policy: Any, value: Tensor) -> Tensor:
        return policy.log_prob(rollout.action) * (rollout.returns - value)

    def target(self, rollout: Rollout, policy: Any) -> Tensor:
        return rollout.returns


class PathwiseGradient(ActorCritic):
    """The gradient of lambda returns through the dream itself: observations and actions are
    reparametrised (Hafner et al. 2020, https://arxiv.org/abs/1912.01603, eq. 7).

    A return is linear in rewards, whose mean stands for their draws: that of a prize has a
    gradient, the prize itself has none. Ends are drawn, and what comes after a row that ended
    nothing is weighed by P(no end), over itself: the score function of ends, from which the
    value before the row is subtracted (see `judged`). Actions in numbers have their gradient
    exactly; discrete ones have it straight through, which is biased. A rollout holds its graph,
    so it serves one update.
    """

    serves_once = True

    def roll(self, state: GenState) -> tuple[Rollout, GenState]:
        dream = self.gen_core.environment
        if not isinstance(dream, Dream):
            raise ValueError(
                f"PathwiseGradient differentiates a Dream, got a {type(dream).__name__}; use "
                "ActorCritic in a world whose rows have no gradients"
            )
        with frozen(dream.model, self.critic), torch.enable_grad():
            state = nested.map(torch.detach, state)
            state = state._replace(action=draw(self.gen_core.agent.policy(state.thought)))
            rollout, state = self._rolled(state)
        detached = rollout._replace(
            thought=rollout.thought.detach(),
            action=rollout.action.detach(),
            reward=rollout.reward.detach(),
        )
        return detached, nested.map(torch.detach, state)

    def gain(self, rollout: Rollout, policy: Any, value: Tensor) -> Tensor:
        return rollout.returns

    def target(self, rollout: Rollout, policy: Any) -> Tensor:
        return rollout.returns.detach()


@contextmanager
def frozen(*modules: nn.Module | None) -> Iterator[None]:
    """Freezes the parameters of these modules: graphs recorded inside give them no gradients."""
    parameters = [p for m in modules if m is not None for p in m.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class AllActions(PolicyGradient):
    """The policy gradient with nothing sampled but the world: each action tried by a fork.

    The critic learns the policy's expectation of the actions tried. Needs a world that can be
    stepped twice from one state (a dream) and actions that can be listed.
    """

    def __init__(
        self,
        gen_core: GenCore,
        batch_size: int,
        length: int,
        critic: nn.Module,
        discount: float = 0.99,
        entropy: Schedule = constant(1e-3),
        unit: float | None = None,
    ):
        super().__init__(gen_core, batch_size, length, critic, discount, entropy, unit)
        if not len(gen_core.actions.choices):
            raise ValueError(
                f"AllActions lists all actions, and {gen_core.environment.action_space} has no "
                "list; take actor-critic (ActorCritic) instead"
            )

    @torch.no_grad()
    def roll(self, state: GenState) -> tuple[Rollout, GenState]:
        choices = self.gen_core.actions.choices.to(state.action)  # [n, A]
        number, batch_size = len(choices), len(state.action)
        columns = torch.arange(batch_size, device=choices.device)

        def step(_: int, state: GenState) -> tuple[tuple[Rollout, Tensor], GenState]:
            forks = nested.repeat(state, number)._replace(
                action=choices.repeat_interleave(batch_size, 0)
            )
            (rows, thoughts), forks = self.gen_core.step(forks)  # [n * B, ...]
            value = torch.where(rows.terminated, 0.0, self.value(thoughts))
            before = nested.repeat((state.thought, self.value(state.thought)), number)
            judged, discount = self.judged(*before, rows, self.drawn_from(forks))
            tried = (judged.reward + discount * value).unflatten(0, (number, batch_size))
            is_taken = (state.action[:, None] == choices).all(-1)  # [B, n]
            taken = is_taken.int().argmax(-1) * batch_size + columns  # the fork that goes on
            row = nested.index(rows, taken)
            returns = tried.flatten()[taken]
            rollout = Rollout(state.thought, row.action, returns, tried.t(), row.reward)
            return (rollout, row.first), nested.index(forks, taken)

        (rollout, first), state = nested.unroll(step, range(self.length), state)
        return acted(rollout, first), state

    def gain(self, rollout: Rollout, policy: Any, value: Tensor) -> Tensor:
        probs = self._probs(policy)
        baseline = (probs.detach() * rollout.tried).sum(-1, keepdim=True)
        return (probs * (rollout.tried - baseline)).sum(-1)

    def target(self, rollout: Rollout, policy: Any) -> Tensor:
        return (self._probs(policy).detach() * rollout.tried).sum(-1)

    def _probs(self, policy: Any) -> Tensor:
        """The probability of each action, [N, n]."""
        choices = self.gen_core.actions.choices[:, None].to(policy.logits.device)  # [n, 1, A]
        return cast(Tensor, policy.log_prob(choices).exp().t())


def reinforce(
    gen_core: GenCore,
    batch_size: int,
    length: int,
    critic: nn.Module | None = None,
    discount: float = 0.99,
    entropy: Schedule = constant(1e-3),
    unit: float | None = None,
) -> ActorCritic:
    """REINFORCE (Williams 1992): `ActorCritic` with whole returns; `critic` is ignored."""
    return ActorCritic(gen_core, batch_size, length, None, discount, 1.0, entropy, unit)


METHODS: Registry[Callable[..., PolicyGradient]] = Registry(
    "method",
    {
        "actor-critic": ActorCritic,
        "all-actions": AllActions,
        "pathwise": PathwiseGradient,
        "reinforce": reinforce,
    },
)
"""Ways to train a policy in the dream, by name: (gen_core, batch_size, length,
critic, **options) -> objective."""


def register_method(name: str, method: Callable[..., PolicyGradient]) -> None:
    """Adds a policy gradient to `METHODS`: from now on `--method NAME` trains by it.

    method: (gen_core, batch_size, length, critic, **options) -> PolicyGradient; of the options
    discount, lambda_, entropy and unit it is given those that it takes.
    """
    METHODS.register(name, method)


def make_method(
    name: str,
    gen_core: GenCore,
    batch_size: int,
    length: int,
    critic: nn.Module,
    **options: Any,
) -> PolicyGradient:
    """The method `name` of `METHODS`, with those of the options that it takes."""
    method = METHODS[name]
    taken = options_taken(method, options)
    return method(gen_core, batch_size, length, critic=critic, **taken)
