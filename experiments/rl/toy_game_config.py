"""What an experiment can be told: frozen dataclasses, whose docstrings are the command's help.

Nothing here imports torch, so that `worldmodel --help` answers at once.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from worldmodel.experiments.runs.names import (
    BoundName,
    CoreName,
    MethodName,
    ObjectiveName,
    RecurrenceName,
)


def positive(settings: object, *names: str) -> None:
    """Refuses settings that are zero or less."""
    for name in names:
        value = getattr(settings, name)
        if value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")


def not_negative(settings: object, *names: str) -> None:
    """Refuses settings below zero."""
    for name in names:
        value = getattr(settings, name)
        if value < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, got {value}")


def shares(settings: object, *names: str) -> None:
    """Refuses settings that are no share of a whole; None is left alone."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name.replace('_', '-')} is a share between 0 and 1, got {value}")


def below_one(settings: object, *names: str) -> None:
    """Refuses settings that are no share of a whole, or all of it."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} must be 0 or more and below 1, got {value}"
            )


@dataclass(frozen=True)
class GameConfig:
    """The toy game."""

    width: int = 4
    """Cells of the ring (2 or more)."""
    classes: int = 3
    """Values that a cell can have (2 or more)."""
    task: Literal["copy", "equal"] = "copy"
    """copy: make all cells equal home, which cannot be changed; equal: make all cells equal."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.classes < 2:
            raise ValueError(
                "--width and --classes must be 2 or more, "
                f"got width {self.width} and classes {self.classes}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The world model."""

    core: CoreName = "srnn"
    """The sequence core: rnn, independent, vrnn, srnn, rssm, or one of a plugin."""
    hidden: int = 192
    """Units of the recurrence and of the decoder."""
    latent: int = 16
    """Size of a row's latent (not rnn)."""
    latent_classes: int = 0
    """Values of each of `latent` categoricals; 0: Gaussian latents (rssm only)."""
    smoothing: bool = False
    """Let the posterior read the rows to come (srnn and independent only); filtering learns this
    game faster."""
    res_q: bool = True
    """Let the posterior's mean start from the prior's (srnn only)."""
    recurrence: RecurrenceName = "default"
    """Of the core: gru, lstm, normalised-gru or skip-gru; its default is a GRU, the rssm's a
    layer-normalised one."""
    layers: int = 1
    """Of the recurrence."""

    def __post_init__(self) -> None:
        positive(self, "hidden", "latent", "layers")
        if self.latent_classes < 0 or self.latent_classes == 1:
            raise ValueError(
                "--latent-classes is 0 (Gaussian latents) or 2 and more, "
                f"got {self.latent_classes}"
            )


@dataclass(frozen=True)
class DataConfig:
    """What is collected in the real game."""

    uniform_steps: int = 40_000
    """Steps of an agent that acts at random, first."""
    policy_steps: int = 20_000
    """Steps of the agent trained so far, over all later rounds."""
    policy_weight: float = 1.25
    """How often the model learns from the policy's games, relative to the uniform agent's."""
    rounds: int = 3
    """How often to collect, learn and improve."""
    copies: int = 512
    """Games played side by side: the more, the more beginnings a phase sees, and fewer ends."""

    def __post_init__(self) -> None:
        positive(self, "uniform_steps", "policy_steps", "policy_weight", "rounds", "copies")


@dataclass(frozen=True)
class LearningConfig:
    """How the model learns."""

    updates: int = 3_000
    """Updates of the model, over all rounds, more in later ones."""
    window: int = 64
    """Rows of a training window, at most."""
    batch_rows: int = 1_024
    """Rows of a batch of windows, on average."""
    from_start: float = 0.75
    """The share of windows that begin at an episode's first row; others begin anywhere."""
    learning_rate: float = 0.02
    """Adam's, at first; it falls along a cosine."""
    weight_decay: float = 0.4
    """Adam's, decoupled: what keeps the model from learning its few episodes by heart."""
    dropout: float = 0.2
    """The share of features that the decoder does not get to read, in training."""
    averaging: float = 0.99
    """Decay of the average of the weights, which is what a stage of learning ends with."""
    learning_bound: ObjectiveName = "elbo"
    """What is maximised: the mean of the particles' bounds (elbo), their importance-weighted one
    (iwae), or the filtering one (fivo)."""
    learning_particles: int = 1
    """Draws of each window's latents (the evaluation has its own number)."""
    kl_weight: float = 1.0
    """Weight of the KL divergence (elbo only, as all that follows; no metric knows of it)."""
    kl_warmup: int = 0
    """Updates within which that weight rises from 0, in a line."""
    kl_half_cycle: int = 0
    """Updates within which it rises, and for as many is flat, over and over; 0: it rises once."""
    kl_freeze: int = 0
    """Updates before the first cycle, with a weight of 0."""
    kl_estimate: Literal["closed-form", "monte-carlo"] = "closed-form"
    """How the KL divergence of a row is computed."""
    free_nats: float = 0.0
    """A row's KL divergence below this is not made smaller."""
    kl_balance: float | None = None
    """The share of the KL divergence's gradient that moves the prior; the rest moves the
    posterior. None: the true gradient."""
    resampling_gradient: bool = False
    """Follow the choice of ancestors, too (fivo only): the true gradient, of high variance."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of large products while learning; weights and recurrent states are float32 anyway."""
    compile: bool = False
    """Compile the core's steps first, which takes a minute (rssm and vrnn gain by it)."""

    def __post_init__(self) -> None:
        positive(self, "updates", "window", "batch_rows", "learning_rate", "learning_particles")
        not_negative(self, "kl_weight", "kl_warmup", "kl_half_cycle", "kl_freeze", "free_nats")
        if self.kl_half_cycle and self.kl_warmup:
            raise ValueError("--kl-warmup rises once, --kl-half-cycle over and over: give one")
        if self.kl_freeze and not self.kl_half_cycle:
            raise ValueError("--kl-freeze comes before the first cycle: give --kl-half-cycle, too")
        shares(self, "from_start", "kl_balance")
        below_one(self, "averaging", "dropout")


@dataclass(frozen=True)
class PolicyConfig:
    """How the policy is trained, in the dream alone."""

    method: MethodName = "every-action"
    """every-action: each action is tried in a fork of the dream; actor-critic and reinforce: the
    score function of those chosen; dynamics: the gradient through the dream."""
    rollouts: int = 300
    """Rollouts in the dream, over all rounds, more in later ones."""
    epochs: int = 8
    """Updates a rollout."""
    dreams: int = 256
    """Games dreamt side by side."""
    length: int = 16
    """Rows a rollout."""
    horizon: int = 25
    """Steps after which a dreamt game is cut off, so that those gone wrong do not pile up."""
    policy_rate: float = 0.003
    """Adam's learning rate, at first; it falls along a cosine."""
    discount: float = 0.98
    """Of rewards, a step."""
    trace: float = 0.95
    """lambda of the returns (actor-critic only)."""
    entropy: float = 0.6
    """Weight of the entropy bonus, at first; it falls to a thirtieth."""

    def __post_init__(self) -> None:
        positive(
            self, "rollouts", "epochs", "dreams", "length", "horizon", "policy_rate", "discount"
        )
        if self.method == "dynamics" and self.epochs != 1:
            raise ValueError("--method dynamics makes one update of a rollout: give --epochs 1")


@dataclass(frozen=True)
class EvaluationConfig:
    """How much a run is evaluated on."""

    episodes: int = 400
    """Whole held-out episodes of the uniform agent; saved as episodes/held-out.npz."""
    games: int = 2_000
    """Real games, and dreamt games, of the greedy policy."""
    bound: BoundName = "iwae"
    """What is reported: the mean of K bounds (elbo), the importance-weighted (iwae) or the
    filtering one (fivo)."""
    particles: int = 100
    """K of that bound."""

    def __post_init__(self) -> None:
        positive(self, "particles")
        if self.episodes < 2 or self.games < 2:
            raise ValueError(
                "--episodes and --games must be 2 or more (there is no standard error of one), "
                f"got {self.episodes} and {self.games}"
            )


@dataclass(frozen=True)
class ToyGameConfig:
    """Learn the toy game from play, dream it, train a policy in the dream, evaluate, film.

    Takes about four minutes on two cores. The run folder holds config.json, metrics.jsonl,
    checkpoints/, episodes/ and videos/; Ctrl-C saves, and `worldmodel resume` goes on from there,
    to the last bit.
    """

    game: GameConfig = field(default_factory=GameConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    """Of everything that is random."""
    threads: int = 2
    """Threads of the processor; the same number gives the same bits."""
    checkpoint_seconds: float = 30.0
    """Time between checkpoints (there is one after every stage, too)."""

    def __post_init__(self) -> None:
        positive(self, "threads", "checkpoint_seconds")
        if self.seed < 0:
            raise ValueError(f"--seed must be 0 or more, got {self.seed}")


def quick(config: ToyGameConfig) -> ToyGameConfig:
    """The same experiment made so small that it ends within seconds and learns next to nothing."""
    return replace(
        config,
        model=replace(config.model, hidden=16, latent=4),
        data=replace(config.data, uniform_steps=1_000, policy_steps=600, copies=8),
        learning=replace(config.learning, updates=12, window=16, batch_rows=256),
        policy=replace(config.policy, rollouts=12, epochs=2, dreams=16, length=4),
        evaluation=EvaluationConfig(episodes=20, games=20, particles=10),
    )
