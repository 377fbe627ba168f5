"""Any Gymnasium environment: collect, learn a world model, train a policy in its dream, repeat.

    worldmodel train control --env CartPole-v1 --out RUN

Rounds of up to five stages: collect (at random first, then by the policy so far), see (a VAE of
images, where these are what is observed), learn (the world model, from all that was collected),
improve (the policy, in the dream alone), evaluate (real episodes, for the learning curve). What to
expect stands in docs/results.md.
"""

import json
import math
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from worldmodel import (
    ELBO,
    Agent,
    DiskStore,
    Episodes,
    EpisodeStore,
    PerceptDecoder,
    Replay,
    Trainer,
    WorldModel,
    constant,
    cosine,
)
from worldmodel.agents import (
    Uniform,
)
from worldmodel.checkpoint import list_checkpoints
from worldmodel.codecs import FiniteHead
from worldmodel.envs import collect
from worldmodel.envs.observations import check_rewards, check_values
from worldmodel.experiments.data.datasets import (
    HELD_OUT,
    Data,
    open_data,
    portions,
    rewards_of,
    typical,
)
from worldmodel.experiments.data.spaces import read_spaces, write_spaces
from worldmodel.experiments.rl.config import ControlConfig
from worldmodel.experiments.rl.environments import real_environment
from worldmodel.experiments.rl.parts import (
    FINITE_REWARDS,
    LAST_RATE,
    Facts,
    Parts,
    improver_for,
    load_run,
    options_of,
)
from worldmodel.experiments.rl.returns import evaluation_seeds, play_greedily
from worldmodel.experiments.rl.seeing import (
    Sight,
    coded,
    explain,
    seen,
)
from worldmodel.experiments.runs.progress import Reporter
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.stages import Stage, Told
from worldmodel.experiments.runs.stages import Training as Run
from worldmodel.run_folder import RunError, RunFolder, write_text

FEWEST = 4  # recorded episodes


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
        from worldmodel.agents import sb3

        try:
            sb3.check(config.dreaming.algorithm, action_space, options_of(config.dreaming))
        except ValueError as error:
            raise RunError(str(error)) from error


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
        self.config = config = config_of(folder)
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
        return f"loss {metrics['nats']:.2f} nats per image"

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
        return f"loss {metrics['loss']:.4f} nats per step"

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


def load(path: str | Path) -> Parts:
    """A run's model, agent, real environment and dream, for scripts (see `experiments.load`)."""
    return load_run(RunFolder.open(Path(path)))[0]
