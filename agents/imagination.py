"""Dreams that go on from beliefs about recorded rows."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel import (
    BeliefAgent,
    Dream,
    GenCore,
    GenState,
    ModelState,
    Replay,
    Sequences,
    WorldModel,
    nested,
    ranks,
)


class Recorded(NamedTuple):
    """Recorded windows, and what an agent thinks after each of their rows."""

    sequences: Sequences  # [T, B, ...]
    thought: Tensor  # [T, B, F]
    begun: Tensor  # bool [T, B], rows that a dream begins with


class Imagination:
    """Many dreams side by side, each begun with a belief about a recorded row; without a replay,
    with the model's own first row.

    When one is over, by itself or at its horizon, `go_on` begins another; one that ends within a
    rollout goes on with the model's own first row until then. Here dreams are only begun: they
    go on by the steps of `core`, a GenCore of the dream and the agent.
    """

    def __init__(
        self,
        agent: BeliefAgent,
        dream: Dream,
        replay: Replay | None,
        batch_size: int,
        window: int,
        from_start: float,
        burn_in: int = 0,
    ):
        """window, from_start, burn_in: of the windows that beliefs are inferred from (see
        `Replay.sample`; only dreams that begin `with_rows` leave rows out)."""
        self.agent = agent
        self.dream = dream
        self.replay = replay
        self.batch_size = batch_size
        self.window = window
        self.from_start = from_start
        self.burn_in = burn_in
        self.core = GenCore(dream, agent)

    @torch.no_grad()
    def begin(self) -> GenState:
        """Begins all dreams, at different distances from their horizon."""
        if self.replay is None:
            return self._own(self.core.initial_state(self.batch_size))
        state = self._fresh(self.replay)
        clock = torch.randint_like(state.world.clock, self.dream.horizon)
        return self._own(state._replace(world=state.world._replace(clock=clock)))

    @torch.no_grad()
    def go_on(self, state: GenState) -> GenState:
        """The dreams that are not over, and new ones in place of the others."""
        over = state.world.ended
        if self.replay is None or not ranks.any_of(over.any()):
            return state
        return nested.where(over, self._own(self._fresh(self.replay)), state)

    def _own(self, state: GenState) -> GenState:
        """A rank's share of dreams."""
        return ranks.part(state, self.batch_size)

    @torch.no_grad()
    def with_rows(self, replay: Replay) -> tuple[GenState, list[Recorded]]:
        """Dreams that begin with all rows of some recorded windows, `batch_size` on average, but
        for those that ended an episode and those of a burn-in; and the windows."""
        recorded: list[Recorded] = []
        begun: list[ModelState] = []
        while ranks.any_of(not any(part.begun.any() for part in recorded)):
            recorded, begun = [], []
            blocks = replay.sample(self.window, self.batch_size, self.from_start, self.burn_in)
            if max(block.mask.shape[1] for block in blocks) < ranks.size():
                raise ValueError(
                    f"{ranks.size()} ranks share the windows that dreams begin with, and there "
                    "are fewer: take fewer ranks, or more --num-imagined"
                )
            for block in ranks.own_blocks(blocks):
                states = self.agent.model.states(block)
                alive = block.loss_mask & ~block.rows.terminated
                recorded.append(Recorded(block, self.agent.thought(states), alive))
                flat = nested.map(lambda leaf: leaf.flatten(0, 1), states)
                begun.append(_chosen(flat, alive.flatten().nonzero()[:, 0]))
        return self._dreams(nested.concatenate(begun)), recorded

    def _fresh(self, replay: Replay) -> GenState:
        """Dreams after rows of the replay that did not end an episode."""
        return self._dreams(
            recorded_beliefs(
                self.agent.model, replay, self.batch_size, self.window, self.from_start
            )
        )

    def _dreams(self, states: ModelState) -> GenState:
        """Dreams that go on from states [B, ...]."""
        thought = self.agent.thought(states)
        none = torch.zeros(len(thought), dtype=torch.bool, device=thought.device)
        world = self.dream.start(states, none)
        return GenState(world, states, thought, self.agent.policy(thought).sample())


@torch.no_grad()
def recorded_beliefs(
    model: WorldModel, replay: Replay, number: int, window: int, from_start: float
) -> ModelState:
    """Beliefs of `model` after recorded rows that did not end an episode, leaves [number, ...].

    window, from_start: of the windows that beliefs are inferred from (see `Replay.sample`).
    """
    beliefs: list[ModelState] = []
    goes_on: list[Tensor] = []
    while not any(part.any() for part in goes_on):  # of a few rows, all may have ended episodes
        for block in replay.sample(window, 2 * number, from_start):
            beliefs.append(nested.map(lambda leaf: leaf.flatten(0, 1), model.states(block)))
            goes_on.append((block.mask & ~block.rows.terminated).flatten())
    alive = torch.cat(goes_on).nonzero().flatten()
    chosen = alive[torch.randint(len(alive), (number,))]
    return _chosen(nested.concatenate(beliefs), chosen)


def _chosen(states: ModelState, places: Tensor) -> ModelState:
    """The states of some places, int64 [n], which the processor has found."""
    return nested.index(states, places.to(states.history.device))


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of some modules that are learned, all together."""
    found = [parameter for module in modules for parameter in module.parameters()]
    return [parameter for parameter in found if parameter.requires_grad]
