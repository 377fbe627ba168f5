"""An agent that learns a world model and a policy in its dream, used like stable-baselines3's."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cattrs
import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from worldmodel import (
    Agent,
    DiskStore,
    EpisodeSource,
    EpisodeStats,
    EpisodeStore,
    Greedy,
    Job,
    MemoryStore,
    Row,
    Stage,
    Watcher,
    WorldModel,
    action_codec,
    nested,
)
from worldmodel.agents import scoring
from worldmodel.agents.components import Components
from worldmodel.agents.config import AgentConfig
from worldmodel.agents.exploration import Uniform
from worldmodel.agents.image_encoder import encoded
from worldmodel.agents.presets import beginning
from worldmodel.agents.training import AgentTraining, check_fit
from worldmodel.agents.world import World, evaluation_seeds
from worldmodel.devices import find_device
from worldmodel.distributions import draw
from worldmodel.envs import DreamVectorEnv, EnvironmentSource
from worldmodel.envs.checked import shut
from worldmodel.envs.make import folder_of
from worldmodel.envs.observations import as_read, as_tensors, check_values, is_one
from worldmodel.envs.source import source_from
from worldmodel.errors import naming_damage
from worldmodel.job import Metrics
from worldmodel.names import check_names
from worldmodel.noise import OwnNoise
from worldmodel.options import DeviceConfig, with_options
from worldmodel.recorder import Recorder
from worldmodel.reports import ProgressReport
from worldmodel.run_folder import RunError, RunFolder, put_in_place
from worldmodel.space_json import read_spaces, write_spaces
from worldmodel.trust import Trust, remember

EXPERIMENT = "control"  # of saved agents: the command line plays, films and evaluates them
GIVEN = "the episodes of this folder"  # in place of the path of recorded episodes

Environment = str | gymnasium.Env | Callable[[], gymnasium.Env]


class Progress(NamedTuple):
    """The progress of learning, for a callback, after each unit."""

    agent: "WorldModelAgent"
    stage: str  # collect, read, encode, learn, improve or evaluate
    round: int  # from 0 on
    unit: int  # of the stage, from 1 on
    units: int  # of the stage in all
    metrics: Metrics

    @property
    def num_timesteps(self) -> int:
        """Steps of the real environment so far."""
        return self.agent.num_timesteps


Callback = Callable[[Progress], bool | None]


class PredictState(NamedTuple):
    """The state that `predict` carries from step to step, of B games."""

    mind: Any  # the agent's
    action: Tensor  # [B, A], the code of the last action


class WorldModelAgent:
    """Learns a world model of an environment, and a policy in the dream of it.

    agent = WorldModelAgent("CartPole-v1", seed=0)
    agent.learn(total_timesteps=3_000, progress_bar=True)
    action, state = agent.predict(observation, state, episode_start, deterministic=True)
    agent.save("agent"); agent = WorldModelAgent.load("agent", env)

    The same seed gives the same agent; torch's global generator is left alone. Nothing is written
    to disk unless a folder is given.
    """

    def __init__(
        self,
        env: Environment | None = None,
        *,
        seed: int | None = None,
        config: AgentConfig | None = None,
        folder: str | Path | None = None,
        data: EpisodeSource | None = None,
        num_envs: int = 1,
        workers: int = 0,
        patience: float | None = None,
        observation_space: spaces.Space | None = None,
        action_space: spaces.Space | None = None,
        device: str | None = None,
        **options: Any,
    ):
        """env: a Gymnasium id, `module:id`, an environment, or a function that makes one.

        seed: of everything that is random, by default that of `config`, which is 0.
        config: all options; options: single ones by name, such as core="rssm", hidden_size=64 (see
            `AgentConfig` and its groups; `worldmodel train control --help` lists them, too), or
            preset="dreamerv3", whose options those that are given besides change.
        folder: of a run that is to be written: metrics.jsonl, checkpoints, episodes.
        data: recorded episodes to learn from instead of playing; `total_timesteps` then sets the
        amount of learning, as if so many steps had been played.
        num_envs, workers: copies of the environment that are played side by side while collecting,
            and processes that share them (not where `env` is an environment).
        patience: seconds that a reset or a step of it may take: then its process is replaced, or
            without processes an error raised; None: 60, or 300.
        observation_space, action_space: of `data`, where there is no `env`.
        device: where networks and dreams are computed: "auto", "cpu" (the default), "cuda",
            "cuda:1", "mps".

        Raises ValueError or TypeError for an environment or options that cannot be learned with.
        """
        if seed is not None:
            options["seed"] = seed
        if config is not None and options.get("preset") is not None:
            raise ValueError(
                "config= has all options, and so has preset=: pass one of them, and what is to be "
                "different by name"
            )
        config = with_options(config or beginning(options.get("preset")), options)
        check_names(config)
        if num_envs < 1 or workers < 0:
            raise ValueError(
                f"num_envs is 1 or more and workers 0 or more, got {num_envs} and {workers}"
            )
        place = find_device(device)
        world = _world_of(env, patience, observation_space, action_space, data)
        check_fit(config, world.observation_space, world.action_space)
        world = world._replace(num_envs=num_envs, workers=workers)
        store: EpisodeStore = MemoryStore()
        self._recorder: Recorder | None = None
        if folder is not None:
            self._recorder = Recorder(_new_folder(Path(folder), config, world, device))
            store = DiskStore(self._recorder.folder.episodes)
        self._begin(config, world, store, device, place)
        if self._recorder is not None:
            self._recorder.save(self.training)

    def _begin(
        self,
        config: AgentConfig,
        world: World,
        store: EpisodeStore,
        asked: str | None,
        device: torch.device,
    ) -> None:
        self.config = config
        self._asked = asked  # the device, as it is saved
        self.training = AgentTraining(config, world, store, device=device)
        self._noise = OwnNoise(config.seed)  # of `predict`

    @property
    def world(self) -> World:
        """The environment that is learned, its spaces, and how many copies collect."""
        return self.training.world

    @property
    def device(self) -> torch.device:
        """The device of networks and dreams."""
        return self.training.device

    @property
    def observation_space(self) -> spaces.Space:
        return self.world.observation_space

    @property
    def action_space(self) -> spaces.Space:
        return self.world.action_space

    @property
    def num_timesteps(self) -> int:
        """Steps of the real environment so far."""
        return self.training.real_steps

    @property
    def has_learned(self) -> bool:
        """True once there is a model; before, `predict` acts at random."""
        return self.training.components is not None

    @property
    def components(self) -> Components:
        """The model, the policy, and their parts."""
        if self.training.components is None:
            raise ValueError("this agent has learned nothing yet: call learn(total_timesteps=...)")
        return self.training.components

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.components.model

    @property
    def policy(self) -> Agent:
        """The agent as a recurrence over rows, for a `GenCore`."""
        if not self.has_learned:
            return Uniform(self.action_space)
        return self.components.player

    def __repr__(self) -> str:
        env = "no environment" if self.world.source is None else str(self.world.source.env)
        return f"WorldModelAgent({env!r}, seed={self.config.seed}, {self.num_timesteps} timesteps)"

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | Sequence[Callback] | None = None,
        progress_bar: bool = False,
    ) -> "WorldModelAgent":
        """Learns from `total_timesteps` more steps of the real environment; goes on if it is
        called again.

        callback: called with the `Progress` after every unit of every stage; returning False ends
        learning there.
        """
        self.training.cut()
        self.training.extend(total_timesteps)
        callbacks = [] if callback is None else [callback] if callable(callback) else callback
        watchers: list[Watcher] = [_Callbacks(self, callbacks)]
        if self._recorder is not None:
            self._recorder.save(self.training)
            watchers.insert(0, self._recorder)
        if progress_bar:
            watchers.append(ProgressReport())
        self.training.run(*watchers)
        return self

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: PredictState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[Any, PredictState]:
        """The actions after an observation, or after one of each of B games side by side, and the
        state to be passed with the next one. Observations are those of the environment, or of
        `observation_space`, where that leaves parts out or has images with channels last.

        state: of the last call, None at the beginning; episode_start: bool [B], games whose
        observation is the first of an episode. The last actions are taken to be those that this
        method returned, and the last rewards those that the model expects. action_masks: bool
        [n], or [B, n] of games side by side, the discrete actions that may be chosen.
        """
        one = is_one(self.observation_space, observation)
        observation = as_read(self.observation_space, observation, one)
        if one:
            observation = nested.map(lambda leaf: np.asarray(leaf)[None], observation)
        check_values(self.observation_space, observation)
        size, agent = len(nested.leaves(observation)[0]), self.policy
        actions = action_codec(self.action_space)
        if state is None:
            state = PredictState(agent.initial_state(size), torch.zeros(size, actions.size))
            first = torch.ones(size, dtype=torch.bool)
        elif episode_start is None:
            first = torch.zeros(size, dtype=torch.bool)
        else:
            first = torch.as_tensor(np.asarray(episode_start, dtype=bool)).reshape(size)
        with self._noise():
            row = _row(agent, observation, first, state)
            thought, mind = agent.step(row, state.mind)
            policy: Any = agent.policy(thought)
            if action_masks is not None:
                allowed = torch.as_tensor(action_masks).bool().reshape(size, -1)
                policy = policy.restricted(allowed.to(thought.device))
            by_mode = deterministic and self.has_learned
            code = (policy.mode if by_mode else draw(policy)).cpu()
        chosen = actions.decode(code).numpy().astype(self.action_space.dtype)
        return (chosen[0] if one else chosen), PredictState(mind, code)

    def dream(
        self,
        num_envs: int = 1,
        horizon: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> DreamVectorEnv:
        """Dreams side by side, as a `gymnasium.vector.VectorEnv`.

        horizon: steps after which a dream is truncated, by default those of the real environment,
            or those of the policy's training; options: of `DreamVectorEnv`.
        """
        dream = self.components.dream(horizon or self.world.time_limit)
        return DreamVectorEnv(dream, num_envs, autoreset_mode=autoreset_mode, **options)

    def log_prob(
        self, episodes: EpisodeSource, bound: str = "iwae", num_particles: int = 16
    ) -> np.ndarray:
        """log p(observations, rewards, ends | actions) of whole episodes, or a lower bound of it,
        [episodes] nats (a density where observations are numbers).

        bound, num_particles: of `worldmodel.BOUNDS`; exact where the model has no latents.
        """
        encoder = self.components.image_encoder
        read = episodes if encoder is None else encoded(episodes, encoder)
        with OwnNoise(self.config.seed)():
            return scoring.log_prob(
                self.model, self.components.actions, read, bound, num_particles
            )

    def evaluate(
        self, episodes: int = 100, deterministic: bool = True, seed: int | None = None
    ) -> EpisodeStats:
        """Plays whole episodes in the real environment; returns their returns, lengths and ends.

        deterministic: acts by the mode of the policy.
        """
        seed = evaluation_seeds(self.config.seed)[1] if seed is None else seed
        agent = Greedy(self.policy) if deterministic and self.has_learned else self.policy
        return self.world.play(agent, episodes, seed)

    def save(self, path: str | Path) -> None:
        """Writes the agent and its episodes into a folder: a run, as the command line makes them.

        An agent that was saved there before is replaced; any other folder is left alone.
        """
        target = Path(path)
        if self._recorder is not None and target.resolve() == self._recorder.folder.path.resolve():
            self._recorder.save(self.training)
            return
        if target.exists():
            _opened(target)  # refuses others
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        folder = _new_folder(part, self.config, self.world, self._asked)
        with closing(DiskStore(folder.episodes)) as store:
            _copy(self.training.store, store)
        Recorder(folder).save(self.training)
        put_in_place(part, target)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: Environment | None = None,
        trust: bool = False,
        device: str | None = None,
    ) -> "WorldModelAgent":
        """Loads a saved agent, or a run of `worldmodel train control` or `toy-game`.

        env: the environment, for agents that were not made with an id, or to go on in another one.
        Without it, the saved id is made when an environment is first needed.
        trust: whether that may run code of a module that the run names, though it was not made
        here (docs/trust.md); without it whatever needs no environment works.
        device: where it is to compute (see `__init__`); None: where it did, if that is here.
        """
        folder = _opened(Path(path), Trust(is_whole=trust)).kept()
        with naming_damage(folder.path):
            return cls._of(folder, env, device)

    @classmethod
    def _of(
        cls, folder: RunFolder, env: Environment | None, device: str | None
    ) -> "WorldModelAgent":
        """The agent of a folder."""
        saved, checkpoint = folder.description.config, folder.checkpoint()
        config = cattrs.structure(saved["agent"], AgentConfig)
        world = world_from(saved["environment"], *read_spaces(folder.episodes), folder)
        world = world._replace(is_recorded=saved.get("data") is not None)
        if env is not None:
            world = world._replace(source=EnvironmentSource(env))
        agent = cls.__new__(cls)
        agent._recorder = None
        own = cattrs.structure(saved.get("computing", {}), DeviceConfig).device
        asked = own if device is None else device
        place = find_device(asked, warnings.warn if device is None else None)
        agent._begin(config, world, MemoryStore(), asked, place)
        if checkpoint.values["added"]:
            finished = checkpoint.values["finished"]
            store = DiskStore(folder.episodes, writable=False, as_of=finished)
            _copy(store, agent.training.store)
        agent.training.restore(checkpoint)
        return agent


class _Callbacks(Watcher):
    """Reports the progress of learning to a user's callbacks."""

    def __init__(self, agent: WorldModelAgent, callbacks: Sequence[Callback]):
        self.agent = agent
        self.callbacks = callbacks

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        progress = Progress(self.agent, stage.kind, stage.round, job.done, stage.units, metrics)
        return all([callback(progress) is not False for callback in self.callbacks])


