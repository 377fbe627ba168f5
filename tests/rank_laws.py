"""Updates of small models, as one process and as each of several ranks make them."""

from collections.abc import Sequence
from typing import Any

import torch
from cores import CASES
from torch import Tensor

from worldmodel import ELBO, FIVO, IWAE, Objective, Sequences, Trainer, WorldModel, nested
from worldmodel.testing.material import padded, random_rows

OBJECTIVES = {
    "elbo": lambda model: ELBO(model, particles=2, free_nats=0.01, kl_balance=0.7),
    "iwae": lambda model: IWAE(model, particles=3),
    "fivo": lambda model: FIVO(model, particles=4, threshold=0.9, resampling_gradient=True),
    "carried": lambda model: ELBO(model, particles=2, carries=True),
}
LENGTHS = (3, 7, 1, 5, 4, 7, 2), (5, 2, 6)  # of two blocks, the second one for three ranks
UPDATES = 2


def batches(objective: str) -> list[list[Sequences]]:
    """The batches of all updates: two blocks of different lengths and padding."""

    def block(lengths: Sequence[int], seed: int) -> Sequences:
        return padded(random_rows(max(lengths), len(lengths), seed=seed), lengths)

    widths = LENGTHS[:1] if objective == "carried" else LENGTHS
    return [[block(w, 10 * u + i) for i, w in enumerate(widths)] for u in range(UPDATES)]


def update(model: WorldModel, objective: Objective, learned: list[list[Sequences]]) -> Any:
    """The gradients and figures of each update, and the state of the trainer after them; the
    weights stay as they are, so that no difference grows."""
    trainer = Trainer(objective, model.parameters(), learning_rate=0.0, clip_norm=1e9)
    torch.manual_seed(7)
    found = []
    for batch in learned:
        metrics = trainer.update(batch)
        gradients = [torch.zeros(()) if p.grad is None else p.grad for p in trainer.parameters]
        found.append(([x.clone() for x in gradients], metrics))
    state = trainer.state_dict()
    trainer.load_state_dict(state)
    again: list[Tensor] = nested.leaves(trainer.state)
    return found, state["state"], [len(leaf) for leaf in again], torch.get_rng_state()


def of_core(name: str, objective: str) -> Any:
    """`update` of a core by an objective."""
    model = CASES[name].model().train()
    return update(model, OBJECTIVES[objective](model), batches(objective))


def of_all(pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """`of_core` of many, in one process."""
    return [of_core(*pair) for pair in pairs]
