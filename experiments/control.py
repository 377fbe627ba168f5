"""Any Gymnasium environment: collect, learn a world model, train a policy in its dream, repeat.

    worldmodel train control --env CartPole-v1 --out RUN

Rounds of up to five stages: collect (at random first, then by the policy so far), see (a VAE of
images, where these are what is observed), learn (the world model, from all that was collected),
improve (the policy, in the dream alone), evaluate (real episodes, for the learning curve). What to
expect stands in docs/results.md.
"""

import copy
import functools
import inspect
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import nn

from agents import (
    ActorCritic,
    Critic,
    DynamicsGradient,
    EveryAction,
    Imagination,
    Policy,
    Sighted,
    Uniform,
)
from agents.imagination import parameters_of, recorded_beliefs
from agents.policy_gradient import PolicyGradient
from envs import (
    CodeView,
    DreamVectorEnv,
    GymEnvironment,
    ImageToCode,
    View,
    arguments_from_json,
    collect,
    make_vector_env,
)
from envs.observations import check_rewards, check_values
from experiments.baseline_config import BaselineConfig
from experiments.config import ToyGameConfig
from experiments.control_config import ControlConfig, DreamingConfig, EnvironmentConfig
from experiments.datasets import HELD_OUT, Data, open_data, portions, typical
from experiments.improving import ByAlgorithm, ByGradient, Improver
from experiments.progress import Reporter
from experiments.returns import play_episodes
from experiments.run import RunError, RunFolder, write_text
from experiments.seeing import (
    Sight,
    code_space,
    coded,
    explain,
    eyes_for,
    jointly,
    seen,
    sees_codes,
)
from experiments.spaces import read_spaces, write_spaces
from experiments.training import Stage, Told, newest_checkpoint
from experiments.training import Training as Run
from worldmodel import (
    CORES,
    ELBO,
    Agent,
    Believer,
    DiskStore,
    Dream,
    Episodes,
    EpisodeStore,
    Greedy,
    ModelState,
    PerceptDecoder,
    Replay,
    Trainer,
    WorldModel,
    action_codec,
    constant,
    cosine,
    model_for,
)
from worldmodel.checkpoint import Checkpoint, list_checkpoints
from worldmodel.codecs import FiniteHead, is_image
from worldmodel.noise import OwnNoise

if TYPE_CHECKING:
    from agents.sb3 import Learner

EVALUATION_SEED = 2**32  # apart from the seeds of training, which are drawn from smaller ones
LAST_RATE = 0.1  # of a learning rate, relative to the first
FEWEST = 4  # recorded episodes
CURVE_COPIES = 20  # real episodes that are played side by side
LONGEST = 27_000  # steps; no game of Atari is longer
CRITIC_SCALE = 10  # returns, in units of an ordinary reward
FINITE_REWARDS = 16  # rewards that take more values than this have a density
NOT_OF_ONE = ("env", "arguments", "copies", "workers")  # of the settings of environments


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

    @property
    def has_environment(self) -> bool:
        """Whether there is a real one: recorded episodes have none."""
        return self.config.environment.env is not None

    def environment(self, copies: int = 1, seed: int | None = None) -> GymEnvironment:
        """The real environment, `copies` side by side, in this process; images are codes in it."""
        told = self.config.environment
        if self.eyes is None:
            return real_environment(told, copies, seed)
        return GymEnvironment(ImageToCode(vector_env(told, copies), self.eyes), seed)

    @property
    def player(self) -> Agent:
        """The agent, as it acts where images are shown, not codes."""
        return self.agent if self.eyes is None else Sighted(self.agent, self.eyes)

    def view(self) -> View | None:
        """Shows dreams of codes as images."""
        return None if self.eyes is None else CodeView(self.eyes)

    def dream(self, horizon: int | None = None) -> Dream:
        """The environment as the model dreams it."""
        horizon = horizon or self.dreaming.horizon
        return Dream(self.model, horizon, self.observation_space, self.action_space)

    def objective(self, imagination: Imagination) -> PolicyGradient:
        """How the policy is trained."""
        told, rollouts = self.dreaming, self.rollouts
        core, critic, unit = imagination.core, self.critic, self.facts.reward_unit
        sizes, discount, entropy = (
            (rollouts.dreams, rollouts.length),
            told.discount,
            constant(told.entropy),
        )
        if rollouts.method == "every-action":
            try:
                return EveryAction(core, *sizes, critic, discount, entropy, unit)
            except ValueError as error:
                raise RunError(f"--method every-action: {error}") from error
        kind = DynamicsGradient if rollouts.method == "dynamics" else ActorCritic
        return kind(core, *sizes, critic, discount, rollouts.trace, entropy, unit)

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
        from agents import sb3

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
        known = set(inspect.signature(CORES[core]).parameters) - {"hidden"}
        options: dict[str, Any] = {
            key: value for key, value in vars(told).items() if key in known and value != "default"
        }
        options |= jointly(self.observation_space, seeing)
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


