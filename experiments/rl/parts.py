"""What a control run consists of: its world model, its policy, and how that is improved."""

import copy
import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import nn

from worldmodel import (
    Agent,
    Believer,
    Dream,
    ModelState,
    Replay,
    Trainer,
    WorldModel,
    action_codec,
    constant,
    core_options,
    cosine,
    model_for,
)
from worldmodel.agents import (
    Critic,
    Imagination,
    Policy,
    Sighted,
    make_method,
)
from worldmodel.agents.imagination import parameters_of, recorded_beliefs
from worldmodel.agents.policy_gradient import PolicyGradient
from worldmodel.checkpoint import Checkpoint
from worldmodel.codecs import is_image
from worldmodel.envs import (
    CodeView,
    DreamVectorEnv,
    GymEnvironment,
    ImageToCode,
    ObservationView,
    PoseView,
    View,
    action_names,
    arguments_from_json,
    can_pose,
)
from worldmodel.experiments.data.spaces import read_spaces
from worldmodel.experiments.rl.config import ControlConfig, DreamingConfig
from worldmodel.experiments.rl.environments import shown_environment, vector_env
from worldmodel.experiments.rl.improving import ByAlgorithm, ByGradient, Improver
from worldmodel.experiments.rl.seeing import (
    code_space,
    eyes_for,
    jointly,
    sees_codes,
)
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.stages import newest_checkpoint
from worldmodel.run_folder import RunError, RunFolder

if TYPE_CHECKING:
    from worldmodel.agents.sb3 import Learner

LAST_RATE = 0.1  # of a learning rate, relative to the first
CRITIC_SCALE = 10  # returns, in units of an ordinary reward
FINITE_REWARDS = 16  # rewards that take more values than this have a density


class Facts(NamedTuple):
    """What the first collection told of the environment."""

    steps: int  # that it took
    reward_support: list[float] | None  # the values that rewards took, if they are few
    reward_unit: float  # the size of an ordinary reward