def _row(agent: Agent, observation: Any, first: Tensor, state: PredictState) -> Row:
    """The row that an observation belongs to, with the reward that the agent expects of it."""
    zero = torch.zeros(len(first))
    action = state.action.masked_fill(first[:, None], 0.0)
    row = Row(first, action, as_tensors(observation, zero.dtype), zero, torch.zeros_like(first))
    reward = agent.expected_reward(row, state.mind).to(first.device)
    return row._replace(reward=reward.masked_fill(first, 0.0))


def _world_of(
    env: Environment | None,
    patience: float | None,
    observation_space: spaces.Space | None,
    action_space: spaces.Space | None,
    data: EpisodeSource | None,
) -> World:
    """The world of an agent, from the arguments of `WorldModelAgent`."""
    if env is None:
        if data is None or observation_space is None or action_space is None:
            raise ValueError(
                "there is nothing to learn from: pass an environment, or data=, "
                "observation_space= and action_space="
            )
        return World(observation_space, action_space, is_recorded=True, data=data)
    source = EnvironmentSource(env, patience=patience)
    for note in source.notes:
        warnings.warn(note, stacklevel=3)
    one = source.one()
    shown = (one.observation_space, one.action_space)
    shut(one)
    return World(*shown, source, is_recorded=data is not None, data=data)