def real_environment(
    told: EnvironmentConfig,
    copies: int,
    seed: int | None,
    workers: int = 0,
    report: Callable[[str], None] = warnings.warn,
) -> GymEnvironment:
    """The real environment, as it was asked for on the command line."""
    return GymEnvironment(vector_env(told, copies, workers, report), seed)


def vector_env(
    told: EnvironmentConfig,
    copies: int,
    workers: int = 0,
    report: Callable[[str], None] = warnings.warn,
) -> VectorEnv:
    """Copies of the real environment, as it was asked for on the command line."""
    if told.env is None:
        raise RunError("what was learned from recorded episodes alone has no real environment")
    options = {key: value for key, value in vars(told).items() if key not in NOT_OF_ONE}
    try:
        arguments = arguments_from_json(told.arguments)
        return make_vector_env(
            told.env, arguments, copies=copies, workers=workers, report=report, **options
        )
    except ValueError as error:
        raise RunError(str(error)) from error


def recorded(config: ControlConfig) -> Data:
    """The recorded episodes that a run learns from; they fit the environment, if there is one."""
    path = Path(cast(str, config.data))
    data = open_data(path)
    if len(data.episodes) < FEWEST or not data.episodes.steps:
        raise RunError(
            f"{path} has {len(data.episodes)} episodes and {data.episodes.steps} steps: to learn "
            f"from some and to hold out others, it takes {FEWEST} episodes or more, with steps"
        )
    if config.environment.env is not None:
        environment = real_environment(config.environment, 1, None)
        environment.close()
        told = (environment.observation_space, environment.action_space)
        if told != data[1:]:
            raise RunError(
                f"{path} holds episodes of the spaces {data[1]} and {data[2]}, but "
                f"{config.environment.env} has {told[0]} and {told[1]}: give the options that the "
                "episodes were recorded with, or leave out --env"
            )
    return data


def check(config: ControlConfig) -> None:
    """Says what is wrong with the environment, the data or the algorithm, before a run's folder is
    made."""
    if config.data is not None:
        action_space = recorded(config).action_space
    else:
        environment = real_environment(config.environment, 1, None)
        environment.close()
        action_space = environment.action_space
    if config.dreaming.algorithm is not None:
        from agents import sb3

        try:
            sb3.check(config.dreaming.algorithm, action_space, options_of(config.dreaming))
        except ValueError as error:
            raise RunError(str(error)) from error


