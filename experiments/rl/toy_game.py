"""The main job: learn the toy game from play, dream it, train a policy in the dream.

    worldmodel train toy-game --out RUN          about four minutes on two cores

Rounds of three stages: collect (a uniform agent first, then the policy so far), learn (the world
model, from all that was collected), improve (the policy, in the dream alone). What to expect of
the result stands in docs/results.md.
"""

import inspect
import math
from pathlib import Path
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worldmodel import (
    CORES,
    ELBO,
    FIVO,
    IWAE,
    Agent,
    Believer,
    Dream,
    Episodes,
    GenCore,
    Objective,
    Replay,
    Trainer,
    WorldModel,
    action_codec,
    cosine,
    cyclical,
    half_life,
    kl_closed_form,
    kl_monte_carlo,
    linear,
    model_for,
    nested,
)
from worldmodel.agents import ActorCritic, Critic, EveryAction, Policy, Uniform
from worldmodel.agents.policy_gradient import PolicyGradient
from worldmodel.checkpoint import Checkpoint
from worldmodel.envs import Action, GymEnvironment, ToyGame, ToyGameView, draw_ring, ring_text
from worldmodel.experiments.data.spaces import write_spaces
from worldmodel.experiments.rl.toy_game_config import ToyGameConfig
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.progress import Reporter
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.stages import Stage, Told, newest_checkpoint
from worldmodel.experiments.runs.stages import Training as Run
from worldmodel.run_folder import RunFolder

FINITE_REWARDS = 16  # rewards that take more values than this have a density


