"""The parts of a world-model agent: its world model, its policy, and how both are made."""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import nn

from worldmodel import (
    Agent,
    BeliefAgent,
    Dream,
    Learner,
    ModelState,
    PerceptDecoder,
    Replay,
    Schedule,
    Trainer,
    WorldModel,
    action_codec,
    constant,
    core_options,
    cosine,
    half_life,
    model_for,
    objective_from,
    warmed_up,
)
from worldmodel.agent import Reads
from worldmodel.agents.config import (
    AgentConfig,
    LearningConfig,
    OptimizerConfig,
    PolicyConfig,
)
from worldmodel.agents.critics import Critic, SlowCritic, TwoHotCritic
from worldmodel.agents.disagreement import Ensemble
from worldmodel.agents.graph_agent import GraphAgent
from worldmodel.agents.image_encoder import (
    EncodedAgent,
    code_space,
    image_encoder_for,
    is_encoded,
    joint_options,
)
from worldmodel.agents.imagination import Imagination, parameters_of, recorded_beliefs
from worldmodel.agents.planning import Planner
from worldmodel.agents.policy_gradient import Policy, make_method
from worldmodel.agents.policy_optimizers import (
    GradientOptimizer,
    PolicyOptimizer,
    RowsOptimizer,
    SB3Optimizer,
)
from worldmodel.agents.recorded_values import RecordedValues
from worldmodel.codecs import is_image, number_parts
from worldmodel.devices import CPU
from worldmodel.envs import DreamVectorEnv, arguments_from_json
from worldmodel.gen_core import Engine
from worldmodel.graphs.engine import GraphFunction
from worldmodel.schedules import in_segments

if TYPE_CHECKING:
    from worldmodel.agents import sb3

LEAST_LOST = 1e-3  # of what a reward is worth, a step: returns without a discount end, too
LIVED = 0.1  # returns are of this size: a share of what an ordinary reward is worth for ever

Segments = Sequence[tuple[int, int]]  # see `in_segments`


class Statistics(NamedTuple):
    """Statistics of the first collection, by which likelihoods and scales are chosen; the unit of
    rewards grows with them."""

    reward_support: list[float] | None  # the values of rewards that are few or recur, if any
    reward_unit: float  # the root of their mean square
    heads: dict[str, Any] = {}  # noqa: RUF012 (never changed) of observations: see `heads_of`
    reward_groups: list[list[float]] = []  # noqa: RUF012 (never changed) see `groups_of`


def silent(text: str) -> None:
    """Says nothing; parts that hold it go to other processes, as no lambda does."""