def play_greedily(parts: Parts, episodes: int, seed: int) -> tuple[np.ndarray, int | None]:
    """The returns [episodes] of the greedy agent in the real environment, and the steps after
    which that truncates. Episodes of one that does not are cut after `LONGEST` steps."""
    one = vector_env(parts.config.environment, 1)
    spec = one.get_attr("spec")[0]  # type: ignore[attr-defined]
    one.close()
    limit = None if spec is None else spec.max_episode_steps
    copies = min(episodes, CURVE_COPIES) if limit else episodes
    environment = parts.environment(copies, seed)
    with OwnNoise(seed)():
        returns = play_episodes(environment, Greedy(parts.agent), copies, episodes, LONGEST)
    environment.close()
    return returns, limit and -(-limit // parts.config.environment.action_repeat)


def rounds_of(config: ControlConfig) -> int:
    """How often the environment is played in."""
    told = config.collecting
    return 1 + math.ceil((told.steps - told.prefill) / told.phase)


def stages(config: ControlConfig, sees: bool = False) -> list[Stage]:
    """The whole job in order; the first collection is done before a model can be built.

    sees: there is a VAE that learns, as well.
    """
    told = config.collecting
    plan: list[Stage] = []
    used, number, looked = told.prefill, 0, 0
    updates, rollouts = config.learning.first_updates, config.dreaming.first_rollouts
    while True:
        if sees and used >= config.seeing.vae_growth * looked:
            plan.append(Stage("see", number, config.seeing.vae_updates))
            looked = used
        plan += [Stage("learn", number, updates), Stage("improve", number, rollouts)]
        if config.returns.curve_episodes and config.data is None:
            plan.append(Stage("evaluate", number, 1))
        if used >= told.steps:
            return plan
        number += 1
        if config.data is None:
            plan.append(Stage("collect", number, 1))
        steps = phase_steps(config, number)
        used += steps
        updates = max(1, round(config.learning.update_ratio * steps))
        rollouts = max(1, round(config.dreaming.rollout_ratio * steps))


def phase_steps(config: ControlConfig, number: int) -> int:
    """Steps of the real environment in a round's collection."""
    told = config.collecting
    if number == 0:
        return told.prefill
    return min(told.phase, told.steps - told.prefill - (number - 1) * told.phase)


class Training(Run):
    """A run in progress."""

    told: ClassVar[dict[str, Told]] = {
        "collect": Told("playing", "phase"),
        "see": Told("learning to see", "updates"),
        "learn": Told("learning", "updates"),
        "improve": Told("dreaming", "rollouts"),
        "evaluate": Told("evaluating", "times"),
    }

    def __init__(self, folder: RunFolder, reporter: Reporter):
        self.config = config = folder.config()
        super().__init__(folder, reporter, config.checkpoint_seconds)
        torch.set_num_threads(config.threads)
        self.rounds = rounds_of(config)
        self.seeds = np.random.SeedSequence(config.seed).spawn(2 + self.rounds)
        self.store = DiskStore(folder.episodes)
        facts = self._first_episodes()
        torch.manual_seed(config.seed)
        self.real_steps = facts.steps
        self.parts = parts = Parts(config, facts, *read_spaces(folder.episodes))
        self.stages = stages(config, parts.eyes is not None)
        self.sight: Sight | None = None  # while it learns
        if line := explain(parts.recorded_space, config.seeing, parts.reveals):
            reporter.say(line)
        self.replay = Replay(parts.actions, self.seeds[0], self._recorded())
        if not list_checkpoints(folder.checkpoints):
            self._standardise()
        updates, rollouts = (
            sum(stage.units for stage in self.stages if stage.kind == kind)
            for kind in ("learn", "improve")
        )
        told = config.learning
        self.learner = Trainer(
            ELBO(
                parts.model,
                constant(told.kl_weight),
                free_nats=told.free_nats,
                kl_balance=told.kl_balance,
            ),
            parts.model.parameters(),
            cosine(told.learning_rate, LAST_RATE * told.learning_rate, updates),
            weight_decay=told.weight_decay,
            clip_norm=1.0,
        )
        self.improver = improver_for(parts, self.replay, rollouts)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return self.parts.modules

    def work(self, stage: Stage) -> str:
        units = {
            "collect": self._collect,
            "see": self._see,
            "learn": self._learn,
            "improve": self._improve,
            "evaluate": self._evaluate,
        }
        return units[stage.kind](stage)

    def _collect(self, stage: Stage) -> str:
        episodes, steps = self._play(self.parts.player, stage.round)
        eyes = self.parts.eyes
        if eyes is not None and episodes:
            self.replay.add(coded(self.store, eyes, len(self.store) - episodes))
        self._meet(self.replay.episodes.select(self._newest(episodes)))
        self.real_steps += steps
        self.log(stage, episodes=episodes, steps=steps, real_steps=self.real_steps)
        return f"{episodes} episodes, {steps} steps"

    def _see(self, stage: Stage) -> str:
        if self.done == 0:
            self.sight = self._sight(stage)
        assert self.sight is not None
        metrics = self.sight.update()
        self.log(stage, **metrics)
        return f"bound {metrics['elbo_nats']:.2f} nats an image"

    def end_stage(self) -> None:
        ended = self.stages[self.stage - 1]
        if ended.kind == "see" and self.sight is not None:
            telling = self.sight.finish()
            self.sight = None
            self.replay.episodes = self._recorded()
            self.reporter.say(
                f"{telling} of the {self.config.seeing.vae_latent} numbers of a code tell "
                "something; all that was recorded is seen anew"
            )
            self._standardise()  # codes have another scale than they had

    def _sight(self, stage: Stage) -> Sight:
        seed = int(self.seeds[1].generate_state(self.rounds)[stage.round])
        eyes = cast(WorldModel, self.parts.eyes)
        return Sight(eyes, self.store, self.config.seeing, seed)

    def _recorded(self) -> EpisodeStore:
        """All that was recorded, as the model is shown it."""
        eyes = self.parts.eyes
        return self.store if eyes is None else seen(self.store, eyes)

    def _learn(self, stage: Stage) -> str:
        told = self.config.learning
        batch = self.replay.sample(told.window, told.batch_rows, told.from_start, told.burn_in)
        self.parts.model.train()
        metrics = self.learner.update(batch)
        self.parts.model.eval()
        self.log(stage, **metrics)
        return f"{metrics['loss']:.4f} nats a step"

    def _improve(self, stage: Stage) -> str:
        if self.done == 0:
            self.improver.begin()
        metrics = self.improver.update()
        self.log(stage, **metrics)
        told = (key for key in ("value", "entropy", "reward") if key in metrics)
        return ", ".join(f"{key} {metrics[key]:.2f}" for key in told)

    def _evaluate(self, stage: Stage) -> str:
        seed, episodes = evaluation_seeds(self.config)[0], self.config.returns.curve_episodes
        returns, _ = play_greedily(self.parts, episodes, seed)
        mean = float(returns.mean())
        self.log(
            stage,
            real_steps=self.real_steps,
            real_return_mean=mean,
            real_returns=returns.tolist(),
        )
        return f"return {mean:.1f} ± {returns.std():.1f} after {self.real_steps} real steps"

    def _first_episodes(self) -> Facts:
        """What the first collection tells, which is made before anything else, and only once."""
        file = self.folder.episodes / "facts.json"
        if file.exists():
            return Facts(**json.loads(file.read_text()))
        torch.manual_seed(self.config.seed)
        self.store.rewind(0)
        self.folder.truncate_metrics(0)
        doing = "playing at random" if self.config.data is None else "reading recorded episodes"
        with self.reporter.stage(doing, 1, 0, "phase") as progress:
            steps = self._play_at_random() if self.config.data is None else self._read_data()
            progress.update(1, f"{len(self.store)} episodes, {steps} steps")
        rewards = np.concatenate([rewards_of(part) for part in portions(self.store)])
        unit = float(np.sqrt(np.mean(np.square(rewards)))) or 1.0
        values = np.unique(rewards)
        are_few = len(values) <= FINITE_REWARDS and self.config.world.rewards == "auto"
        few = [float(v) for v in values] if are_few else None
        facts = Facts(steps, few, unit)
        write_text(file, json.dumps(facts._asdict()))
        return facts

    def _play_at_random(self) -> int:
        """How many steps it took."""
        environment = real_environment(self.config.environment, 1, None)
        write_spaces(self.folder.episodes, environment.observation_space, environment.action_space)
        environment.close()
        agent = Uniform(environment.action_space, self.config.collecting.persistence)
        return self._play(agent, 0)[1]

    def _read_data(self) -> int:
        """Recorded episodes become the run's own, so that it stays whole, but for some that are
        held out; how many steps they have."""
        data = recorded(self.config)
        write_spaces(self.folder.episodes, data.observation_space, data.action_space)
        number = len(data.episodes)
        few = min(self.config.returns.held_out, max(2, number // 10))
        held_out = np.linspace(0, number - 1, few).round().astype(int)
        for part in portions(data.episodes, np.setdiff1d(np.arange(number), held_out)):
            check_values(data.observation_space, part.columns["observation"])
            check_rewards(part.columns["reward"])
            self.store.add(part)
        data.episodes.select(held_out).save(self.folder.episodes / HELD_OUT)
        return self.store.steps

    def _play(self, agent: Agent, number: int) -> tuple[int, int]:
        """A round's collection, in environments of its own, stored as episodes end: how many
        episodes and steps it brought."""
        told = self.config.environment
        seed = int(self.seeds[2 + number].generate_state(1)[0])
        steps = phase_steps(self.config, number)
        environment = real_environment(
            told, min(told.copies, steps), seed, told.workers, self.reporter.say
        )
        before, taken = self.store.added, 0
        for episodes in collect(environment, agent, steps):
            self.store.add(episodes)
            taken += episodes.steps
        environment.close()
        return self.store.added - before, taken

    def _newest(self, episodes: int) -> np.ndarray:
        """The places of the episodes that came last."""
        return np.arange(max(0, len(self.store) - episodes), len(self.store))

    def _meet(self, episodes: Episodes) -> None:
        """What never came before becomes possible in dreams: numbers farther out, and rewards."""
        self.parts.model.reach.widen(episodes.columns["observation"])
        head = cast(PerceptDecoder, self.parts.model.decoder).reward
        if isinstance(head, FiniteHead):
            try:
                head.extend(torch.as_tensor(rewards_of(episodes)))
            except ValueError as error:
                raise RunError(f"{self.folder.path}: {error} (--rewards density)") from error

    def _standardise(self) -> None:
        """The scales of the numbers that were observed first, and their reach."""
        first = typical(self.replay.episodes)
        values = {"observation": first.columns["observation"], "reward": rewards_of(first)}
        for module in (self.parts.model.encoder, self.parts.model.decoder):
            module.standardise(values)
        for part in portions(self.replay.episodes):
            self._meet(part)

    def tensors(self) -> dict[str, Any]:
        state = {
            "learner": self.learner.state_dict(),
            "improver": self.improver.state_dict(),
        }
        return state if self.sight is None else state | {"sight": self.sight.tensors()}

    def values(self) -> dict[str, Any]:
        values = {"replay": self.replay.state_dict(), "real_steps": self.real_steps}
        if self.sight is None:
            return values
        return values | {"images": self.sight.batches.state_dict()}

    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        self.real_steps = values["real_steps"]
        self.store.rewind(values["replay"]["episodes"])
        self.replay.episodes = self._recorded()
        self.replay.load_state_dict(values["replay"])
        if "sight" in tensors:
            self.sight = self._sight(self.stages[self.stage])
            self.sight.load(tensors["sight"], values["images"])
        self.learner.load_state_dict(tensors["learner"])
        self.improver.load_state_dict(tensors["improver"])


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


def rewards_of(episodes: Episodes) -> np.ndarray:
    """All rewards, those of first rows, which are void, left out."""
    return np.delete(episodes.columns["reward"], episodes.starts)


def evaluation_seeds(config: ControlConfig | BaselineConfig | ToyGameConfig) -> list[int]:
    """Of the evaluation while training; after it, of real and of dreamt episodes, and of those
    that the model is scored on."""
    sequence = np.random.SeedSequence([config.seed, EVALUATION_SEED])
    return [int(seed) for seed in sequence.generate_state(4)]


def load_run(folder: RunFolder) -> tuple[Parts, Checkpoint]:
    """A run as its newest checkpoint left it."""
    checkpoint = newest_checkpoint(folder)
    facts = Facts(**json.loads((folder.episodes / "facts.json").read_text()))
    parts = Parts(folder.config(), facts, *read_spaces(folder.episodes))
    checkpoint.load(parts.modules)
    for module in parts.modules.values():
        module.requires_grad_(False)
    return parts, checkpoint


def load(path: str | Path) -> Parts:
    """A run's model, agent, real environment and dream, for scripts (see `experiments.load`)."""
    return load_run(RunFolder.open(Path(path)))[0]