class Parts:
    """What a run consists of: the world model, its policy, and the worlds they face."""

    def __init__(self, config: ToyGameConfig, reward_support: list[float] | None):
        self.config = config
        self.reward_support = reward_support
        game = ToyGame(**_game(config))
        self.time_limit: int = cast(int, game.time_limit)
        self.observation_space, self.action_space = game.observation_space, game.action_space
        self.actions = action_codec(game.action_space)
        self.model = self._model()
        self.policy = Policy(self.model.belief_size, self.actions)
        self.critic = Critic(self.model.belief_size, scale=10.0)  # of the order of an episode
        for module in self.modules.values():
            module.eval()
        self.agent = Believer(self.model, self.policy)

    def __repr__(self) -> str:
        return run_name("toy-game", self.model)

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        return {"model": self.model, "policy": self.policy, "critic": self.critic}

    def environment(self, copies: int = 1, seed: int | None = None) -> GymEnvironment:
        """The real game, `copies` side by side."""
        return real_environment(self.config, copies, seed)

    def dream(self, horizon: int | None = None) -> Dream:
        """The game as the model dreams it, with the real game's time limit unless told."""
        horizon = horizon or self.time_limit
        return Dream(self.model, horizon, self.observation_space, self.action_space)

    has_environment = True
    hides = True  # the player sees one cell; the others are to be found out

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the actions are called, in their order."""
        return tuple(action.name.lower() for action in Action)

    pace = float(ToyGame.metadata["render_fps"])  # rows a second

    def shown_environment(self, seed: int) -> GymEnvironment:
        """One real game, whose truth is in its `info`."""
        return self.environment(1, seed)

    def picture(self, environment: GymEnvironment, mode: str) -> Any:
        """The true ring: an image, or text."""
        info, classes = environment.info, self.config.game.classes
        draw = draw_ring if mode == "rgb_array" else ring_text
        return draw(np.eye(classes)[info["ring"][0]], int(info["position"][0]))

    def view(self) -> ToyGameView:
        """Shows the ring that the model believes in."""
        return ToyGameView(self.model, self.config.game.width, self.config.game.classes)

    def objective(self, agent: Agent, critic: Critic) -> PolicyGradient:
        """How the policy is trained."""
        told = self.config.policy
        updates = told.rollouts * told.epochs
        entropy = half_life(told.entropy, updates / math.log2(30))
        core = GenCore(self.dream(min(told.horizon, self.time_limit)), agent)
        sizes = (told.dreams, told.length)
        if told.method == "every-action":
            return EveryAction(core, *sizes, critic, told.discount, entropy)
        if told.method == "actor-critic":
            return ActorCritic(core, *sizes, critic, told.discount, told.trace, entropy)
        return ActorCritic(core, *sizes, None, told.discount, 1.0, entropy)

    def _model(self) -> WorldModel:
        told = self.config.model
        known = set(inspect.signature(CORES[told.core]).parameters) - {"hidden"}
        options: dict[str, Any] = {
            key: value for key, value in vars(told).items() if key in known and value != "default"
        }
        return model_for(
            self.observation_space,
            self.action_space,
            told.core,
            told.hidden,
            self.reward_support,
            dropout=self.config.learning.dropout,
            **options,
        )


def _game(config: ToyGameConfig) -> dict[str, Any]:
    told = config.game
    return {"width": told.width, "classes": told.classes, "task": told.task}


def real_environment(config: ToyGameConfig, copies: int, seed: int | None) -> GymEnvironment:
    """The real game, `copies` side by side."""
    vector_env = gymnasium.make_vec("worldmodel/ToyGame-v0", copies, **_game(config))
    return GymEnvironment(vector_env, seed)


def reward_support(rewards: np.ndarray, first: np.ndarray) -> list[float] | None:
    """The values that rewards take, if they are few; None if a density fits them better."""
    values = np.unique(rewards[~first])
    return [float(v) for v in values] if 0 < len(values) <= FINITE_REWARDS else None


def stages(config: ToyGameConfig) -> list[Stage]:
    """The whole job in order; the first collection is done before a model can be built."""
    rounds = config.data.rounds
    plan: list[Stage] = []
    for number in range(rounds):
        if number > 0:
            plan.append(Stage("collect", number, 1))
        plan.append(Stage("learn", number, _share(config.learning.updates, number, rounds)))
        plan.append(Stage("improve", number, _share(config.policy.rollouts, number, rounds)))
    return plan


def _share(total: int, number: int, parts: int) -> int:
    """What part `number` of `parts` gets of `total`, in the proportions 1 : 2 : 3 ..."""
    until = [n * (n + 1) * total // (parts * (parts + 1)) for n in (number, number + 1)]
    return until[1] - until[0]


class Training(Run):
    """A run of the toy game in progress."""

    told: ClassVar[dict[str, Told]] = {
        "collect": Told("playing", "phase"),
        "learn": Told("learning", "updates"),
        "improve": Told("dreaming", "rollouts"),
    }

    def __init__(self, folder: RunFolder, reporter: Reporter):
        self.config = config = cast(ToyGameConfig, config_of(folder))
        super().__init__(folder, reporter, config.checkpoint_seconds)
        torch.set_num_threads(config.threads)
        self.stages, self.rounds = stages(config), config.data.rounds
        self.rounds_played = 1
        self.seeds = np.random.SeedSequence(config.seed).spawn(2 + config.data.rounds)
        episodes = self._first_episodes()
        torch.manual_seed(config.seed)
        first = np.zeros(len(episodes.columns["reward"]), dtype=bool)
        first[episodes.starts] = True
        self.parts = Parts(config, reward_support(episodes.columns["reward"], first))
        self.replay = Replay(self.parts.actions, self.seeds[0])
        self.replay.add(episodes)
        model, told = self.parts.model, config.learning
        self.learner = Trainer(
            self._bound(),
            model.parameters(),
            cosine(told.learning_rate, told.learning_rate / 8, told.updates),
            weight_decay=told.weight_decay,
            clip_norm=0.3,  # of the order of an ordinary update; the first ones are far larger
            autocast=told.precision == "bfloat16",
        )
        average = get_ema_multi_avg_fn(told.averaging)
        self.average = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        if told.compile:
            model.core.compile_steps()
        self.objective = self.parts.objective(self.parts.agent, self.parts.critic)
        actors = [*self.parts.policy.parameters(), *self.parts.critic.parameters()]
        updates = config.policy.rollouts * config.policy.epochs
        rate = cosine(config.policy.policy_rate, config.policy.policy_rate / 20, updates)
        self.improver = Trainer(self.objective, actors, rate, clip_norm=1.0)
        self.dreams = self.objective.start()

    def _bound(self) -> Objective:
        """What the model learns by."""
        told, model = self.config.learning, self.parts.model
        if told.learning_bound == "iwae":
            return IWAE(model, told.learning_particles)
        if told.learning_bound == "fivo":
            gradient = told.resampling_gradient
            return FIVO(model, told.learning_particles, resampling_gradient=gradient)
        weight = linear(0.0, told.kl_weight, told.kl_warmup)
        if told.kl_half_cycle:
            weight = cyclical(told.kl_weight, told.kl_half_cycle, told.kl_freeze)
        kl = kl_monte_carlo if told.kl_estimate == "monte-carlo" else kl_closed_form
        particles, free = told.learning_particles, told.free_nats
        return ELBO(model, weight, kl, particles, free, told.kl_balance)

    def work(self, stage: Stage) -> str:
        units = {"collect": self._collect, "learn": self._learn, "improve": self._improve}
        return units[stage.kind](stage)

    def end_stage(self) -> None:
        self.dreams = self.objective.start()

    def _collect(self, stage: Stage) -> str:
        steps = _share(self.config.data.policy_steps, stage.round - 1, self.config.data.rounds - 1)
        episodes = self._play(self.parts.agent, steps, stage.round)
        self.replay.add(episodes, self.config.data.policy_weight)
        self.rounds_played += 1
        return f"{len(episodes)} episodes, {episodes.steps} steps"

    def _learn(self, stage: Stage) -> str:
        told = self.config.learning
        batch = self.replay.sample(told.window, told.batch_rows, told.from_start)
        self.parts.model.train()
        metrics = self.learner.update(batch)
        self.parts.model.eval()
        self.average.update_parameters(self.parts.model)
        if self.done + 1 == stage.units:
            self.parts.model.load_state_dict(self.average.module.state_dict())
        self.log(stage, **metrics)
        return f"loss {metrics['loss']:.4f} nats per step"

    def _improve(self, stage: Stage) -> str:
        rollout, self.dreams = self.objective.roll(self.dreams)
        for _ in range(self.config.policy.epochs):
            metrics = self.improver.update(rollout)
        self.log(stage, **metrics)
        return f"value {metrics['value']:.2f}, entropy {metrics['entropy']:.2f}"

    def _first_episodes(self) -> Episodes:
        """What the uniform agent plays: before anything else, and only once."""
        file = self._episodes_file(0)
        if file.exists():
            return Episodes.load(file)
        torch.manual_seed(self.config.seed)
        space = ToyGame(**_game(self.config)).action_space
        with self.reporter.stage("playing at random", 1, 0, "phase") as progress:
            self.folder.truncate_metrics(0)
            episodes = self._play(Uniform(space), self.config.data.uniform_steps, 0)
            progress.update(1, f"{len(episodes)} episodes, {episodes.steps} steps")
        return episodes

    @torch.no_grad()
    def _play(self, agent: Agent, steps: int, number: int) -> Episodes:
        """About `steps` steps of the real game, in environments of their own; saved."""
        seed = int(self.seeds[2 + number].generate_state(1)[0])
        copies = min(self.config.data.copies, steps)
        environment = real_environment(self.config, copies, seed)
        core = GenCore(environment, agent)
        sequences, _, _ = core.generate(steps // copies, core.initial_state(copies))
        environment.close()
        episodes = Episodes.cut(sequences, core.actions)
        solved = float(episodes.columns["terminated"].sum()) / len(episodes)
        counts = {"episodes": len(episodes), "steps": episodes.steps, "solved": solved}
        self.log(Stage("collect", number, 1), **counts)
        write_spaces(self.folder.episodes, environment.observation_space, environment.action_space)
        episodes.save(self._episodes_file(number))
        return episodes

    def _episodes_file(self, number: int) -> Path:
        return self.folder.episodes / f"round-{number}.npz"

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        return self.parts.modules | {"average": self.average}

    def tensors(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "improver": self.improver.state_dict(),
            "dreams": nested.leaves(self.dreams),
        }

    def values(self) -> dict[str, Any]:
        return {
            "replay": self.replay.state_dict(),
            "rounds_played": self.rounds_played,
            "reward_support": self.parts.reward_support,
            "real_steps": self.replay.steps,
        }

    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        self.rounds_played = values["rounds_played"]
        for number in range(1, self.rounds_played):
            episodes = Episodes.load(self._episodes_file(number))
            self.replay.add(episodes, self.config.data.policy_weight)
        self.replay.load_state_dict(values["replay"])
        self.learner.load_state_dict(tensors["learner"])
        self.improver.load_state_dict(tensors["improver"])
        self.dreams = nested.fill(self.dreams, tensors["dreams"])


def load_run(folder: RunFolder) -> tuple[Parts, Checkpoint]:
    """A run as its newest checkpoint left it."""
    config, checkpoint = cast(ToyGameConfig, config_of(folder)), newest_checkpoint(folder)
    parts = Parts(config, checkpoint.values["reward_support"])
    checkpoint.load(parts.modules)
    for module in parts.modules.values():
        module.requires_grad_(False)
    return parts, checkpoint


def load(path: str | Path) -> Parts:
    """A run's model, agent, real environment and dream, for scripts.

    run = experiments.load("runs/demo"); run.model, run.agent, run.environment(), run.dream()
    """
    return load_run(RunFolder.open(Path(path)))[0]
