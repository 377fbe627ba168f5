"""Presets: options of an agent that belong together, by name."""

from worldmodel import Registry
from worldmodel.agents.config import (
    AgentConfig,
    CollectConfig,
    ImageConfig,
    LearningConfig,
    ModelConfig,
    OptimizerConfig,
    PolicyConfig,
)

DREAMERV3 = AgentConfig(
    model=ModelConfig(
        core="rssm",
        hidden_size=512,
        decoder_hidden=64,
        latent=32,
        latent_classes=4,
        recurrence="default",
        feedback=False,
        separate=True,
        rewards="two-hot",
        numbers="symlog",
    ),
    collect=CollectConfig(
        prefill=1_024,  # a batch first
        collect_growth=0.0,
        greedy_every=0,
        search="policy",
    ),
    learning=LearningConfig(
        first_updates=1,  # what was played before is not made up for
        update_ratio=0.5,  # 512 rows are learned from for each that is played
        window=64,
        batch_size=16,
        from_start=0.0,
        learning_rate=4e-5,
        weight_decay=0.0,
        kl_weight=1.1,  # 1 for the prior and 0.1 for the posterior
        kl_balance=1 / 1.1,
        free_nats=1.0,
    ),
    policy=PolicyConfig(
        method="actor-critic",
        first_rollouts=1,
        rollout_ratio=0.5,
        minibatches=1,
        dream_starts="rows",
        num_imagined=1_024,
        rollout_length=15,
        policy_hidden=64,
        policy_reads="features",
        policy_unimix=0.01,
        critic="two-hot",
        slow_critic=0.98,
        recorded_values=0.3,
        policy_learning_rate=4e-5,
        discount=1 - 1 / 333,
        gae_lambda=0.95,
        policy_ema_decay=0.0,
        entropy=3e-4,
        least_entropy=0.0,
        least_range=1.0,
    ),
    images=ImageConfig(vae="joint"),
    optimizer=OptimizerConfig("laprop", adaptive_clip=0.3, rate_warmup=1_000, last_rate=1.0),
    preset="dreamerv3",
)
"""DreamerV3 (Hafner et al. 2023, https://arxiv.org/abs/2301.04104), at its smallest size of a
million parameters; what differs stands in docs/acting-and-dreaming.md."""

PRESETS: Registry[AgentConfig] = Registry("preset", {"dreamerv3": DREAMERV3})
"""Options of a whole agent, by the name of the recipe."""


def beginning(preset: str | None) -> AgentConfig:
    """The options of a preset by its name, or the default ones."""
    return AgentConfig() if preset is None else PRESETS[preset]
