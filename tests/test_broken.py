"""Cores, heads, environments and agents that break one law each: the laws tell which."""

from functools import partial

import pytest
import torch
from gymnasium import spaces
from laws import broken
from torch import nn

from worldmodel import RNN, SRNN, VRNN, Agent, DistModule, Environment, Independent, Row, nested
from worldmodel.codecs import NormalHead
from worldmodel.cores import Gaussian, SequenceCore
from worldmodel.distributions import OneHot
from worldmodel.testing import (
    AGENT_LAWS,
    CORE_LAWS,
    ENVIRONMENT_LAWS,
    HEAD_LAWS,
    LIKELIHOOD_LAWS,
    AgentCase,
    CoreCase,
    EnvironmentCase,
    HeadCase,
    LawError,
    check_agent,
    check_core,
    check_environment,
    check_head,
)

QUICK = [law for law in [*CORE_LAWS, *LIKELIHOOD_LAWS] if not law.slow]
QUICK = [law for law in QUICK if law.name != "steps_can_be_compiled"]  # takes seconds
SMALL = {"hidden": 4, "latent": 2, "latent_hidden": 3}


class Peeks(VRNN):
    """Reads each row's evidence one row too early."""

    def prepare(self, contexts, evidence, mask, state):
        return super().prepare(contexts, evidence.roll(-1, 0), mask, state)


class Couples(VRNN):
    """Centres features over the batch."""

    def features(self, state):
        features = super().features(state)
        return features - features.mean(-2, keepdim=True)


class DreamsElsewhere(VRNN):
    """Dreams with a context twice as large as inference hears."""

    def step(self, context, state):
        return super().step(2 * context, state)


class OwnNoise(VRNN):
    """Draws from torch's generator itself."""

    def step(self, context, state):
        after = super().step(context, state)
        prior = self._prior(after)
        return after._replace(latent=prior.mean + prior.std * torch.randn_like(prior.mean))


class Quiet(VRNN):
    """Dreams the mean of the prior."""

    def step(self, context, state):
        after = super().step(context, state)
        return after._replace(latent=self._prior(after).mean)


class OtherState(VRNN):
    """Comes back from a step with a state of other types."""

    def step(self, context, state):
        after = super().step(context, state)
        return after._replace(latent=after.latent.float())


class WrongDensity(VRNN):
    """Says of its posterior that it is wider than what it draws from."""

    def posterior_step(self, prepared, state):
        posterior, prior, after = super().posterior_step(prepared, state)
        return Gaussian(posterior.mean, 2 * posterior.std), prior, after

    posterior_all = SequenceCore.posterior_all


class FusesWrongly(VRNN):
    """Takes the priors of the rows before."""

    def posterior_all(self, prepared, state, particles):
        inference = super().posterior_all(prepared, state, particles)
        return inference._replace(prior=nested.map(lambda x: x.roll(1, 0), inference.prior))


class Normalises(RNN):
    """Has a batch normalisation."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.norm = nn.BatchNorm1d(self.feature_size)


class BelievesItsLatent(SRNN):
    """Shows agents a latent that has read the future."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.belief_size = self.feature_size
        nn.init.ones_(self.gain)

    def belief(self, state):
        return self.features(state)


class ReadsPadding(SRNN):
    """Reads backwards from rows that are not there."""

    def prepare(self, contexts, evidence, mask, state):
        return super().prepare(contexts, evidence, torch.ones_like(mask), state)


