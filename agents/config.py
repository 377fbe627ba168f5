"""The options of a `WorldModelAgent`: frozen dataclasses, whose docstrings are the help.

An option's name means one thing in the whole package; nothing here imports torch.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

from worldmodel.names import AgentName, EngineName, NameOf, ObjectiveName, RecurrenceName
from worldmodel.options import below_one, check_kl, not_negative, positive, shares


@dataclass(frozen=True)
class ImageConfig:
    """Images: how an observation that is one image is encoded."""

    vae: Literal["frozen", "joint"] = "frozen"
    """frozen: a convolutional VAE learns from the recorded images, and the world model predicts
    its codes. joint: the world model learns convolutions itself, and the policy acts on the
    features that it draws images from, so that none are drawn in dreams (images beside other
    observations are learned jointly, too, but are drawn)."""
    vae_latent: int = 8
    """Numbers of a code (frozen); inactive ones are pruned."""
    vae_hidden: int = 128
    """Units between convolutions and code, both ways."""
    vae_width: int = 8
    """Channels at the highest resolution."""
    vae_likelihood: Literal["mse", "discretised-logistic"] = "mse"
    """Likelihood of pixels (frozen): a Gaussian of fixed scale, or a mass over the 256 levels."""
    vae_std: float = 0.1
    """Scale of mse, as a share of the full brightness."""
    vae_kl_weight: float = 0.02
    """Weight of the codes' KL divergence (frozen). A small thing that moves over an empty ground
    is worth few nats, and at 1 codes do not describe it for the first thousand updates."""
    vae_updates: int = 2_000
    """Updates of the VAE after the first collection (frozen, as all that follow)."""
    vae_growth: float = 2.0
    """The VAE learns again whenever the steps that were collected have grown by this factor; all
    recorded images are then encoded anew."""
    vae_batch_size: int = 64
    """Images of an update."""
    vae_learning_rate: float = 0.002
    """Initial learning rate of Adam; it falls along a cosine."""

    def __post_init__(self) -> None:
        positive(self, "vae_latent", "vae_hidden", "vae_width", "vae_std")
        positive(self, "vae_updates", "vae_batch_size", "vae_learning_rate")
        if self.vae_kl_weight < 0 or self.vae_growth <= 1:
            raise ValueError(
                "--vae-kl-weight must be 0 or more and --vae-growth above 1, "
                f"got {self.vae_kl_weight} and {self.vae_growth}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The world model."""

    core: Annotated[str, NameOf("worldmodel:CORES", ("auto",))] = "auto"
    """The sequence core, by its name in `worldmodel.CORES`. auto: rnn, but rssm for images that
    are learned jointly."""
    hidden_size: int = 16
    """Units of the recurrence. Few of them learn a fully observed world; a partially observed one
    wants more."""
    decoder_hidden: int = 128
    """Units of the decoder, which reads the recurrence and the latent."""
    latent: int = 16
    """Size of a row's latent (not rnn)."""
    latent_classes: int = 0
    """Values of each of `latent` categoricals; 0: Gaussian latents (rssm only)."""
    smoothing: bool = False
    """Let the posterior read later rows, too (srnn and independent only)."""
    recurrence: RecurrenceName = "skip-gru"
    """Recurrence of the core, by its name in `worldmodel.RECURRENCES`, or default: its own.
    skip-gru: the decoder reads the recurrence's input, too, and begins with the previous
    observation."""
    layers: int = 1
    """Layers of the recurrence."""
    history: int = 1
    """Observations in the context; some replace a memory."""
    feedback: bool = True
    """Let the core read the percept before, beside the action. Without it latents alone carry what
    was seen, as in the RSSM's papers."""
    separate: bool = False
    """Predict reward and end from the core's features alone, not from the observation, too."""
    rewards: Literal["auto", "density", "two-hot"] = "auto"
    """Likelihood of rewards. auto: a mass for each value that recurs in the first collection, a
    density for others. two-hot: that of auto, and in dreams the mean of a regression of rewards of
    any scale, which the features are learned by (Hafner et al. 2023)."""
    numbers: Literal["auto", "symlog"] = "auto"
    """Numbers of observations. auto: standardised, with a mass for each value that recurs in the
    first collection and a density for others. symlog: read as their signed logarithms, of which a
    Gaussian of standard deviation 1 is the density (Hafner et al. 2023)."""
    minimum_std: float = 0.01
    """Minimum of a number's standard deviation, relative to its spread in the first collection."""

    def __post_init__(self) -> None:
        positive(self, "hidden_size", "decoder_hidden", "latent", "layers", "history")
        positive(self, "minimum_std")
        if self.latent_classes < 0 or self.latent_classes == 1:
            raise ValueError(
                "--latent-classes is 0 (Gaussian latents) or 2 and more, "
                f"got {self.latent_classes}"
            )