class Components:
    """A world model, an image encoder where there is one, a policy, and its critic."""

    def __init__(
        self,
        config: AgentConfig,
        statistics: Statistics,
        recorded_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device = CPU,
        say: Callable[[str], None] = silent,
    ):
        """recorded_space: of the environment's observations; the model's `observation_space` is
        different where images are encoded first; device: where all of them are; say: called with
        a sentence where onnxruntime cannot compute what it should."""
        self.config = config
        self.say = say
        self.device = device
        self.statistics = statistics
        self.rollouts = config.policy.rollouts(isinstance(action_space, spaces.Box))
        self.image_encoder: WorldModel | None = None
        self.recorded_space = recorded_space
        self.observation_space, self.action_space = recorded_space, action_space
        if is_encoded(recorded_space, config.images):
            image_space = cast(spaces.Box, recorded_space)
            self.image_encoder = image_encoder_for(image_space, config.images).to(device)
            self.observation_space = code_space(self.image_encoder)
        self.actions = action_codec(action_space)
        is_own = config.policy.algorithm is None
        self.is_joint = self.image_encoder is None and is_image(recorded_space)
        self.reads: Reads = "features" if self.is_joint else "belief"
        if config.policy.policy_reads != "auto":
            self.reads = config.policy.policy_reads
        if not is_own:
            self.reads = "belief"
        self.model = self._model().to(device)
        self.modules: dict[str, nn.Module] = {"model": self.model}
        if self.image_encoder is not None:
            self.modules["image_encoder"] = self.image_encoder
        self.algorithm: sb3.Learner | None = None
        self.agent: Agent = self._own_agent() if is_own else self._foreign_agent()
        for module in self.modules.values():
            module.eval()

    @functools.cached_property
    def player(self) -> Agent:
        """The agent, acting on the observations of the environment."""
        agent = self.agent
        if self.image_encoder is not None:
            agent = EncodedAgent(agent, self.image_encoder)
        return agent if self.engine is None else GraphAgent(agent, self.say, self.engine)

    @property
    def engine(self) -> Engine | None:
        """The engine of steps that nothing is learned through; None: torch."""
        if self.config.policy.engine == "torch":
            return None
        return functools.partial(GraphFunction, reads=[*self.acting_modules.values()])

    @property
    def acting_modules(self) -> dict[str, nn.Module]:
        """The modules of `modules` that `player` acts by; the others learn alone."""
        learning = {"ensemble"} if self.algorithm is not None else {"ensemble", "policy"}
        if not self.config.policy.plans_ahead:
            learning.add("critic")
        return {name: part for name, part in self.modules.items() if name not in learning}

    def dream(self, horizon: int | None = None, draw_observations: bool = True) -> Dream:
        """The environment as the model dreams it."""
        horizon = horizon or self.config.policy.horizon
        spaces = self.observation_space, self.action_space
        return Dream(self.model, horizon, *spaces, draw_observations=draw_observations)

    def own_dream(self, horizon: int | None = None) -> Dream:
        """The dream of our own agents, which draws no observations that nobody reads."""
        is_read = self.reads == "belief" or self.model.reads_observations
        return self.dream(horizon, draw_observations=is_read)

    def belief_dreams(self, begin: Callable[[int], ModelState] | None = None) -> DreamVectorEnv:
        """Dreams side by side whose observations are beliefs, for external algorithms.

        begin: draws the beliefs that they begin with.
        """
        return DreamVectorEnv(
            self.dream(),
            self.rollouts.num_imagined,
            observe="belief",
            autoreset_mode=AutoresetMode.SAME_STEP,
            begin=begin,
        )

    def _own_agent(self) -> Agent:
        hidden = self.config.policy.policy_hidden
        size = self._thought_size
        policy = Policy(size, self.actions, hidden, self.config.policy.policy_unimix)
        self.policy = policy.to(self.device)
        self.acting = copy.deepcopy(self.policy)  # its average over updates
        self.critic = self._critic(size, hidden)
        self.modules |= {"policy": self.policy, "critic": self.critic, "acting": self.acting}
        agent = self.believer(self.acting)
        encoding = self.model.percepts.size
        ensemble = Ensemble(agent.thought_size, self.actions.size, encoding)
        self.ensemble = ensemble.to(self.device)
        self.modules["ensemble"] = self.ensemble
        return self._planner(agent) if self.config.policy.plans_ahead else agent

    @property
    def _thought_size(self) -> int:
        is_free = self.reads == "features"
        return self.model.core.feature_size if is_free else self.model.belief_size

    def new_critic(self) -> None:
        """Gives the critic new weights, drawn at random."""
        hidden = self.config.policy.policy_hidden
        self.critic.load_state_dict(self._critic(self._thought_size, hidden).state_dict())

    def rescale(self, statistics: Statistics) -> None:
        """Sets the unit of rewards that returns are learned in, and gives the model another head
        of rewards where their groups are others: one that has learned nothing yet."""
        if statistics.reward_groups != self.statistics.reward_groups:
            decoder = cast(PerceptDecoder, self.model.percepts.decoder)
            decoder.group_rewards(statistics.reward_groups)
        self.statistics = statistics
        if self.algorithm is not None:
            self.algorithm.reward_unit = statistics.reward_unit
            return
        for module in self.critic.modules():
            if isinstance(module, Critic):
                module.scale = self._return_unit

    def _planner(self, agent: BeliefAgent) -> Planner:
        config = self.config.policy
        return Planner(
            agent,
            self.own_dream(config.plan_length),
            self.critic,
            self.rollouts.discount,
            config.plan_length,
            config.plans,
            config.plan_iterations,
            config.policy_plans,
            config.plan_draws,
        )

    @property
    def _return_unit(self) -> float:
        """The size of returns, in which the critic's numbers are near one."""
        steps = LIVED / max(1 - self.rollouts.discount, LEAST_LOST)
        return steps * self.statistics.reward_unit

    def _critic(self, size: int, hidden: int) -> nn.Module:
        config = self.config.policy
        if config.critic == "two-hot":
            critic: nn.Module = TwoHotCritic(size, hidden)
        else:
            critic = Critic(size, hidden, self._return_unit)
        critic = SlowCritic(critic, config.slow_critic) if config.slow_critic else critic
        return critic.to(self.device)

    def believer(self, policy: Policy) -> BeliefAgent:
        """The agent that acts by `policy` on the model's beliefs."""
        return BeliefAgent(self.model, policy, self.reads)

    def _foreign_agent(self) -> Agent:
        from worldmodel.agents import sb3

        config = self.config.policy
        self.algorithm = sb3.Learner(
            cast(str, config.algorithm),
            self.belief_dreams(),
            algorithm_options(config),
            self.statistics.reward_unit,
            self.device,
        )
        head = sb3.Head(self.algorithm.algorithm)
        self.modules["policy"] = head
        agent = BeliefAgent(self.model, head)
        return sb3.Remembering(agent, head) if sb3.is_remembering(head) else agent

    def _model(self) -> WorldModel:
        config = self.config.model
        core = ("rssm" if self.is_joint else "rnn") if config.core == "auto" else config.core
        options = core_options(core, vars(config))
        joint = joint_options(self.observation_space, self.config.images)
        encoders: dict[str, Any] = {}
        heads = self.statistics.heads
        if config.numbers == "symlog":
            parts = number_parts(self.observation_space)
            encoders, heads = dict.fromkeys(parts, "symlog"), dict.fromkeys(parts, "symlog-normal")
        alone = {"feedback": config.feedback, "separate": config.separate}
        joint |= {"encoder": encoders | joint["encoder"], "head": heads | joint["head"]}
        model = model_for(
            self.observation_space,
            self.action_space,
            core,
            config.hidden_size,
            self.statistics.reward_support,
            history=config.history,
            dropout=self.config.learning.dropout,
            decoder_hidden=config.decoder_hidden,
            minimum_std=config.minimum_std,
            open_rewards=True,
            reward_groups=self.statistics.reward_groups,
            reward_regression=config.rewards == "two-hot",
            **options | alone | joint,
        )
        if not model.feedback and not model.core.initial_state(1).latent.shape[-1]:
            raise ValueError(
                f"--core {core} has no latents, which alone could carry what was seen without "
                "feedback: take another core, such as rssm, or leave out --no-feedback"
            )
        return model


