"""Dreams that go on from what was believed of recorded rows."""

import torch
from torch import Tensor, nn

from worldmodel import (
    Agent,
    Believer,
    Dream,
    Encoder,
    GenCore,
    GenState,
    Memoryless,
    ModelState,
    Replay,
    WorldModel,
    nested,
)
from worldmodel.environment import Reveal


class AsItIs(Encoder):
    """A vector, [*, size] -> the same."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x


class Imagination:
    """Many dreams side by side, each begun with a belief about a recorded row.

    When one is over, by itself or at its horizon, `go_on` begins another; one that ends within a
    rollout goes on with the model's own first row until then. The agent in them, `core.agent`,
    has the thoughts that a `Believer` has in reality; where the core allows it, they are read off
    the dream, which is twice as fast. A believer that `reveal`s reads the generator's features.
    """

    def __init__(
        self,
        believer: Believer,
        dream: Dream,
        replay: Replay,
        batch_size: int,
        window: int,
        from_start: float,
    ):
        """dream: reveals nothing; window, from_start: of the windows that beliefs are inferred
        from (see `Replay.sample`)."""
        self.model: WorldModel = believer.model
        self.replay = replay
        self.batch_size = batch_size
        self.window = window
        self.from_start = from_start
        self.horizon = dream.horizon
        self.believer = believer
        self.shared = believer.reveal or self.model.core.belief_of_rows
        agent: Agent = believer
        if self.shared:
            reveal: Reveal = "features" if believer.reveal else "belief"
            dream = Dream(
                self.model, dream.horizon, dream.observation_space, dream.action_space, reveal
            )
            agent = Memoryless(AsItIs(believer.thought_size), believer.head)
        self.dream = dream
        self.core = GenCore(dream, agent)

    @torch.no_grad()
    def begin(self) -> GenState:
        """All dreams begin, at different distances from their horizon."""
        state = self._fresh()
        clock = torch.randint_like(state.world.clock, self.horizon)
        return state._replace(world=state.world._replace(clock=clock))

    @torch.no_grad()
    def go_on(self, state: GenState) -> GenState:
        """The dreams that are not over, and new ones for those that are."""
        over = state.world.ended
        return nested.where(over, self._fresh(), state) if over.any() else state

    def _fresh(self) -> GenState:
        """Dreams after rows of the replay that did not end an episode."""
        states = recorded_beliefs(
            self.model, self.replay, self.batch_size, self.window, self.from_start
        )
        thought = self.believer.thought(states)
        world = self.dream.start(states, torch.zeros(len(thought), dtype=torch.bool))
        mind = () if self.shared else states
        return GenState(world, mind, thought, self.core.agent.policy(thought).sample())


@torch.no_grad()
def recorded_beliefs(
    model: WorldModel, replay: Replay, number: int, window: int, from_start: float
) -> ModelState:
    """What `model` believes after recorded rows that did not end an episode, leaves [number, ...].

    window, from_start: of the windows that beliefs are inferred from (see `Replay.sample`).
    """
    beliefs: list[ModelState] = []
    ended: list[Tensor] = []
    while all(part.all() for part in ended):  # of a few rows, all may have ended episodes
        for block in replay.sample(window, 2 * number, from_start):
            fresh = model.initial_state(block.mask.shape[1])
            inferred = model.infer(block, fresh)[0].states
            valid = block.mask.flatten()
            flat = nested.map(lambda leaf: leaf.flatten(0, 1), inferred)
            beliefs.append(nested.index(flat, valid))
            ended.append(block.rows.terminated.flatten()[valid])
    alive = (~torch.cat(ended)).nonzero().flatten()
    chosen = alive[torch.randint(len(alive), (number,))]
    return nested.index(nested.concatenate(beliefs), chosen)


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """All parameters of some modules."""
    return [parameter for module in modules for parameter in module.parameters()]
