"""What the control experiment can be told; see `worldmodel.experiments.rl.toy_game_config`."""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from worldmodel.experiments.rl.toy_game_config import below_one, not_negative, positive, shares

Method = Literal["auto", "actor-critic", "every-action", "dynamics"]
AgentName = Literal["own", "sb3:PPO", "sb3:A2C", "sb3:DQN", "sb3:SAC", "sb3:RecurrentPPO"]


@dataclass(frozen=True)
class EnvironmentConfig:
    """The real environment."""

    env: str | None = None
    """Its Gymnasium id, or module:id; the module may lie in the current directory."""
    env_path: str | None = None
    """The folder of that module. A run remembers where it was found, and its code is run from
    there, if the folder still exists."""
    arguments: str = "{}"
    """Of the environment's own constructor, as JSON."""
    action_repeat: int = 1
    """How often each action is played; rewards are summed."""
    time_limit: int | None = None
    """Its own steps after which an episode is truncated; None: as it is registered."""
    hide: tuple[int, ...] = ()
    """Numbers of a vector that are not shown, by their places."""
    hidden_velocities: bool = False
    """Show positions only, where it is known which numbers are velocities."""
    keys: tuple[str, ...] = ()
    """Of a dictionary of observations, those that are shown; none: all."""
    pixels: int | None = None
    """The rendered image, of so many pixels a side, is the observation."""
    resize: int | None = None
    """Images among the observations get so many pixels a side."""
    grayscale: bool = False
    """Images among the observations lose their colours."""
    copies: int = 1
    """Played side by side while collecting."""
    workers: int = 0
    """Processes that share the copies; 0: this one."""

    def __post_init__(self) -> None:
        positive(self, "action_repeat", "copies")
        for name in ("pixels", "resize"):
            side = getattr(self, name)
            if side is not None and not 16 <= side <= 256:
                raise ValueError(f"--{name} is between 16 and 256 pixels a side, got {side}")
        if self.workers < 0:
            raise ValueError(f"--workers must be 0 or more, got {self.workers}")


@dataclass(frozen=True)
class SeeingConfig:
    """How an observation that is one image is taken in."""

    vae: Literal["frozen", "joint"] = "frozen"
    """frozen: a convolutional VAE learns from the images that were played, and the world is one of
    its codes. joint: the world model learns convolutions itself, and the policy acts on what it
    draws images from, so that none are drawn in dreams (images beside other observations are
    learned jointly, too, but are drawn)."""
    vae_latent: int = 8
    """Numbers of a code (frozen); those that turn out to tell nothing are left at 0."""
    vae_hidden: int = 128
    """Units between convolutions and code, both ways."""
    vae_width: int = 8
    """Channels at the highest resolution."""
    vae_likelihood: Literal["mse", "discretised-logistic"] = "mse"
    """Of pixels (frozen): a Gaussian of fixed scale, or a mass over the 256 levels."""
    vae_std: float = 0.1
    """Of mse, as a share of the full brightness."""
    vae_beta: float = 0.02
    """Weight of the codes' KL divergence (frozen). A small thing that moves over an empty ground
    is worth few nats, and at 1 codes say nothing of it for the first thousand updates."""
    vae_updates: int = 2_000
    """Updates of the VAE after the first collection (frozen, as all that follow)."""
    vae_growth: float = 2.0
    """It learns again as soon as so many times the steps have been played that it has learned
    from: a policy comes to see what chance never saw. What was recorded is then seen anew."""
    vae_batch: int = 64
    """Images of an update."""
    vae_rate: float = 0.002
    """Adam's learning rate, at first; it falls along a cosine."""

    def __post_init__(self) -> None:
        positive(self, "vae_latent", "vae_hidden", "vae_width", "vae_std")
        positive(self, "vae_updates", "vae_batch", "vae_rate")
        if self.vae_beta < 0 or self.vae_growth <= 1:
            raise ValueError(
                "--vae-beta must be 0 or more and --vae-growth above 1, "
                f"got {self.vae_beta} and {self.vae_growth}"
            )


@dataclass(frozen=True)
class WorldConfig:
    """The world model."""

    core: Literal["auto", "rnn", "independent", "vrnn", "srnn", "rssm"] = "auto"
    """The sequence core. auto: rnn, but rssm for images that are learned jointly."""
    memory: int = 16
    """Units of the recurrence. Few of them learn a world that shows nearly all; one that has to be
    remembered wants more."""
    hidden: int = 128
    """Units of the decoder, which reads the memory and what led to the row."""
    latent: int = 16
    """Size of a row's latent (not rnn)."""
    latent_classes: int = 0
    """Values of each of `latent` categoricals; 0: Gaussian latents (rssm only)."""
    recurrence: Literal["default", "gru", "lstm", "normalised-gru", "skip-gru"] = "skip-gru"
    """skip-gru: the decoder reads what the recurrence hears, too, and begins with the observation
    before."""
    layers: int = 1
    """Of the recurrence."""
    history: int = 1
    """Observations that the context holds; some replace a memory."""
    rewards: Literal["auto", "density"] = "auto"
    """auto: a probability of each value, if there are few of them in the first collection."""
    minimum_std: float = 0.01
    """Of a number's density, relative to how far the number varied in the first collection."""

    def __post_init__(self) -> None:
        positive(self, "memory", "hidden", "latent", "layers", "history", "minimum_std")
        if self.latent_classes < 0 or self.latent_classes == 1:
            raise ValueError(
                "--latent-classes is 0 (Gaussian latents) or 2 and more, "
                f"got {self.latent_classes}"
            )


