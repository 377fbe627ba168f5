"""An agent that learns a world model and a policy in its dream, used like stable-baselines3's."""

from collections.abc import Callable, Sequence
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
    MemoryStore,
    Row,
    WorldModel,
    nested,
)
from worldmodel.agents.components import Components
from worldmodel.agents.config import AgentConfig
from worldmodel.agents.training import AgentTraining, World
from worldmodel.agents.uniform import Uniform
from worldmodel.checkpoint import load_newest
from worldmodel.distributions import draw
from worldmodel.envs import DreamVectorEnv, EnvironmentSource
from worldmodel.envs.observations import as_tensors, check_values
from worldmodel.job import Metrics, Watcher
from worldmodel.likelihoods import BOUNDS
from worldmodel.noise import OwnNoise
from worldmodel.options import with_options
from worldmodel.recorder import Recorder
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.space_json import read_spaces

EXPERIMENT = "agent"  # in config.json of saved agents
AT_ONCE = 16_384  # rows times particles that are scored together

Environment = str | gymnasium.Env | Callable[[], gymnasium.Env]


class Progress(NamedTuple):
    """What a callback is told after each unit of learning."""

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
        seed: int = 0,
        config: AgentConfig | None = None,
        folder: str | Path | None = None,
        data: EpisodeSource | None = None,
        num_envs: int = 1,
        workers: int = 0,
        observation_space: spaces.Space | None = None,
        action_space: spaces.Space | None = None,
        **options: Any,
    ):
        """env: a Gymnasium id, `module:id`, an environment, or a function that makes one.

        config: all options; options: single ones by name, such as core="rssm", hidden_size=64 (see
            `AgentConfig` and its groups; `worldmodel train control --help` lists them, too).
        folder: of a run that is to be written: metrics.jsonl, checkpoints, episodes.
        data: recorded episodes to learn from instead of playing; `total_timesteps` then tells how
            much is learned, as if so many steps had been played.
        num_envs, workers: copies of the environment that are played side by side while collecting,
            and processes that share them (not where `env` is an environment).
        observation_space, action_space: of `data`, where there is no `env`.

        Raises ValueError or TypeError for an environment or options that cannot be learned with.
        """
        self.config = with_options(config or AgentConfig(), {"seed": seed, **options})
        world = world_of(env, observation_space, action_space)
        world = world._replace(num_envs=num_envs, workers=workers, data=data)
        self.folder = None if folder is None else _new_folder(Path(folder), self.config, world)
        store: EpisodeStore = MemoryStore()
        if self.folder is not None:
            store = DiskStore(self.folder.episodes)
        self._recorder = None if self.folder is None else Recorder(self.folder)
        self.training = AgentTraining(self.config, world, store)
        self._untrained = OwnNoise(seed)  # of `predict` before anything was learned
        self._acting = OwnNoise(seed + 1)

    @property
    def world(self) -> World:
        """The environment that is learned, its spaces, and how many copies collect."""
        return self.training.world

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
        """Whether there is a model; before, `predict` acts at random."""
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
            watchers.append(_ProgressBar())
        self.training.run(*watchers)
        return self

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: PredictState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, PredictState]:
        """The actions after an observation, or after one of each of B games side by side, and the
        state to be passed with the next one.

        state: of the last call, None at the beginning; episode_start: bool [B], games whose
        observation is the first of an episode. The last actions are taken to be those that this
        method returned, and the last rewards those that the model expects.
        """
        is_one = _is_one(observation, self.observation_space)
        batch = nested.map(lambda leaf: np.asarray(leaf)[None], observation) if is_one else observation
        size = len(nested.leaves(batch)[0])
        check_values(self.observation_space, batch)
        agent, actions = self.policy, self.training.actions
        if state is None:
            state = PredictState(agent.initial_state(size), torch.zeros(size, actions.size))
            first = torch.ones(size, dtype=torch.bool)
        elif episode_start is None:
            first = torch.zeros(size, dtype=torch.bool)
        else:
            first = torch.as_tensor(np.asarray(episode_start, dtype=bool)).reshape(size)
        with self._acting():
            row = self._row(batch, first, state)
            thought, mind = agent.step(row, state.mind)
            policy = agent.policy(thought)
            code = policy.mode if deterministic else draw(policy)
        chosen = actions.decode(code).numpy().astype(self.action_space.dtype)
        return (chosen[0] if is_one else chosen), PredictState(mind, code)

    def _row(self, observation: Any, first: Tensor, state: PredictState) -> Row:
        """The row that an observation belongs to, with the reward that the model expects of it."""
        zero = torch.zeros(len(first))
        shown = as_tensors(observation, zero.dtype)
        action = state.action.masked_fill(first[:, None], 0.0)
        row = Row(first, action, shown, zero, torch.zeros_like(first))
        reward = self.policy.expected_reward(row, state.mind)
        return row._replace(reward=reward.masked_fill(first, 0.0))

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
        limit = None if self.world.source is None else self.world.source.time_limit
        dream = self.components.dream(horizon or limit)
        return DreamVectorEnv(dream, num_envs, autoreset_mode=autoreset_mode, **options)

    @torch.no_grad()
    def log_prob(
        self, episodes: EpisodeSource, bound: str = "iwae", num_particles: int = 16
    ) -> np.ndarray:
        """log p(observations, rewards, ends | actions) of whole episodes, or a lower bound of it,
        [episodes] nats (a density where observations are numbers).

        bound, num_particles: of `worldmodel.BOUNDS`; exact where the model has no latents.
        """
        encoder = self.components.image_encoder
        read = episodes if encoder is None else encoded(episodes, encoder)
        found = np.empty(len(read))
        with OwnNoise(self.config.seed)():
            for group in read.side_by_side(ROWS_AT_ONCE):
                sequences = read.sequences(self.components.actions, group)
                by_key = BOUNDS[bound](self.model, sequences, num_particles)
                nats = torch.stack([value.double() for value in by_key.values()]).sum((0, 1))
                found[group] = nats.numpy()
        return found

    def evaluate(
        self, episodes: int = 100, deterministic: bool = True, seed: int | None = None
    ) -> EpisodeStats:
        """Plays whole episodes in the real environment, whose returns, lengths and ends it gives.

        deterministic: acts by the mode of the policy.
        """
        limit = None if self.world.source is None else self.world.source.time_limit
        copies = self.world.side_by_side(min(episodes, COPIES) if limit else episodes)
        seed = self.training.evaluation_seeds[1] if seed is None else seed
        environment = self.world.environment(copies, seed)
        agent = Greedy(self.policy) if deterministic and self.has_learned else self.policy
        with OwnNoise(seed)():
            stats = play_episodes(environment, agent, episodes, copies, LONGEST)
        environment.close()
        return stats

    def save(self, path: str | Path) -> None:
        """Writes the agent and its episodes into a folder: a run, as the command line makes them.

        An agent that was saved there before is replaced; any other folder is left alone.
        """
        target = Path(path)
        if (target / "config.json").exists() and RunFolder.open(target).experiment != EXPERIMENT:
            raise RunError(f"{target} is a run of another kind: choose another path")
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        if target.exists() and not (target / "config.json").exists():
            RunFolder.create(target, EXPERIMENT, {})  # refuses a folder that holds something else
        folder = _new_folder(part, self.config, self.world)
        with closing(DiskStore(folder.episodes)) as store:
            for portion, weights in _weighted(self.training.store):
                store.add(portion, weights)
        Recorder(folder).save(self.training)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)

    @classmethod
    def load(cls, path: str | Path, env: Environment | None = None) -> "WorldModelAgent":
        """An agent that was saved, or a run of `worldmodel train control` or `toy-game`.

        env: the environment, for agents that were not made with an id, or to go on in another one;
        nothing of the folder is imported before an environment is made.
        """
        folder = RunFolder.open(Path(path))
        config = cattrs.structure(folder.description.config.get("agent"), AgentConfig)
        observation_space, action_space = read_spaces(folder.episodes)
        told = dict(folder.description.config["environment"])
        counts = {name: told.pop(name) for name in ("num_envs", "workers") if name in told}
        saved, arguments = told.pop("env", None), told.pop("arguments", "{}")
        source: EnvironmentSource | None = None
        if env is not None:
            source = EnvironmentSource(env)
        elif saved is not None:
            source = EnvironmentSource(saved, arguments_from_json(arguments), **told)
        agent = cls.__new__(cls)
        agent._prepare(config, World(observation_space, action_space, source, **counts), None)
        recorded = DiskStore(folder.episodes, writable=False)
        for portion, weight in _weighted(recorded):
            agent.training.store.add(portion, weight)
        agent.training.restore(load_newest(folder.checkpoints)[0])
        return agent
