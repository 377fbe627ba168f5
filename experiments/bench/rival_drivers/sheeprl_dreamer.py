"""DreamerV3 of sheeprl (0.5 to 0.8): its agent, built by its own configuration, and its `train`.

Where the version has one function for all of an update, the world model's alone is not measured.
"""

from typing import Any


def build(job: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Calls, by their figures: see `running`."""
    import sheeprl

    facts["version"] = sheeprl.__version__
    import gymnasium
    import hydra
    import torch
    from lightning.fabric import Fabric
    from omegaconf import OmegaConf
    from sheeprl.algos.dreamer_v3 import dreamer_v3
    from sheeprl.algos.dreamer_v3.agent import build_agent
    from sheeprl.algos.dreamer_v3.utils import Moments
    from sheeprl.utils.distribution import TwoHotEncodingDistribution
    from sheeprl.utils.utils import dotdict

    with hydra.initialize_config_module("sheeprl.configs", version_base="1.3"):
        composed = hydra.compose("config", options(job))
    cfg = dotdict(OmegaConf.to_container(composed, resolve=True))
    fabric = Fabric(accelerator="cpu", devices=1)
    space = gymnasium.spaces.Box(-10.0, 10.0, (job["observation"],))
    spaces = gymnasium.spaces.Dict({"state": space})
    actions = [job["actions"]]
    world_model, actor, critic, target, _ = build_agent(fabric, actions, False, cfg, spaces)

    def optimizer(of: Any, parameters: Any) -> Any:
        made = hydra.utils.instantiate(of, params=parameters, _convert_="all")
        return fabric.setup_optimizers(made)

    model_optimizer = optimizer(cfg.algo.world_model.optimizer, world_model.parameters())
    actor_optimizer = optimizer(cfg.algo.actor.optimizer, actor.parameters())
    critic_optimizer = optimizer(cfg.algo.critic.optimizer, critic.parameters())
    moments_of = cfg.algo.actor.moments
    percentiles = moments_of.percentile
    moments = Moments(moments_of.decay, moments_of.max, percentiles.low, percentiles.high)
    batch = rows(job)

    def update() -> None:
        dreamer_v3.train(
            fabric,
            world_model,
            actor,
            critic,
            target,
            model_optimizer,
            actor_optimizer,
            critic_optimizer,
            batch,
            None,
            cfg,
            False,
            actions,
            moments,
        )
        with torch.no_grad():  # as in the loop of `main`
            tau = cfg.algo.critic.tau
            for mean, new in zip(target.parameters(), critic.parameters(), strict=True):
                mean.data.copy_(tau * new.data + (1 - tau) * mean.data)

    calls: dict[str, Any] = {"updates": (update, 1)}
    if learning := getattr(dreamer_v3, "world_model_learning", None):
        calls["model updates"] = (
            lambda: learning(fabric, cfg, world_model, model_optimizer, batch),
            1,
        )

    def dreaming(size: int) -> Any:
        hidden = torch.zeros(1, size, job["hidden"])
        latent = torch.zeros(1, size, job["latents"] * job["classes"])

        @torch.no_grad()
        def dream(hidden: Any = hidden, latent: Any = latent) -> None:
            features = []
            action = torch.cat(actor(torch.cat([latent, hidden], -1))[0], -1)
            for _ in range(job["horizon"]):
                latent, hidden = world_model.rssm.imagination(latent, hidden, action)
                latent = latent.view(1, size, -1)
                features.append(torch.cat([latent, hidden], -1))
                action = torch.cat(actor(features[-1])[0], -1)
            whole = torch.cat(features)  # as in training, all rewards and ends at once
            TwoHotEncodingDistribution(world_model.reward_model(whole), dims=1).mean  # noqa: B018
            torch.sigmoid(world_model.continue_model(whole))

        return dream

    for size in job["dreams"]:
        calls[f"dream steps, {size}"] = (dreaming(size), job["horizon"] * size)
    facts["parameters"] = sum(parameter.numel() for parameter in world_model.parameters())
    return calls


def options(job: dict[str, Any]) -> list[str]:
    """The sizes, as options of sheeprl's command line."""
    model = "algo.world_model"
    return [
        "exp=dreamer_v3",
        "algo=dreamer_v3_XS",
        "env=dummy",
        "fabric.accelerator=cpu",
        "algo.cnn_keys.encoder=[]",
        "algo.cnn_keys.decoder=[]",
        "algo.mlp_keys.encoder=[state]",
        "algo.mlp_keys.decoder=[state]",
        f"algo.dense_units={job['units']}",
        f"algo.mlp_layers={job['layers']}",
        f"algo.actor.mlp_layers={job['policy_layers']}",
        f"algo.critic.mlp_layers={job['policy_layers']}",
        f"algo.horizon={job['horizon']}",
        f"algo.per_rank_sequence_length={job['length']}",
        f"algo.per_rank_batch_size={job['windows']}",
        f"{model}.stochastic_size={job['latents']}",
        f"{model}.discrete_size={job['classes']}",
        f"{model}.recurrent_model.recurrent_state_size={job['hidden']}",
        f"{model}.transition_model.hidden_size={job['units']}",
        f"{model}.representation_model.hidden_size={job['units']}",
    ]


def rows(job: dict[str, Any]) -> dict[str, Any]:
    """Noise as rows [T, B, ...], one episode a column."""
    import torch

    shape = (job["length"], job["windows"])
    first = torch.zeros(*shape, 1)
    first[0] = 1.0
    return {
        "state": torch.randn(*shape, job["observation"]),
        "actions": torch.eye(job["actions"])[torch.randint(job["actions"], shape)],
        "rewards": torch.randn(*shape, 1),
        "terminated": torch.zeros(*shape, 1),
        "truncated": torch.zeros(*shape, 1),
        "is_first": first,
    }