def learner_for(
    model: WorldModel, config: LearningConfig, optimizer: OptimizerConfig, segments: Segments
) -> Learner:
    """The learner of the world model.

    segments: the updates within which the learning rate falls, each time that learning goes on.
    """
    if config.compile:
        model.core.compile_steps()
    return Learner(
        model,
        objective_from(model, vars(config)),
        learning_rate(config.learning_rate, optimizer, segments),
        config.weight_decay or 0.0,
        config.clip_norm,
        config.ema_decay,
        autocast=config.precision == "bfloat16",
        optimizer=optimizer.optimizer,
        adaptive_clip=optimizer.adaptive_clip,
    )


def falling(rate: float, last: float, segments: Segments) -> Schedule:
    """A learning rate that falls along a cosine, in each segment of a training. last: relative to
    the first."""
    return in_segments(lambda length: cosine(rate, last * rate, length), segments)


def learning_rate(
    rate: float, optimizer: OptimizerConfig, segments: Segments, each: int = 1
) -> Schedule:
    """A learning rate over updates, which warms up once, and falls in each segment. each:
    updates of a unit that segments count."""
    schedule = per_rollout(falling(rate, optimizer.last_rate, segments), each)
    return warmed_up(schedule, optimizer.rate_warmup)


def optimizer_for(components: Components, replay: Replay, segments: Segments) -> PolicyOptimizer:
    """The optimizer of the policy, in dreams that begin with recorded rows.

    segments: the rollouts within which rates fall, each time that learning goes on.
    """
    config, rollouts = components.config.policy, components.rollouts
    learning, optimizer = components.config.learning, components.config.optimizer
    if components.algorithm is not None:
        begin = functools.partial(
            recorded_beliefs,
            components.model,
            replay,
            window=learning.window,
            from_start=learning.from_start,
        )
        steps = rollouts.num_imagined * rollouts.length
        dreams = components.belief_dreams(None if config.dream_starts == "initial" else begin)
        share = falling(1.0, optimizer.last_rate, segments)
        return SB3Optimizer(components.algorithm, dreams, steps, share)
    imagination = Imagination(
        components.believer(components.policy),
        components.own_dream(),
        None if config.dream_starts == "initial" else replay,
        rollouts.num_imagined,
        learning.window,
        learning.from_start,
        learning.burn_in,
    )
    unit = config.least_range or components.statistics.reward_unit
    updates = config.epochs * rollouts.minibatches  # a rollout
    objective = make_method(
        rollouts.method,
        imagination.core,
        rollouts.num_imagined,
        rollouts.length,
        components.critic,
        discount=rollouts.discount,
        lambda_=rollouts.gae_lambda,
        entropy=per_rollout(
            in_segments(functools.partial(entropy_schedule, config), segments), updates
        ),
        unit=unit if config.normalise_returns else None,
    )
    objective.uniform_kl = config.uniform_kl
    weight = config.recorded_values
    trainer = Trainer(
        RecordedValues(objective, weight, rollouts.gae_lambda) if weight else objective,
        parameters_of(components.policy, components.critic),
        learning_rate(config.policy_learning_rate, optimizer, segments, updates),
        clip_norm=1.0,
        optimizer=optimizer.optimizer,
        adaptive_clip=optimizer.adaptive_clip,
    )
    parts = (
        objective,
        trainer,
        imagination,
        components.policy,
        components.acting,
        config.policy_ema_decay,
        config.epochs,
        rollouts.minibatches,
        components.actions.low_entropy(rollouts.least_entropy),
    )
    if config.dream_starts == "rows":
        return RowsOptimizer(*parts, replay=replay)
    return GradientOptimizer(*parts)