class CallsItselfAFilter(Independent):
    """A smoother that says it is none."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.filtering = True


class HearsNothing(RNN):
    """Forgets its context."""

    def step(self, context, state):
        return super().step(0 * context, state)

    def prepare(self, contexts, evidence, mask, state):
        return super().prepare(0 * contexts, evidence, mask, state)


class ScoresTheBatch(VRNN):
    """Infers with the mean evidence of all columns."""

    def prepare(self, contexts, evidence, mask, state):
        return super().prepare(contexts, evidence.mean(1, keepdim=True) + evidence, mask, state)


CORES = {
    Peeks: "filters_do_not_peek",
    Couples: "rows_of_a_batch_are_strangers",
    DreamsElsewhere: "dream_follows_the_model",
    OwnNoise: "latents_are_drawn_from_the_noise_alone",
    Quiet: "latents_are_drawn_from_the_noise_alone",
    OtherState: "a_core_gives_back_the_structure_of_its_state",
    WrongDensity: "closed_and_sampled_divergences_agree",
    FusesWrongly: "fused_inference_equals_the_loop_over_posterior_steps",
    Normalises: "no_part_normalises_over_the_batch",
    BelievesItsLatent: "beliefs_do_not_peek",
    ReadsPadding: "padding_never_leaks",
    CallsItselfAFilter: "filters_do_not_peek",
    HearsNothing: "rows_of_a_batch_are_strangers",
    ScoresTheBatch: "rows_of_a_batch_are_strangers",
}


@pytest.mark.parametrize("kind", CORES, ids=lambda kind: kind.__name__)
def test_a_broken_core_breaks_the_law_that_it_should(kind):
    options = {"hidden": 4} if issubclass(kind, RNN) else SMALL
    case = CoreCase(partial(kind, **options), kind.__name__)
    (law,) = [law for law in QUICK if law.name == CORES[kind]]
    with pytest.raises(LawError) as raised:
        law.check(case)
    said = str(raised.value)
    assert said.startswith(f"{kind.__name__} breaks the law: {law.name.replace('_', ' ')}")
    assert "\nFound: " in said
    assert "\nThe law: " in said


def test_a_law_is_broken_by_those_who_break_it_alone():
    """A wrong density is one of likelihoods: dreams, structures, batches are what they were."""
    case = CoreCase(partial(WrongDensity, **SMALL))
    found = broken(QUICK, case)
    assert "closed_and_sampled_divergences_agree" in found
    assert not found & {
        "a_core_gives_back_the_structure_of_its_state",
        "rows_of_a_batch_are_strangers",
        "padding_never_leaks",
        "filters_do_not_peek",
    }


def test_a_core_is_checked_in_one_call():
    with pytest.raises(LawError, match="peeker breaks the law: "):
        check_core(partial(Peeks, **SMALL), "peeker", thorough=False)


def test_checks_disturb_nobodys_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with pytest.raises(LawError):
        check_core(partial(OtherState, **SMALL))
    assert torch.equal(torch.rand(3), expected)


# Heads.


class Gauss(DistModule):
    """A Gaussian; what is wrong with it is said by subclasses."""

    kind = torch.distributions.Normal

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    @property
    def placeholder(self):
        return self.linear.weight.new_zeros(())

    def parts(self, features):
        mean, raw = self.linear(features).unbind(-1)
        return mean, nn.functional.softplus(raw) + 0.1

    def forward(self, features):
        return self.kind(*self.parts(features), validate_args=False)


class Unnormalised(Gauss):
    class kind(torch.distributions.Normal):  # noqa: N801
        def log_prob(self, value):
            return super().log_prob(value) + 0.1


class DrawsTooWide(Gauss):
    class kind(torch.distributions.Normal):  # noqa: N801
        def sample(self, sample_shape=torch.Size()):
            return self.mean + 1.5 * (super().sample(sample_shape) - self.mean)


class OtherMean(Gauss):
    class kind(torch.distributions.Normal):  # noqa: N801
        @property
        def mean(self):
            return self.loc + 0.1


class OtherMode(Gauss):
    class kind(torch.distributions.Normal):  # noqa: N801
        @property
        def mode(self):
            return self.loc + 2 * self.scale


class VoidOutside(Gauss):
    @property
    def placeholder(self):
        return torch.tensor(torch.inf)


class ReadsAll(Gauss):
    def parts(self, features):
        return super().parts(features - 0.5 * features.mean(0, keepdim=True))


class Explodes(Gauss):
    def parts(self, features):
        mean, raw = self.linear(features).unbind(-1)
        return mean, raw.exp()


class OnlyOneRow(Gauss):
    def parts(self, features):
        mean, raw = self.linear(features.reshape(-1, 4)).unbind(-1)
        return mean, nn.functional.softplus(raw) + 0.1


class PretendsGradients(Gauss):
    class kind(torch.distributions.Normal):  # noqa: N801
        def rsample(self, sample_shape=torch.Size()):
            return self.sample(sample_shape)


HEADS = {
    Unnormalised: "heads_are_normalised",
    DrawsTooWide: "heads_draw_what_they_score",
    OtherMean: "the_mean_is_that_of_the_probabilities",
    OtherMode: "nothing_is_more_probable_than_the_mode",
    VoidOutside: "placeholders_are_in_the_support_of_its_head",
    ReadsAll: "a_head_reads_every_row_alone",
    Explodes: "gradients_are_finite_even_for_extreme_features",
    OnlyOneRow: "heads_broadcast_over_particles",
    PretendsGradients: "draws_carry_gradients_where_they_say_so",
}
LINE = torch.linspace(-30, 30, 6001).double()


def gauss(kind):
    torch.manual_seed(0)
    return HeadCase(kind().double(), LINE, 0.01, name=kind.__name__)


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.__name__)
def test_a_broken_head_breaks_the_law_that_it_should(kind):
    assert broken(HEAD_LAWS, gauss(Gauss)) == set()
    found = broken(HEAD_LAWS, gauss(kind))
    assert HEADS[kind] in found
    assert len(found) <= 4


def test_a_head_is_checked_in_one_call():
    torch.manual_seed(0)
    check_head(NormalHead(4), LINE, 0.01)
    with pytest.raises(LawError, match="Unnormalised breaks the law: heads are normalised"):
        check_head(Unnormalised(), LINE, 0.01)


# Environments.


class Walk(Environment):
    """Observation t is the sum of the actions so far, and four or more the end; the state is the
    sum, and whether the next row is a first row."""

    observation_space = spaces.Discrete(7)
    action_space = spaces.Discrete(3)

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, dtype=torch.int64), torch.ones(batch_size, dtype=torch.bool)

    def step(self, action, state):
        total, first = state
        total = torch.where(first, 0, total + action.argmax(-1))
        reward = -total.float().masked_fill(first, 0.0)
        end = (total >= 4) & ~first
        row = Row(first, action.masked_fill(first[:, None], 0.0), total, reward, end)
        return row, (total, end)

    def observe(self, row, state):
        return row.observation, row.terminated


class NeverBegins(Walk):
    def initial_state(self, batch_size):
        return torch.zeros(batch_size, dtype=torch.int64), torch.zeros(batch_size) == 1


class GoesOn(Walk):
    observation_space = spaces.Discrete(10_000)

    def step(self, action, state):
        row, (total, _) = super().step(action, state)
        return row, (total, torch.zeros_like(row.first))


class PaysAtOnce(Walk):
    def step(self, action, state):
        row, state = super().step(action, state)
        return row._replace(reward=row.reward - row.first.float()), state


class PlaysAnother(Walk):
    def step(self, action, state):
        row, state = super().step(action, state)
        return row._replace(action=row.action.roll(1, -1)), state


class Remembers(Walk):
    steps = 0

    def step(self, action, state):
        row, state = super().step(action, state)
        self.steps += 1
        return row._replace(reward=row.reward.masked_fill(~row.first, float(self.steps))), state


class ShareAMemory(Remembers):
    def step(self, action, state):
        row, state = super().step(action, state)
        ShareAMemory.steps = self.steps
        return row, state


class Outside(Walk):
    observation_space = spaces.Discrete(2)


class Together(Walk):
    def step(self, action, state):
        row, state = super().step(action, state)
        mean = row.action.argmax(-1).float().mean() * torch.ones_like(row.reward)
        return row._replace(reward=mean.masked_fill(row.first, 0.0)), state


class OtherStateAfter(Walk):
    def step(self, action, state):
        row, (total, ended) = super().step(action, state)
        return row, (total.float(), ended)


ENVIRONMENTS = {
    NeverBegins: "a_game_begins_with_a_first_row",
    GoesOn: "after_an_end_comes_a_first_row",
    PaysAtOnce: "on_a_first_row_action_and_reward_are_void",
    PlaysAnother: "on_a_first_row_action_and_reward_are_void",
    Remembers: "a_fork_leaves_no_trace",
    ShareAMemory: "living_twice_is_living_once",
    Outside: "observations_lie_in_their_space",
    Together: "games_are_strangers",
    OtherStateAfter: "an_environment_gives_back_the_structure_of_its_state",
}


@pytest.mark.parametrize("kind", ENVIRONMENTS, ids=lambda kind: kind.__name__)
def test_a_broken_environment_breaks_the_law_that_it_should(kind):
    assert broken(ENVIRONMENT_LAWS, EnvironmentCase(Walk)) == set()
    found = broken(ENVIRONMENT_LAWS, EnvironmentCase(kind))
    assert ENVIRONMENTS[kind] in found
    assert len(found) <= 4


def test_an_environment_is_checked_in_one_call():
    check_environment(Walk())
    check_environment(Walk)
    with pytest.raises(LawError, match="Outside breaks the law: observations lie in their space"):
        check_environment(Outside)


# Agents.


class Count(Agent):
    """Thinks of the last observation and of the rows since the first; plays by their sum."""

    thought_size = 2

    def initial_state(self, batch_size):
        return torch.zeros(batch_size)

    def step(self, row, state, shared=None):
        state = torch.where(row.first, 0.0, state + 1)
        return torch.stack([row.observation.float(), state], -1), state

    def policy(self, thought):
        place = thought.sum(-1).long() % 3
        return OneHot(nn.functional.one_hot(place, 3).float().add(0.1).log())


class NeverRestarts(Count):
    def step(self, row, state, shared=None):
        return torch.stack([row.observation.float(), state + 1], -1), state + 1


class KeepsItsMind(Count):
    def __init__(self):
        self.seen = 0.0

    def step(self, row, state, shared=None):
        self.seen += 1
        return torch.stack([row.observation.float(), state + self.seen], -1), state


class ThinksTogether(Count):
    def step(self, row, state, shared=None):
        thought, state = super().step(row, state)
        return thought + row.observation.float().mean(), state


class PlaysTooMuch(Count):
    def policy(self, thought):
        return OneHot(torch.zeros(*thought.shape[:-1], 4))


class ThinksLess(Count):
    thought_size = 3


class Wavers(Count):
    last = 0.0

    def policy(self, thought):
        self.last = self.last + 1
        return super().policy(thought + self.last)


class OtherMindAfter(Count):
    def step(self, row, state, shared=None):
        thought, state = super().step(row, state)
        return thought, state.double()


class ExpectsOneReward(Count):
    def expected_reward(self, row, state):
        return row.reward.mean()


AGENTS = {
    ExpectsOneReward: "a_mind_expects_the_reward_of_a_row",
    NeverRestarts: "a_mind_restarts_on_first_rows",
    KeepsItsMind: "what_it_thinks_follows_from_rows_and_mind_alone",
    ThinksTogether: "thoughts_of_a_batch_are_strangers",
    PlaysTooMuch: "a_policy_draws_actions_of_the_space",
    ThinksLess: "an_agent_gives_back_the_structure_of_its_mind",
    Wavers: "a_policy_reads_the_thought_alone",
    OtherMindAfter: "an_agent_gives_back_the_structure_of_its_mind",
}


def counting(kind):
    return AgentCase(kind(), spaces.Discrete(7), spaces.Discrete(3))


@pytest.mark.parametrize("kind", AGENTS, ids=lambda kind: kind.__name__)
def test_a_broken_agent_breaks_the_law_that_it_should(kind):
    assert broken(AGENT_LAWS, counting(Count)) == set()
    found = broken(AGENT_LAWS, counting(kind))
    assert AGENTS[kind] in found
    assert len(found) <= 5


def test_an_agent_is_checked_in_one_call():
    check_agent(Count(), spaces.Discrete(7), spaces.Discrete(3))
    with pytest.raises(LawError, match="NeverRestarts breaks the law: a mind restarts on first"):
        check_agent(NeverRestarts(), spaces.Discrete(7), spaces.Discrete(3))


def test_the_tool_needs_no_pytest():
    """It is part of the library: the laws are plain functions."""
    import subprocess
    import sys

    program = "import sys, worldmodel.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
