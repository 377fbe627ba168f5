"""The options of reinforcement learning: an agent, its environment, its evaluation."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from worldmodel.agents import AgentConfig
from worldmodel.agents.config import (
    CollectConfig,
    ImageConfig,
    LearningConfig,
    ModelConfig,
    PolicyConfig,
)
from worldmodel.agents.presets import beginning
from worldmodel.names import BoundName
from worldmodel.options import (
    ADVANCED,
    DeviceConfig,
    check_threads,
    not_negative,
    positive,
    wished_threads,
)


@dataclass(frozen=True)
class EnvironmentConfig:
    """The real environment."""

    env: str | None = None
    """Gymnasium id, or module:id; the module is installed, or lies in the current directory."""
    env_path: str | None = None
    """Folder of that module, instead of the current directory. A run records where the module was
    found, and imports it from there."""
    arguments: str = "{}"
    """Arguments of the environment's constructor, as JSON."""
    action_repeat: int = 1
    """Steps that each action is repeated for; rewards are summed."""
    time_limit: int | None = None
    """Steps of the environment itself (repeated actions count) after which an episode is
    truncated; by default as it is registered."""
    hide: tuple[int, ...] = ()
    """Indices of numbers that are left out of a vector of observations."""
    hidden_velocities: bool = False
    """Observe positions only, where it is known which numbers are velocities."""
    keys: tuple[str, ...] = ()
    """Keys of a dictionary of observations that are kept; by default all."""
    pixels: int | None = None
    """Observe the rendered image instead, with so many pixels a side."""
    resize: int | None = None
    """Resize images among the observations to so many pixels a side."""
    grayscale: bool = False
    """Convert images among the observations to grey."""
    num_envs: int = 1
    """Copies of the environment that are stepped side by side while collecting."""
    workers: int = 0
    """Processes that share the copies; 0: this one."""
    patience: float | None = None
    """Seconds that a step or a reset may take: then the process is replaced, or without --workers
    all ends. By default 60, and 300 without --workers."""

    def __post_init__(self) -> None:
        module = (self.env or "").rpartition(":")[0]
        if module and not all(word.isidentifier() for word in module.split(".")):
            raise ValueError(
                f"--env expects an id, or module:id such as envs.mine:Mine-v0, got {self.env}"
            )
        positive(self, "action_repeat", "num_envs")
        not_negative(self, "workers")
        given = [name for name in ("time_limit", "patience") if getattr(self, name) is not None]
        positive(self, *given)
        for name in ("pixels", "resize"):
            side = getattr(self, name)
            if side is not None and not 16 <= side <= 256:
                raise ValueError(f"--{name} is between 16 and 256 pixels a side, got {side}")