def entropy_schedule(config: PolicyConfig, rollouts: int) -> Schedule:
    """The weight of the entropy bonus, which falls exponentially within so many rollouts."""
    if config.final_entropy == 1:
        return constant(config.entropy)
    return half_life(config.entropy, rollouts / -math.log2(config.final_entropy))


def per_rollout(schedule: Schedule, updates: int) -> Schedule:
    """A schedule over rollouts, as one over updates, so many of which each rollout makes."""
    return lambda update: schedule(update // updates)


def algorithm_options(config: PolicyConfig) -> dict[str, Any]:
    """The arguments of an algorithm of stable-baselines3; the user's replace those chosen here.

    Its schedules run over one call, and here there are many: rates of learning are set by rollout,
    exploration stays as it is.
    """
    rollouts = config.rollouts(are_numbers=False)  # no gradient goes through the dream
    steps = rollouts.num_imagined * rollouts.length
    network: dict[str, Any] = {"net_arch": [config.policy_hidden] * 2}
    options = {
        "learning_rate": config.policy_learning_rate,
        "gamma": rollouts.discount,
        "policy_kwargs": network,
    }
    if config.algorithm in ("DQN", "SAC"):
        options |= {"buffer_size": 20 * steps, "learning_starts": 0, "train_freq": 1}
        options |= {"gradient_steps": 1, "batch_size": 256}
        if config.algorithm == "DQN":
            options |= {"exploration_initial_eps": 0.05, "exploration_final_eps": 0.05}
    else:
        options |= {"n_steps": rollouts.length, "gae_lambda": rollouts.gae_lambda}
        options |= {"ent_coef": config.entropy}
    if config.algorithm in ("PPO", "RecurrentPPO"):
        options |= {"batch_size": -(-steps // 4), "n_epochs": 4}
    if config.algorithm == "RecurrentPPO":
        network["lstm_hidden_size"] = config.policy_hidden
    return options | arguments_from_json(config.agent_arguments)