@dataclass(frozen=True)
class CollectingConfig:
    """What is played in the real environment."""

    steps: int = 5_000
    """Steps of the real environment, all in all."""
    prefill: int = 500
    """The first of them, at random."""
    persistence: float = 0.0
    """The probability that the last action is repeated in these: swings what has to be swung."""
    phase: int = 250
    """Steps a round, played by the policy."""

    def __post_init__(self) -> None:
        positive(self, "steps", "prefill", "phase")
        below_one(self, "persistence")
        if self.prefill > self.steps:
            raise ValueError(
                f"--prefill is a part of --steps, got {self.prefill} of {self.steps} steps"
            )


@dataclass(frozen=True)
class WorldLearningConfig:
    """How the world model learns."""

    first_updates: int = 600
    """Updates after the first collection."""
    update_ratio: float = 1.0
    """Updates a real step after it."""
    window: int = 32
    """Rows of a training window, at most."""
    batch_rows: int = 1_024
    """Rows of a batch of windows, on average."""
    from_start: float = 0.25
    """The share of windows that begin at an episode's first row."""
    burn_in: int = 1
    """Rows of a window that begins late that are not scored: it has not seen what came before."""
    learning_rate: float = 0.003
    """Adam's, at first; it falls along a cosine to a tenth."""
    weight_decay: float = 0.0
    """Adam's, decoupled."""
    dropout: float = 0.0
    """The share of features that the decoder does not get to read, in training."""
    kl_weight: float = 1.0
    """Weight of the KL divergence (no metric knows of it)."""
    free_nats: float = 0.0
    """A row's KL divergence below this is not made smaller."""
    kl_balance: float | None = None
    """The share of the KL divergence's gradient that moves the prior; None: the true gradient."""

    def __post_init__(self) -> None:
        positive(self, "first_updates", "update_ratio", "window", "batch_rows", "learning_rate")
        not_negative(self, "burn_in", "weight_decay", "kl_weight", "free_nats")
        shares(self, "from_start", "kl_balance")
        below_one(self, "dropout")


class Rollouts(NamedTuple):
    """What was left open, settled."""

    method: Method
    dreams: int  # side by side
    length: int  # rows
    trace: float  # lambda of the returns


@dataclass(frozen=True)
class DreamingConfig:
    """How the policy is trained, in the dream alone."""

    agent: AgentName = "own"
    """own, or an algorithm of stable-baselines3, unchanged (RecurrentPPO: of sb3-contrib)."""
    agent_arguments: str = "{}"
    """Of that algorithm's own constructor, as JSON, instead of those chosen here (sb3 only)."""
    method: Method = "auto"
    """Our own agent's. actor-critic: the score function of the actions chosen; every-action: each
    is tried in a fork of the dream; dynamics: the gradient through the dream. auto: dynamics for
    actions that are numbers, actor-critic for others."""
    first_rollouts: int = 600
    """Rollouts in the dream after the first collection."""
    rollout_ratio: float = 1.0
    """Rollouts a real step after it; each makes one update."""
    dreams: int | None = None
    """Games dreamt side by side; they begin with beliefs about recorded rows. None: 128, or 256
    for the gradient through the dream."""
    length: int | None = None
    """Rows a rollout. None: 40, or 20 for the gradient through the dream, which farther back is
    mostly noise."""
    horizon: int = 200
    """Steps after which a dream is over and another one begins."""
    policy_hidden: int = 128
    """Units of the policy's and of the critic's layers."""
    policy_rate: float = 0.001
    """Adam's learning rate, at first; it falls along a cosine to a tenth."""
    discount: float = 0.99
    """Of rewards, a step."""
    trace: float | None = None
    """lambda of the returns (not DQN, SAC). None: 0.97, or 0.95 for the gradient through the
    dream."""
    averaging: float = 0.995
    """Decay of the average of our own policy's weights, which is what acts in reality; 0: none."""
    entropy: float = 0.003
    """Weight of the entropy bonus, in units of how far returns lie apart (not DQN, SAC)."""

    def __post_init__(self) -> None:
        positive(self, "first_rollouts", "rollout_ratio", "horizon")
        positive(self, "policy_hidden", "policy_rate", "discount")
        given = [name for name in ("dreams", "length") if getattr(self, name) is not None]
        positive(self, *given)
        not_negative(self, "entropy")
        shares(self, "discount", "trace")
        below_one(self, "averaging")
        if self.agent == "own" and self.agent_arguments != "{}":
            raise ValueError("--agent-arguments are those of an algorithm: choose --agent sb3:...")
        if self.agent != "own" and self.method != "auto":
            raise ValueError(
                f"--method is our own agent's: leave it out with --agent {self.agent}"
            )

    @property
    def algorithm(self) -> str | None:
        """The name of stable-baselines3's algorithm, if it is one."""
        return None if self.agent == "own" else self.agent.removeprefix("sb3:")

    def rollouts(self, are_numbers: bool) -> Rollouts:
        """How rollouts are made for actions that are numbers, or for others."""
        method = self.method
        if method == "auto":
            is_ours = self.algorithm is None
            method = "dynamics" if are_numbers and is_ours else "actor-critic"
        dreams, length, trace = (256, 20, 0.95) if method == "dynamics" else (128, 40, 0.97)
        trace = trace if self.trace is None else self.trace
        return Rollouts(method, self.dreams or dreams, self.length or length, trace)