@dataclass(frozen=True)
class CollectConfig:
    """Collection: steps of the real environment."""

    prefill: int = 500
    """Steps at random, first."""
    sticky_probability: float | None = None
    """Probability that the last action is repeated in random steps (sticky actions); swings what
    has to be swung. By default 0 in the first, and 0.9 in those that follow (--search)."""
    collect_steps: int = 250
    """Steps of the policy in each round after that, at least."""
    greedy_every: int = 2
    """Rounds, the last of which plays the policy as it is evaluated, by its most probable actions:
    they lead elsewhere than drawn ones. 0: none does."""
    collect_growth: float = 0.1
    """Steps of a round, as a share of all before it, where these are more: the longer training
    takes, the less a few steps change. Updates and rollouts are those of a short round."""
    search: Literal["novelty", "random", "policy"] = "novelty"
    """What is done as long as nothing to seek was met: all rewards were the same, and 0 or without
    an end, or there was no end, and the greatest reward is the ordinary one, or that of doing
    nothing where actions have costs. novelty: our own
    policy seeks what an ensemble of small networks disagrees about, and every third round is
    random. random: all are. policy: the policy acts as it has learned."""
    exploration: float = 0.0
    """Share of random actions among those of the policy, but while novelty is sought: the model
    learns what else could be done (worlds of chance, long trainings)."""
    policy_weight: float = 1.0
    """Sampling weight of a row of the policy, relative to a random one."""

    def __post_init__(self) -> None:
        positive(self, "prefill", "collect_steps", "policy_weight")
        not_negative(self, "collect_growth", "greedy_every")
        shares(self, "exploration")
        if self.sticky_probability is not None:
            below_one(self, "sticky_probability")