class Parts:
    """What a run consists of: the world model, its policy, and the worlds they face."""

    def __init__(
        self,
        config: ControlConfig,
        facts: Facts,
        shown: spaces.Space,
        action_space: spaces.Space,
    ):
        """shown: what the environment shows and episodes hold; the model's `observation_space` is
        another one where images are seen as codes."""
        self.config = config
        self.dreaming = config.dreaming
        self.rollouts = config.dreaming.rollouts(isinstance(action_space, spaces.Box))
        self.facts = facts
        self.eyes: WorldModel | None = None
        self.recorded_space = shown
        self.observation_space, self.action_space = shown, action_space
        if sees_codes(shown, config.seeing):
            self.eyes = eyes_for(cast(spaces.Box, shown), config.seeing)
            self.observation_space = code_space(self.eyes)
        self.actions = action_codec(action_space)
        is_own = config.dreaming.agent == "own"
        self.is_joint = self.eyes is None and is_image(shown)
        self.reveals = self.is_joint and is_own
        self.model = self._model()
        self.modules: dict[str, nn.Module] = {"model": self.model}
        if self.eyes is not None:
            self.modules["eyes"] = self.eyes
        self.algorithm: Learner | None = None  # an algorithm of stable-baselines3
        self.agent: Agent = self._own_agent() if is_own else self._foreign_agent()
        for module in self.modules.values():
            module.eval()

    def __repr__(self) -> str:
        return run_name("control", self.model)

    @property
    def has_environment(self) -> bool:
        """Whether there is a real one: recorded episodes have none."""
        return self.config.environment.env is not None

    def environment(
        self, copies: int = 1, seed: int | None = None, render_mode: str | None = None
    ) -> GymEnvironment:
        """The real environment, `copies` side by side, in this process; images are codes in it."""
        made = vector_env(self.config.environment, copies, render_mode=render_mode)
        return GymEnvironment(made if self.eyes is None else ImageToCode(made, self.eyes), seed)

    @functools.cached_property
    def _one(self) -> gymnasium.Env:
        """The real environment by itself, to be asked and to draw with; it renders images where it
        can, and shows what the world model sees before a VAE does."""
        return shown_environment(self.config.environment)

    @property
    def time_limit(self) -> int | None:
        """Steps after which the real environment truncates; None where it does not, or where
        there is none."""
        spec = self._one.spec if self.has_environment else None
        limit = None if spec is None else spec.max_episode_steps
        return limit and -(-limit // self.config.environment.action_repeat)

    hides = False  # what the environment renders is for people to see

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the actions are called, in their order, in lower case; () where nobody says."""
        return action_names(self._one) if self.has_environment else ()

    @property
    def pace(self) -> float | None:
        """Rows a second at which the real environment is to be shown; None where nobody says."""
        told = self._one.metadata.get("render_fps") if self.has_environment else None
        return told and told / self.config.environment.action_repeat

    def shown_environment(self, seed: int) -> GymEnvironment:
        """One real game, which can be drawn if the environment renders images."""
        return self.environment(1, seed, render_mode=self._one.render_mode)

    def picture(self, environment: GymEnvironment, mode: str) -> Any:
        """The real game as it is seen, or else as the environment renders it; None where there is
        no such picture, and a view of the rows has to do."""
        if mode != "rgb_array" or self.is_joint or environment.vector_env.render_mode != mode:
            return None
        return environment.vector_env.render()[0]  # type: ignore[index]

    @property
    def player(self) -> Agent:
        """The agent, as it acts where images are shown, not codes."""
        return self.agent if self.eyes is None else Sighted(self.agent, self.eyes)

    def view(self) -> View:
        """Shows dreams: codes as the images that they stand for, states as the environment renders
        them where it is known how to set it to one, and otherwise observations as they are."""
        if self.eyes is not None:
            return CodeView(self.eyes)
        if self.has_environment and can_pose(self._one):
            return PoseView(self._one)
        return ObservationView(self.observation_space, self.model.reach)

    def dream(self, horizon: int | None = None) -> Dream:
        """The environment as the model dreams it."""
        horizon = horizon or self.dreaming.horizon
        return Dream(self.model, horizon, self.observation_space, self.action_space)

    def objective(self, imagination: Imagination) -> PolicyGradient:
        """How the policy is trained."""
        told, rollouts = self.dreaming, self.rollouts
        try:
            return make_method(
                rollouts.method,
                imagination.core,
                rollouts.dreams,
                rollouts.length,
                critic=self.critic,
                discount=told.discount,
                lambda_=rollouts.trace,
                entropy=constant(told.entropy),
                unit=self.facts.reward_unit,
            )
        except ValueError as error:
            raise RunError(f"--method {rollouts.method}: {error}") from error

    def dreams(self, begin: Callable[[int], ModelState] | None = None) -> DreamVectorEnv:
        """Dreams side by side whose beliefs are shown, for algorithms of others.

        begin: the beliefs that they begin with.
        """
        return DreamVectorEnv(
            self.dream(),
            self.rollouts.dreams,
            observe="belief",
            autoreset_mode=AutoresetMode.SAME_STEP,
            begin=begin,
        )

    def _own_agent(self) -> Believer:
        hidden = self.dreaming.policy_hidden
        size = self.model.core.feature_size if self.reveals else self.model.belief_size
        self.policy = Policy(size, self.actions, hidden)
        self.acting = copy.deepcopy(self.policy)  # its average over updates
        self.critic = Critic(size, hidden, scale=CRITIC_SCALE * self.facts.reward_unit)
        self.modules |= {"policy": self.policy, "critic": self.critic, "acting": self.acting}
        return Believer(self.model, self.acting, self.reveals)

    def _foreign_agent(self) -> Agent:
        from worldmodel.agents import sb3

        told = self.dreaming
        self.algorithm = sb3.Learner(
            cast(str, told.algorithm), self.dreams(), options_of(told), self.facts.reward_unit
        )
        head = sb3.Head(self.algorithm.algorithm)
        self.modules["policy"] = head
        believer = Believer(self.model, head)
        return sb3.Remembering(believer, head) if sb3.is_remembering(head) else believer

    def _model(self) -> WorldModel:
        told, seeing = self.config.world, self.config.seeing
        core = ("rssm" if self.is_joint else "rnn") if told.core == "auto" else told.core
        options = core_options(core, vars(told)) | jointly(self.observation_space, seeing)
        return model_for(
            self.observation_space,
            self.action_space,
            core,
            told.memory,
            self.facts.reward_support,
            history=told.history,
            dropout=self.config.learning.dropout,
            decoder_hidden=told.hidden,
            minimum_std=told.minimum_std,
            spare_rewards=FINITE_REWARDS,
            **options,
        )


def options_of(told: DreamingConfig) -> dict[str, Any]:
    """What an algorithm of stable-baselines3 is told, the user's words last.

    Its schedules run over one call, and here there are many: rates of learning are set by rollout,
    exploration stays as it is.
    """
    rollouts = told.rollouts(are_numbers=False)  # no gradient goes through the dream
    steps = rollouts.dreams * rollouts.length
    network: dict[str, Any] = {"net_arch": [told.policy_hidden] * 2}
    options = {"learning_rate": told.policy_rate, "gamma": told.discount, "policy_kwargs": network}
    if told.algorithm in ("DQN", "SAC"):
        options |= {"buffer_size": 20 * steps, "learning_starts": 0, "train_freq": 1}
        options |= {"gradient_steps": 1, "batch_size": 256}
        if told.algorithm == "DQN":
            options |= {"exploration_initial_eps": 0.05, "exploration_final_eps": 0.05}
    else:
        options |= {"n_steps": rollouts.length, "gae_lambda": rollouts.trace}
        options |= {"ent_coef": told.entropy}
    if told.algorithm in ("PPO", "RecurrentPPO"):
        options |= {"batch_size": -(-steps // 4), "n_epochs": 4}
    if told.algorithm == "RecurrentPPO":
        network["lstm_hidden_size"] = told.policy_hidden
    return options | arguments_from_json(told.agent_arguments)


def improver_for(parts: Parts, replay: Replay, rollouts: int) -> Improver:
    """What makes the policy better, in so many rollouts that begin with what was recorded."""
    told, window, from_start = (
        parts.dreaming,
        parts.config.learning.window,
        parts.config.learning.from_start,
    )
    if parts.algorithm is not None:
        begin = functools.partial(
            recorded_beliefs, parts.model, replay, window=window, from_start=from_start
        )
        share = cosine(1.0, LAST_RATE, rollouts)
        steps = parts.rollouts.dreams * parts.rollouts.length
        return ByAlgorithm(parts.algorithm, parts.dreams(begin), steps, share)
    imagination = Imagination(
        Believer(parts.model, parts.policy, parts.reveals),
        parts.dream(),
        replay,
        parts.rollouts.dreams,
        window,
        from_start,
    )
    objective = parts.objective(imagination)
    parameters = parameters_of(parts.policy, parts.critic)
    rate = cosine(told.policy_rate, LAST_RATE * told.policy_rate, rollouts)
    trainer = Trainer(objective, parameters, rate, clip_norm=1.0)
    return ByGradient(objective, trainer, imagination, parts.policy, parts.acting, told.averaging)


def load_run(folder: RunFolder) -> tuple[Parts, Checkpoint]:
    """A run as its newest checkpoint left it."""
    checkpoint = newest_checkpoint(folder)
    facts = Facts(**json.loads((folder.episodes / "facts.json").read_text()))
    parts = Parts(config_of(folder), facts, *read_spaces(folder.episodes))
    checkpoint.load(parts.modules)
    for module in parts.modules.values():
        module.requires_grad_(False)
    return parts, checkpoint