@dataclass(frozen=True)
class ProtocolConfig:
    """How a run is evaluated at the end: see `worldmodel.experiments.rl.evaluation`."""

    episodes: int = 100
    """Real episodes, and dreamt ones, of the greedy agent."""
    held_out: int = 20
    """Episodes that the world model is scored on: played for that alone, or of --data."""
    bound: Literal["elbo", "iwae", "fivo"] = "iwae"
    """What is reported of it: the mean of K bounds, the importance-weighted or the filtering
    one."""
    particles: int = 16
    """K of that bound."""

    def __post_init__(self) -> None:
        positive(self, "particles")
        if self.episodes < 2 or self.held_out < 2:
            raise ValueError(
                "--episodes and --held-out must be 2 or more (there is no standard error of "
                f"one), got {self.episodes} and {self.held_out}"
            )


@dataclass(frozen=True)
class ReturnsConfig(ProtocolConfig):
    """How the policy is evaluated: greedily, on whole episodes, under seeds of their own."""

    curve_episodes: int = 20
    """Real episodes after each round, for the learning curve; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curve_episodes < 0:
            raise ValueError(f"--curve-episodes must be 0 or more, got {self.curve_episodes}")

    @property
    def protocol(self) -> ProtocolConfig:
        """What concerns the end."""
        return ProtocolConfig(self.episodes, self.held_out, self.bound, self.particles)


@dataclass(frozen=True)
class ControlConfig:
    """Any Gymnasium environment: collect, learn a world model, train a policy in its dream.

    The run folder holds config.json, metrics.jsonl, checkpoints/ and episodes/ (the replay);
    Ctrl-C saves, and `worldmodel resume` goes on from there, to the last bit.
    """

    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    data: str | None = None
    """Recorded episodes to learn from instead of playing: a Minari data set, a folder of episodes,
    a store or a run. --env is then needed for the real evaluation only, and --steps tells how much
    is learned, as if so many steps had been played."""
    seeing: SeeingConfig = field(default_factory=SeeingConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    collecting: CollectingConfig = field(default_factory=CollectingConfig)
    learning: WorldLearningConfig = field(default_factory=WorldLearningConfig)
    dreaming: DreamingConfig = field(default_factory=DreamingConfig)
    returns: ReturnsConfig = field(default_factory=ReturnsConfig)
    seed: int = 0
    """Of everything that is random."""
    threads: int = 1
    """Threads of the processor; the same number gives the same bits."""
    checkpoint_seconds: float = 30.0
    """Time between checkpoints (there is one after every stage, too)."""

    def __post_init__(self) -> None:
        positive(self, "threads", "checkpoint_seconds")
        if self.environment.env is None and self.data is None:
            raise ValueError("there is nothing to learn from: give --env ID, --data PATH, or both")
        if self.seed < 0:
            raise ValueError(f"--seed must be 0 or more, got {self.seed}")


def quick_control(config: ControlConfig) -> ControlConfig:
    """The same experiment made so small that it ends within seconds and learns next to nothing."""
    return replace(
        config,
        seeing=replace(
            config.seeing, vae_latent=4, vae_hidden=8, vae_width=2, vae_updates=4, vae_batch=8
        ),
        world=replace(config.world, memory=4, hidden=16, latent=4),
        collecting=CollectingConfig(steps=90, prefill=50, phase=20),
        learning=replace(
            config.learning, first_updates=4, update_ratio=0.1, window=8, batch_rows=64
        ),
        dreaming=replace(
            config.dreaming,
            first_rollouts=4,
            rollout_ratio=0.1,
            dreams=8,
            length=4,
            horizon=10,
            policy_hidden=16,
        ),
        returns=ReturnsConfig(episodes=2, curve_episodes=2, held_out=2, particles=2),
    )
