"""Updates of small models, as one process and as each of several ranks make them."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from cores import CASES
from gymnasium import spaces
from ranks import together
from torch import Tensor, nn

from worldmodel import (
    ELBO,
    FIVO,
    IWAE,
    Objective,
    Sequences,
    Trainer,
    WorldModel,
    action_codec,
    nested,
    ranks,
)
from worldmodel.agents import ActorCritic, Critic, Policy
from worldmodel.agents.critics import SlowCritic, TwoHotCritic
from worldmodel.agents.policy_gradient import METHODS, Rollout
from worldmodel.agents.recorded_values import Examples, RecordedValues
from worldmodel.nets import Dropout
from worldmodel.testing.law import close, demand, same
from worldmodel.testing.material import padded, random_rows

BOUND = 1e-10
UPDATES = 2
LENGTHS = (
    (3, 7, 1, 5, 4, 7, 2),
    (5, 2, 6),
)  # of two blocks; four ranks are more than the second has


def _with_dropout(model: WorldModel) -> Objective:
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.3
    return ELBO(model)


OBJECTIVES: dict[str, Callable[[WorldModel], Objective]] = {
    "elbo": lambda model: ELBO(model, particles=2, free_nats=0.01, kl_balance=0.7),
    "iwae": lambda model: IWAE(model, particles=3),
    "fivo": lambda model: FIVO(model, 4, threshold=0.9, resampling_gradient=True),
    "carried": lambda model: ELBO(model, particles=2, carries=True),
    "dropout": _with_dropout,
}


class Updates(NamedTuple):
    """What came of some updates."""

    gradients: list[list[Tensor]]  # of each update
    metrics: list[dict[str, float]]
    state: list[Tensor]  # as checkpoints hold it
    noise: Tensor


def updates(core: str, objective: str) -> Updates:
    """Updates of a core by an objective; the weights stay, so that no difference grows."""
    model = CASES[core].model().train()
    trainer = Trainer(
        OBJECTIVES[objective](model), model.parameters(), learning_rate=0.0, clip_norm=1e9
    )
    gradients, metrics = [], []
    for number in range(UPDATES):
        torch.manual_seed(number)
        found = trainer.update(_batch(objective, number))
        found.pop("effective_particles", None)  # a mean over windows, of ranks one over rows
        metrics.append(found)
        gradients.append(
            [torch.zeros(()) if p.grad is None else +p.grad for p in model.parameters()]
        )
        noise = torch.get_rng_state()
        trainer.load_state_dict(trainer.state_dict())
    return Updates(gradients, metrics, trainer.state_dict()["state"], noise)


def _batch(objective: str, number: int) -> list[Sequences]:
    """Blocks of different lengths, with padding; of states that are carried there is one."""
    widths = LENGTHS[:1] if objective == "carried" else LENGTHS
    return [
        padded(random_rows(max(lengths), len(lengths), seed=10 * number + place), lengths)
        for place, lengths in enumerate(widths)
    ]


def of_cores(
    cores: Iterable[str], objectives: Iterable[str] = tuple(OBJECTIVES)
) -> dict[str, Callable[[], Updates]]:
    """`updates` of each core by each objective, by what they are."""
    pairs = itertools.product(cores, objectives)
    return {f"{core} by {how}": partial(updates, core, how) for core, how in pairs}


FEATURES, ROWS, EXAMPLES = 4, 13, 7
ACTIONS = action_codec(spaces.Discrete(3))
POLICIES = ("actor-critic", "all-actions", "reinforce", "slow two-hot", "recorded values")


def of_policies(names: Iterable[str] = POLICIES) -> dict[str, Callable[[], Updates]]:
    """Updates of a policy and its critic, by what they are."""
    return {name: partial(policy_updates, name) for name in names}


def policy_updates(name: str) -> Updates:
    """Updates of a policy and its critic on rows of rollouts, of which each rank has its own."""
    torch.manual_seed(0)
    policy, critic = Policy(FEATURES, ACTIONS, 8).double(), _critic(name).double()
    game: Any = SimpleNamespace(
        agent=SimpleNamespace(policy=policy),
        actions=ACTIONS,
        initial_state=lambda number: SimpleNamespace(thought=torch.zeros(number, FEATURES)),
    )
    method = METHODS.get(name, ActorCritic)
    plain = method(game, ROWS, 1, critic, unit=0.1)
    is_recorded = name == "recorded values"
    objective: Any = RecordedValues(plain, 0.3, 0.9) if is_recorded else plain
    modules = [policy] if plain.critic is None else [policy, critic]
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    trainer = Trainer(objective, weights, learning_rate=0.0, clip_norm=1e9)
    gradients, metrics = [], []
    for number in range(UPDATES):
        rollout = _of_rank(_rollout(ROWS, number), ROWS)
        recorded = _of_rank(_rollout(EXAMPLES, 9 + number), EXAMPLES)
        examples = Examples(rollout, recorded.thought, recorded.returns)
        metrics.append(trainer.update(examples if is_recorded else rollout))
        gradients.append([+p.grad for p in weights if p.grad is not None])
    return Updates(gradients, metrics, trainer.state_dict()["state"], torch.zeros(0))


def _critic(name: str) -> nn.Module:
    return SlowCritic(TwoHotCritic(FEATURES, 8), 0.9) if "two-hot" in name else Critic(FEATURES, 8)


def _rollout(rows: int, seed: int) -> Rollout:
    torch.manual_seed(seed)
    action = torch.eye(3).double()[torch.randint(3, (rows,))]
    thought, tried = torch.randn(rows, FEATURES).double(), torch.randn(rows, 3).double()
    returns, reward = torch.randn(2, rows).double()
    return Rollout(thought, action, returns, tried, reward)


def _of_rank(rollout: Rollout, rows: int) -> Rollout:
    share = ranks.share_of(rows)
    return nested.index(rollout, slice(share.begin, share.end))


def check(size: int, works: Mapping[str, Callable[[], Updates]]) -> None:
    """Gradients and figures of ranks are those of one process with the whole batch; so are states
    that are carried and, to the last bit, the noise."""

    def all_of_them() -> list[tuple[Any, ...]]:
        return [tuple(work()) for work in works.values()]

    expected = all_of_them()
    for rank, found in enumerate(together(size, all_of_them)):
        for name, ours, theirs in zip(works, found, expected, strict=True):
            _compare(Updates(*ours), Updates(*theirs), f"rank {rank} of {size}, {name}")


def _compare(found: Updates, expected: Updates, what: str) -> None:
    for gradients, wanted in zip(found.gradients, expected.gradients, strict=True):
        close(tuple(gradients), tuple(wanted), f"{what}: gradients", atol=BOUND)
    close(tuple(found.state), tuple(expected.state), f"{what}: state", atol=BOUND)
    same(found.noise, expected.noise, f"{what}: noise")
    for figures, others in zip(found.metrics, expected.metrics, strict=True):
        demand(figures.keys() == others.keys(), f"{what}: other figures")
        for key, value in figures.items():
            demand(
                abs(value - others[key]) < BOUND, f"{what}: {key} is {value}, not {others[key]}"
            )
