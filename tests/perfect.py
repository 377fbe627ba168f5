"""The exact Bayes filter of the toy game as a world model, written by hand."""

from typing import NamedTuple

import torch
from gymnasium import spaces

import worldmodel
from worldmodel import PerceptEncoder, Percepts, SequenceCore, WorldModel, encoder_for, nested
from worldmodel.codecs import Consequences, PerceptModule, Prediction
from worldmodel.distributions import Bernoulli, Categorical, FiniteSupport
from worldmodel.envs import ToyGameFilter


class PerfectState(NamedTuple):
    belief: torch.Tensor  # [B, S], after the action of this row and before its percept
    position: torch.Tensor  # [B, width], one-hot
    latent: torch.Tensor  # [B, 0]


class PerfectToyCore(SequenceCore):
    """The exact Bayes filter of the toy game as a core without latents.

    Context: the action's code, then the encoding of the percept before: symbol, reward, end.
    """

    filtering = True

    def __init__(self, exact):
        super().__init__()
        self.exact = exact
        self.rings = exact.classes**exact.width
        self.context_size = 5 + exact.classes + 2
        self.evidence_size = exact.classes + 2
        self.feature_size = self.belief_size = self.rings + exact.width
        self.value = torch.from_numpy(exact._value)  # [width, S]
        self.solved = torch.from_numpy(exact._solved)  # [S]
        self.source = torch.from_numpy(exact._source)  # [width, actions, S]
        self.next_position = torch.from_numpy(exact._next_position)  # [width, actions]

    def initial_state(self, batch_size):
        belief = torch.from_numpy(self.exact._prior).expand(batch_size, -1)
        position = torch.eye(self.exact.width).double()[0].expand(batch_size, -1)
        return PerfectState(belief, position, belief[:, :0])

    def seen(self, belief, position, observation):
        """The belief [*, S] given a symbol [*], as it was where that is impossible."""
        here = self.value[position.argmax(-1)]  # [*, S]
        return self.given(belief, here == observation[..., None])

    def given(self, belief, compatible):
        joint = belief * compatible
        total = joint.sum(-1, keepdim=True)
        return torch.where(total > 0, joint / torch.where(total > 0, total, 1.0), belief)

    def step(self, context, state):
        action, symbol, consequences = context.double().split([5, self.exact.classes, 2], -1)
        begun = symbol.any(-1)  # else this is the first row
        belief = self.seen(state.belief, state.position, symbol.argmax(-1))
        belief = self.given(belief, self.solved == consequences[:, 1:].bool())
        place, action = state.position.argmax(-1), action.argmax(-1)
        belief = belief.gather(-1, self.source[place, action])
        place = self.next_position[place, action]
        position = torch.nn.functional.one_hot(place, self.exact.width).double()
        after = PerfectState(belief, position, state.latent)
        return nested.where(begun, after, self.initial_state(len(begun)))

    def prepare(self, contexts, evidence, mask, state):
        after = []
        for context in contexts:
            state = self.step(context, state)
            after.append(state)
        return nested.stack(after)

    def posterior_step(self, prepared, state):
        nothing = worldmodel.cores.Gaussian(state.latent, state.latent)
        return nothing, nothing, prepared

    def features(self, state):
        return torch.cat([state.belief, state.position], -1)

    def belief(self, state):
        return self.features(state)


class PerfectDecoder(PerceptModule):
    """The filter's predictive distribution, read from its belief."""

    def __init__(self, core):
        super().__init__()
        self.core = core
        self.rewards = torch.tensor([-1.0, 0.0], dtype=torch.float64)

    @property
    def placeholder(self):
        return {
            "observation": torch.tensor(0),
            "reward": torch.tensor(0.0),
            "terminated": torch.tensor(False),
        }

    def forward(self, features):
        core = self.core
        belief, position = features.split([core.rings, core.exact.width], -1)
        here = core.value[position.argmax(-1)]  # [*, S]
        symbols = torch.arange(core.exact.classes)[:, None]
        chances = (belief[..., None, :] * (here[..., None, :] == symbols)).sum(-1)
        reward = torch.tensor(
            [-torch.inf, 0.0] if core.exact.task == "free" else [0.0, -torch.inf]
        )

        def consequences(observation):
            after = core.seen(belief, position, observation)
            ends = (after * core.solved).sum(-1)
            goes_on = (after * ~core.solved).sum(-1)
            return Consequences(
                {
                    "reward": FiniteSupport(reward.double().expand(*ends.shape, 2), self.rewards),
                    "terminated": Bernoulli(ends.log() - goes_on.log()),
                }
            )

        return Prediction(lambda: Categorical(chances.log()), consequences, features.shape[:-1])


def perfect_model(width, classes, task):
    core = PerfectToyCore(ToyGameFilter(width, classes, task))
    encoder = PerceptEncoder(encoder_for(spaces.Discrete(classes)).double())
    return WorldModel(Percepts(encoder, PerfectDecoder(core)), core, 5)