@dataclass(frozen=True)
class LearningConfig:
    """Learning of the world model."""

    objective: ObjectiveName = "elbo"
    """Objective, by its name in `worldmodel.OBJECTIVES`."""
    num_particles: int = 1
    """Draws of each window's latents."""
    first_updates: int = 600
    """Updates after the first collection."""
    update_ratio: float = 1.0
    """Updates after it for each real step of a round (of collect_steps at most)."""
    window: int = 32
    """Rows of a training window, at most."""
    batch_size: int = 32
    """Windows of a batch, if all had the full length."""
    from_start: float = 0.25
    """The share of windows that begin at an episode's first row; others begin anywhere."""
    burn_in: int = 1
    """Rows of a window that begins late that are not scored: their past is unknown."""
    learning_rate: float = 0.003
    """Initial learning rate; it falls along a cosine to a tenth (--last-rate)."""
    weight_decay: float | None = None
    """Decoupled weight decay. By default 0, or 3 if a model that is learned with it from
    most of the first collection expects the rest better (not of images, and of up to 5,000 steps);
    it then falls as more is collected, in inverse proportion."""
    clip_norm: float = 1.0
    """Norm that the gradient is clipped to (unless by --adaptive-clip)."""
    dropout: float = 0.0
    """Dropout rate of the features that the decoder reads, and within a gated-linear
    recurrence."""
    ema_decay: float = 0.0
    """Decay of an average of the weights, which a stage of learning ends with; 0: none."""
    kl_weight: float = 1.0
    """Weight of the KL divergence (elbo only, as all that follow; no metric contains it)."""
    kl_warmup: int = 0
    """Updates within which that weight rises from 0, in a line."""
    kl_cycle: int = 0
    """Updates within which it rises, and for as many is flat, over and over; 0: it rises once."""
    kl_delay: int = 0
    """Updates before the first cycle, with a weight of 0."""
    free_nats: float = 0.0
    """KL divergence of a row, in nats, below which it is not made smaller."""
    kl_balance: float | None = None
    """The share of the KL divergence's gradient that moves the prior; by default the true
    gradient."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of large products while learning; weights and recurrent states stay float32."""
    compile: bool = False
    """Compile the core's steps first, which takes a minute (rssm and vrnn gain by it)."""

    def __post_init__(self) -> None:
        positive(self, "first_updates", "update_ratio", "window", "batch_size", "learning_rate")
        positive(self, "clip_norm", "num_particles")
        not_negative(self, "burn_in")
        if self.weight_decay is not None:
            not_negative(self, "weight_decay")
        check_kl(self)
        shares(self, "from_start", "kl_balance")
        below_one(self, "dropout", "ema_decay")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer of the world model and of our own policy."""

    optimizer: Literal["adam", "laprop"] = "adam"
    """adam, or laprop: momentum of normalised gradients (Ziyin et al. 2020)."""
    adaptive_clip: float = 0.0
    """Clip the gradient of each tensor of weights to this share of their norm (Brock et al. 2021),
    instead of the norm of all gradients; 0: do not."""
    rate_warmup: int = 0
    """Updates within which learning rates rise from 0, in a line."""
    last_rate: float = 0.1
    """Learning rates at the end, as shares of the first."""

    def __post_init__(self) -> None:
        not_negative(self, "adaptive_clip", "rate_warmup")
        positive(self, "last_rate")
        shares(self, "last_rate")


MINIBATCH = 640  # rows
DISCOUNT, NEAR_DISCOUNT = 0.997, 0.99  # of returns that are far ahead, and of those that are not
OURS = ("own", "planning")  # agents; others are algorithms of stable-baselines3
PLANNING = ("plan_length", "plans", "plan_iterations", "plan_draws", "policy_plans")  # options


class Rollouts(NamedTuple):
    """Options of rollouts, with nothing left open."""

    method: str
    num_imagined: int  # dreams side by side
    length: int  # rows
    gae_lambda: float
    discount: float
    least_entropy: float  # a share, see `PolicyConfig`
    minibatches: int


@dataclass(frozen=True)
class PolicyConfig:
    """The policy, which is trained in the dream alone."""

    agent: AgentName = "own"
    """own: acts by the policy. planning: is trained in the same way, and acts by the best of many
    plans that it imagines in the dream before each action, the policy's among them, with the
    critic's value at their end. Or an algorithm of stable-baselines3, unchanged: sb3:PPO, sb3:A2C,
    sb3:DQN, sb3:SAC, sb3:RecurrentPPO (of sb3-contrib)."""
    agent_arguments: str = "{}"
    """Arguments of that algorithm's constructor, as JSON, over those chosen here (sb3 only)."""
    method: Annotated[str, NameOf("worldmodel.agents:METHODS", ("auto",))] = "auto"
    """Our own agent's gradient, by its name in `worldmodel.agents.METHODS`. actor-critic: the
    score function of the chosen actions; all-actions: each action is tried in a fork of the dream;
    pathwise: the gradient through the dream; reinforce: no critic. auto: pathwise for actions that
    are numbers, actor-critic for others."""
    first_rollouts: int = 600
    """Rollouts in the dream after the first collection."""
    rollout_ratio: float = 1.0
    """Rollouts after it for each real step of a round (of collect_steps at most)."""
    epochs: int = 1
    """Times that a rollout is learned from."""
    minibatches: int | None = None
    """Parts that its rows are split into each time, at random, each of which makes an update. By
    default as many as hold about 640 rows; the gradient through the dream, whose graph serves one
    update, takes 1 alone."""
    dream_starts: Literal["recorded", "initial", "rows"] = "recorded"
    """recorded: dreams go on from beliefs about recorded rows; initial: they begin with the
    model's own first rows; rows: in each rollout anew, one from each row of recorded windows."""
    num_imagined: int | None = None
    """Dreams side by side (rows: on average). By default 128, or 256 for the gradient through the
    dream."""
    rollout_length: int | None = None
    """Rows a rollout. By default 40, or 20 for the gradient through the dream, which is mostly
    noise farther back."""
    horizon: int = 200
    """Steps after which a dream is over and another one begins."""
    compile_dreams: Literal["auto", "always", "never"] = "auto"
    """Compile the steps of dreams, which are then two to three times as fast; it takes up to half
    a minute and a C++ compiler. auto: where so many are planned that it pays."""
    engine: EngineName = "torch"
    """What computes steps that nothing is learned through: those of the acting agent, and of
    dreams but for the gradient through them. onnxruntime: two to ten times as fast, the more the
    fewer games are side by side, and without a compiler; needs the extra worldmodel-gym[onnx]."""
    policy_hidden: int = 128
    """Units of the policy's and of the critic's layers."""
    policy_reads: Literal["auto", "belief", "features"] = "auto"
    """What our own policy and critic read. belief: a function of rows; features: what the decoder
    reads, as Dreamer's do; auto: features of images that are learned jointly, else belief."""
    policy_unimix: float = 0.0
    """The share of our own policy over discrete actions that is uniform."""
    critic: Literal["huber", "two-hot"] = "huber"
    """What our own critic learns by: Huber's loss, or the cross-entropy of a distribution of
    returns of any scale (Hafner et al. 2023)."""
    slow_critic: float = 0.0
    """Decay of an average of the critic's weights that its values are held to; 0: none."""
    recorded_values: float = 0.0
    """Weight of the critic's loss on recorded rows, whose rewards the dreams that begin there go
    on from (--dream-starts rows only)."""
    policy_learning_rate: float = 0.001
    """Initial learning rate; it falls along a cosine to a tenth (--last-rate)."""
    discount: float | None = None
    """Discount of rewards, a step. By default 0.997, or 0.99 for the gradient through the dream
    and for algorithms of stable-baselines3."""
    gae_lambda: float | None = None
    """lambda of the returns (not DQN, SAC). By default 0.97, or 0.95 for the gradient through the
    dream."""
    policy_ema_decay: float = 0.995
    """Decay of the average of our own policy's weights, which acts in reality; 0: none."""
    entropy: float = 0.003
    """Weight of the entropy bonus, at first (not DQN, SAC)."""
    final_entropy: float = 1.0
    """Weight of the bonus at the end, as a share of the first; it falls exponentially."""
    least_entropy: float | None = None
    """Entropy below which that weight rises: a share of the uniform policy's, by default 0.3, or
    for numbers that of uniform actions within this share of their range, by default 0.05. 0: it
    never rises."""
    uniform_kl: float = 0.0
    """Weight of the KL divergence of the uniform policy from our own over discrete actions: it
    keeps each action likely enough that one which becomes better than the others is found."""
    pessimism: float = 0.0
    """Loss of reward in dreams for what is not known, relative to the size of rewards: that much
    for each time that an ensemble disagrees more than on recorded rows (Yu et al. 2020; our own
    agent only)."""
    normalise_returns: bool = True
    """Divide returns by the range from their 5th to their 95th percentile (Hafner et al. 2023, eq.
    12), so that one entropy weight does for rewards of any scale."""
    least_range: float | None = None
    """The least that this range counts as. By default the unit of rewards: the root of their mean
    square in the first collection."""
    plan_length: int = 5
    """Rows of a plan (planning only, as all that follow). An action costs plan_length * plans *
    plan_iterations * plan_draws dreamt rows."""
    plans: int = 64
    """Plans side by side that are compared, and replaced by others near the best of them."""
    plan_iterations: int = 2
    """How often that is done, the first time included."""
    plan_draws: int = 1
    """Dreams of each plan, whose returns are averaged: more of them where the world is random."""
    policy_plans: float = 0.25
    """The share of the plans that the policy acts out in the dream."""

    def __post_init__(self) -> None:
        positive(self, "first_rollouts", "rollout_ratio", "horizon", "epochs")
        positive(self, "policy_hidden", "policy_learning_rate", "final_entropy")
        given = ("num_imagined", "rollout_length", "least_range", "discount", "minibatches")
        positive(self, *(name for name in given if getattr(self, name) is not None))
        not_negative(self, "entropy", "uniform_kl", "recorded_values", "pessimism")
        positive(self, "plan_length", "plans", "plan_iterations", "plan_draws")
        shares(self, "discount", "gae_lambda", "final_entropy", "least_entropy")
        shares(self, "policy_plans")
        below_one(self, "policy_ema_decay", "policy_unimix", "slow_critic")
        if self.recorded_values and self.dream_starts != "rows":
            raise ValueError(
                "--recorded-values go on with the dreams that begin with each row: give "
                "--dream-starts rows, too, or leave them out"
            )
        if self.agent in OURS and self.agent_arguments != "{}":
            raise ValueError("--agent-arguments are those of an algorithm: choose --agent sb3:...")
        ours = {"method": self.method != "auto", "pessimism": self.pessimism > 0}
        for name, is_given in ours.items():
            if self.agent not in OURS and is_given:
                raise ValueError(
                    f"--{name} is our own agent's: leave it out with --agent {self.agent}"
                )
        if self.plans_ahead and self.method == "reinforce":
            raise ValueError(
                "--agent planning asks a critic what comes after its plans, and --method "
                "reinforce has none: choose another one"
            )
        defaults = {name: getattr(PolicyConfig, name) for name in PLANNING}
        changed = [name for name in PLANNING if getattr(self, name) != defaults[name]]
        if changed and not self.plans_ahead:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise ValueError(
                f"{options}: of --agent planning alone; choose it, or leave these out with "
                f"--agent {self.agent}"
            )

    @property
    def plans_ahead(self) -> bool:
        """True of the agent that plans in the dream before each action."""
        return self.agent == "planning"

    @property
    def algorithm(self) -> str | None:
        """The name of stable-baselines3's algorithm, if it is one."""
        return None if self.agent in OURS else self.agent.removeprefix("sb3:")

    def of(self, agent: str, arguments: str = "{}") -> "PolicyConfig":
        """The same options for another agent, as far as it has them; arguments: if it is an
        algorithm."""
        its_own: dict[str, Any] = {"method": "auto"}
        if agent != "planning":
            its_own |= {name: getattr(PolicyConfig, name) for name in PLANNING}
        arguments = "{}" if agent in OURS else arguments
        return replace(self, agent=agent, agent_arguments=arguments, **its_own)

    def rollouts(self, are_numbers: bool) -> Rollouts:
        """The options of rollouts for actions that are numbers, or for others."""
        method = self.method
        if method == "auto":
            is_ours = self.algorithm is None
            method = "pathwise" if are_numbers and is_ours else "actor-critic"
        dreams, length, gae_lambda = (256, 20, 0.95) if method == "pathwise" else (128, 40, 0.97)
        dreams, length = self.num_imagined or dreams, self.rollout_length or length
        parts = 1 if method == "pathwise" else max(1, dreams * length // MINIBATCH)
        is_near = method == "pathwise" or self.algorithm is not None
        discount = NEAR_DISCOUNT if is_near else DISCOUNT
        least_entropy = 0.05 if are_numbers else 0.3
        return Rollouts(
            method,
            dreams,
            length,
            gae_lambda if self.gae_lambda is None else self.gae_lambda,
            discount if self.discount is None else self.discount,
            least_entropy if self.least_entropy is None else self.least_entropy,
            self.minibatches or parts,
        )


@dataclass(frozen=True)
class AgentConfig:
    """The options of a `WorldModelAgent`, by group."""

    model: ModelConfig = field(default_factory=ModelConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    images: ImageConfig = field(default_factory=ImageConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    preset: str | None = None
    """Begin with all options of a preset, dreamerv3, and change those that are given besides."""
    seed: int = 0
    """Seed of everything that is random."""

    def __post_init__(self) -> None:
        not_negative(self, "seed")