def world_from(
    saved: Mapping[str, Any],
    observation_space: spaces.Space,
    action_space: spaces.Space,
    folder: RunFolder | None = None,
) -> World:
    """The world of a saved agent; its environment, if it had an id, is not made before it is
    needed.

    saved: an `EnvironmentConfig` as JSON has it; folder: see `source_from`.
    """
    options = dict(saved)
    counts = {name: options.pop(name) for name in ("num_envs", "workers") if name in options}
    return World(observation_space, action_space, source_from(options, folder), **counts)


def _new_folder(path: Path, config: AgentConfig, world: World, device: str | None) -> RunFolder:
    """The folder of a new run of an agent. Its configured steps are those of the first collection;
    later ones are in its checkpoints."""
    source = world.source
    environment: dict[str, Any] = {"num_envs": world.num_envs, "workers": world.workers}
    if source is not None and isinstance(source.env, str):
        arguments = json.dumps(dict(source.arguments or {}))
        environment |= {"env": source.env, "arguments": arguments}
        environment |= {"env_path": folder_of(source.env), "patience": source.patience}
        environment |= source.options
    described = {
        "environment": environment,
        "steps": config.collect.prefill,
        "data": GIVEN if world.is_recorded else None,
        "agent": cattrs.unstructure(config),
        "computing": {"device": device},
        "curve_episodes": 0,
    }
    folder = RunFolder.create(path, EXPERIMENT, described)
    if source is None or not source.refusal:
        remember(folder.config_file)
    write_spaces(folder.episodes, world.observation_space, world.action_space)
    return folder


def _opened(path: Path, trust: Trust = Trust()) -> RunFolder:
    """The folder of an agent; others are refused."""
    folder = RunFolder.open(path, trust)
    if "agent" not in folder.description.config:
        raise RunError(f"{path} is a run of {folder.experiment}, not of an agent")
    return folder


def _copy(source: EpisodeStore, target: EpisodeStore) -> None:
    """Adds all episodes of a store to another one, with their weights."""
    places = np.arange(len(source))
    for weight in np.split(places, np.flatnonzero(np.diff(source.weights)) + 1):
        for portion in source.portions(weight):
            target.add(portion, float(source.weights[weight[0]]))
