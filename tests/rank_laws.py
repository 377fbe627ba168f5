"""Updates of small models, as one process and as each of several ranks make them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from cores import CASES
from ranks import together
from torch import Tensor

from worldmodel import ELBO, FIVO, IWAE, Objective, Sequences, Trainer, WorldModel, nested
from worldmodel.nets import Dropout
from worldmodel.testing.law import close, demand, same
from worldmodel.testing.material import padded, random_rows

BOUND = 1e-10
UPDATES = 2
LENGTHS = (3, 7, 1, 5, 4, 7, 2), (5, 2, 6)  # of two blocks; four ranks are more than the second has


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
        gradients.append([torch.zeros(()) if p.grad is None else +p.grad for p in model.parameters()])
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


def check(size: int, cores: Sequence[str], objectives: Sequence[str] = tuple(OBJECTIVES)) -> None:
    """Gradients and figures of ranks are those of one process with the whole batch; so are states
    that are carried and, to the last bit, the noise."""
    pairs = list(itertools.product(cores, objectives))

    def all_of_them() -> list[tuple[Any, ...]]:
        return [tuple(updates(*pair)) for pair in pairs]

    expected = all_of_them()
    for rank, found in enumerate(together(size, all_of_them)):
        for pair, ours, theirs in zip(pairs, found, expected, strict=True):
            what = f"rank {rank} of {size}, {' by '.join(pair)}"
            one, other = Updates(*ours), Updates(*theirs)
            for part in ("gradients", "state"):
                found_part, wanted = (nested.leaves(tuple_of(x, part)) for x in (one, other))
                close(tuple(found_part), tuple(wanted), f"{what}: {part}", atol=BOUND)
            for metrics, wanted_metrics in zip(one.metrics, other.metrics, strict=True):
                demand(metrics.keys() == wanted_metrics.keys(), f"{what}: other figures")
                for key, value in metrics.items():
                    off = abs(value - wanted_metrics[key])
                    demand(off < BOUND, f"{what}: {key} is {off} off")
            same(one.noise, other.noise, f"{what}: noise")


def tuple_of(found: Updates, part: str) -> Any:
    """A part, lists as tuples."""
    value = getattr(found, part)
    return tuple(tuple(x) if isinstance(x, list) else x for x in value)