@dataclass(frozen=True)
class CollectorsConfig:
    """Collectors: processes that play the real environment while the run learns."""

    collectors: int = 0
    """Processes that play, each --num-envs copies, as actors of Ray (the extra ray), here or on
    other machines; 0: this process. One plays the same rows. Several play on while the run learns,
    and send whole episodes (docs/scaling.md)."""
    ray: str | None = None
    """Address of the Ray cluster, such as auto; by default one is started on this machine."""
    collector_resource: str | None = None
    """Ray resource that each collector takes one of, where only some machines have the
    environment; it is evaluated in there, too (one more)."""

    def __post_init__(self) -> None:
        not_negative(self, "collectors")
        if not self.collectors and (self.ray, self.collector_resource) != (None, None):
            raise ValueError(
                "--ray and --collector-resource say where collectors are: give --collectors, too"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """The evaluation of a run."""

    episodes: int = 100
    """Real episodes, and dreamt ones, of the greedy agent."""
    held_out: int = 20
    """Held-out episodes that the world model is scored on: played for that alone, or of --data."""
    held_out_agent: str = "exploring"
    """Agent that plays them. exploring: the agent as it collects; random: actions at random."""
    bound: BoundName = "iwae"
    """Bound that is reported, by its name in `worldmodel.BOUNDS`: the mean of K bounds (elbo), the
    importance-weighted (iwae) or the filtering one (fivo)."""
    bound_particles: int = 16
    """Particles of that bound, K."""

    def __post_init__(self) -> None:
        positive(self, "bound_particles", "episodes", "held_out")
        if self.held_out_agent not in ("exploring", "random"):
            raise ValueError(f"--held-out-agent is exploring or random, got {self.held_out_agent}")
        if self.episodes < 2 or self.held_out < 2:
            raise ValueError(
                "--episodes and --held-out must be 2 or more (there is no standard error of "
                f"one), got {self.episodes} and {self.held_out}"
            )


@dataclass(frozen=True)
class RLConfig:
    """Any Gymnasium environment: collect, learn a world model, train a policy in its dream.

    The run folder holds config.json, metrics.jsonl, checkpoints/ and episodes/ (the replay);
    Ctrl-C saves, and `worldmodel resume` goes on from there, to the last bit.

    `--preset dreamerv3` begins with the options of DreamerV3; those that are given besides change
    them.
    """

    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    steps: int = 5_000
    """Steps of the real environment, in total."""
    data: str | None = None
    """Recorded episodes to learn from instead of playing: a Minari data set, a folder of episodes,
    a store or a run. --env is then needed for the real evaluation only, and --steps sets how
    much is learned, as if so many steps had been played."""
    agent: Annotated[AgentConfig, ADVANCED] = field(default_factory=AgentConfig)
    evaluation: Annotated[EvaluationConfig, ADVANCED] = field(default_factory=EvaluationConfig)
    curve_episodes: int = 20
    """Real episodes after each round, for the learning curve, or where they have less than 250
    steps on average up to five times as many; 0: none."""
    stop_at: float | None = None
    """Return that ends training before all steps are taken: once the mean of an evaluation of the
    learning curve has been as high three times in a row (resume --stop-at inf goes on)."""
    keep: Literal["last", "best"] = "best"
    """What is loaded, evaluated and shown of the run: the policy and model that it ended with, or
    those of the best evaluation of the learning curve, or of a later one that is worse by no more
    than their standard error (without a curve: the last). `resume` goes on from the last."""
    film: bool = False
    """Film the real game and the dream when all is learned."""
    threads: int = field(default_factory=wished_threads)
    """Threads of the processor, by default OMP_NUM_THREADS or 1; the same number gives the same
    bits."""
    computing: DeviceConfig = field(default_factory=DeviceConfig)
    collecting: Annotated[CollectorsConfig, ADVANCED] = field(default_factory=CollectorsConfig)
    checkpoint_seconds: float = 30.0
    """Time between checkpoints (there is one after every stage, too)."""

    def __post_init__(self) -> None:
        check_threads(self)
        positive(self, "steps", "checkpoint_seconds")
        not_negative(self, "curve_episodes")
        if self.collecting.collectors and self.data is not None:
            raise ValueError("--data is learned from instead of playing: leave out --collectors")
        if self.collecting.collectors and self.environment.workers:
            raise ValueError(
                "--collectors are processes already, which are replaced when they die: leave out "
                "--workers"
            )
        if self.stop_at is not None and math.isnan(self.stop_at):
            raise ValueError("--stop-at is a return (inf: never), got nan")
        is_watched = self.curve_episodes > 0 and self.data is None
        if not is_watched and self.stop_at is not None:
            raise ValueError(
                "--stop-at goes by the evaluations in training: leave out --data, and give "
                "--curve-episodes 1 or more"
            )


def with_preset(config: RLConfig, name: str) -> RLConfig:
    """The options with those of an agent's preset."""
    return replace(config, agent=beginning(name))


def quick(config: RLConfig) -> RLConfig:
    """The options of a run so small that it ends within seconds and learns next to nothing."""
    agent = config.agent
    return replace(
        config,
        environment=replace(config.environment, num_envs=min(8, config.environment.num_envs)),
        steps=90,
        agent=replace(
            agent,
            images=replace(
                agent.images,
                vae_latent=4,
                vae_hidden=8,
                vae_width=2,
                vae_updates=4,
                vae_batch_size=8,
            ),
            model=replace(agent.model, hidden_size=4, decoder_hidden=16, latent=4),
            collect=replace(agent.collect, prefill=50, collect_steps=20),
            learning=replace(
                agent.learning, first_updates=4, update_ratio=0.1, window=8, batch_size=8
            ),
            policy=replace(
                agent.policy,
                first_rollouts=4,
                rollout_ratio=0.1,
                num_imagined=8,
                rollout_length=4,
                horizon=10,
                policy_hidden=16,
            ),
        ),
        evaluation=replace(config.evaluation, episodes=2, held_out=2, bound_particles=2),
        curve_episodes=min(2, config.curve_episodes),
    )


TOY_GAME = RLConfig(
    environment=EnvironmentConfig("worldmodel/ToyGame-v0", num_envs=512),
    steps=60_000,
    agent=AgentConfig(
        model=ModelConfig(core="srnn", hidden_size=192, decoder_hidden=192, recurrence="default"),
        collect=CollectConfig(
            prefill=40_000, collect_steps=10_000, greedy_every=0, policy_weight=1.25
        ),
        learning=LearningConfig(
            first_updates=500,
            update_ratio=0.125,
            window=64,
            batch_size=16,
            from_start=0.75,
            burn_in=0,
            learning_rate=0.02,
            weight_decay=0.4,
            clip_norm=0.3,  # of the order of an ordinary update; the first ones are far larger
            dropout=0.2,
            ema_decay=0.99,
        ),
        policy=PolicyConfig(
            method="all-actions",
            first_rollouts=50,
            rollout_ratio=0.0125,
            epochs=8,
            minibatches=1,
            dream_starts="initial",
            num_imagined=256,
            rollout_length=16,
            horizon=25,
            policy_learning_rate=0.001,
            discount=0.98,
            policy_ema_decay=0.0,
            entropy=0.6,
            final_entropy=1 / 30,
            least_entropy=0.0,
            normalise_returns=False,
        ),
        images=ImageConfig(),
    ),
    evaluation=EvaluationConfig(
        episodes=2_000, held_out=400, held_out_agent="random", bound_particles=100
    ),
    curve_episodes=0,
    film=True,
)
"""The preset of `worldmodel train toy-game`."""
