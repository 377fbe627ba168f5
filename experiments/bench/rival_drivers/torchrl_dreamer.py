"""DreamerV3 of torchrl (0.14): its modules and losses, put together as their documentation does.

Its recurrence of this size is a GRU without normalisation. One optimizer takes the step of world
model, actor and critic.
"""

from typing import Any


def build(job: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Calls, by their figures: see `running`."""
    import torchrl

    facts["version"] = torchrl.__version__
    import torch
    from tensordict import TensorDict
    from tensordict.nn import (
        ProbabilisticTensorDictModule,
        ProbabilisticTensorDictSequential,
        TensorDictModule,
        TensorDictSequential,
    )
    from torchrl.data import Composite, OneHot, Unbounded
    from torchrl.envs.model_based import DreamerEnv
    from torchrl.envs.utils import ExplorationType, set_exploration_type
    from torchrl.modules import (
        DreamerV3MLP,
        OneHotCategorical,
        RSSMPosteriorV3,
        RSSMPriorV3,
        RSSMRolloutV3,
        SymExpTwoHot,
        WorldModelWrapper,
    )
    from torchrl.objectives import (
        DreamerV3ActorLoss,
        DreamerV3Loss,
        DreamerV3ModelLoss,
        DreamerV3ValueLoss,
        SoftUpdate,
    )
    from torchrl.trainers.algorithms import DreamerV3OptimizationStepper

    hidden, units, layers = job["hidden"], job["units"], job["layers"]
    latent = job["latents"] * job["classes"]
    sizes = {
        "hidden_dim": units,
        "rnn_hidden_dim": hidden,
        "num_categoricals": job["latents"],
        "num_classes": job["classes"],
        "unimix": 0.01,
    }
    actions = job["actions"]
    prior = RSSMPriorV3(action_shape=(actions,), action_dim=actions, **sizes)
    posterior = RSSMPosteriorV3(obs_embed_dim=units, **sizes)
    seen = DreamerV3MLP(latent + hidden, job["observation"], layers, units)
    reward = DreamerV3MLP(latent + hidden, 255, layers, units, outscale=0.0)
    lasting = DreamerV3MLP(latent + hidden, 1, layers, units)
    bins = SymExpTwoHot()
    after = [("next", "state"), ("next", "belief")]
    world_model = TensorDictSequential(
        TensorDictModule(
            DreamerV3MLP(job["observation"], None, layers, units),
            in_keys=[("next", "observation")],
            out_keys=[("next", "encoded_latents")],
        ),
        RSSMRolloutV3(
            TensorDictModule(
                prior,
                in_keys=["state", "belief", "action"],
                out_keys=[("next", "prior_logits"), *after],
            ),
            TensorDictModule(
                posterior,
                in_keys=[("next", "belief"), ("next", "encoded_latents")],
                out_keys=[("next", "posterior_logits"), ("next", "state")],
            ),
        ),
        TensorDictModule(seen, in_keys=after, out_keys=[("next", "reco_pixels")]),
        TensorDictModule(reward, in_keys=after, out_keys=[("next", "reward_logits")]),
        TensorDictModule(bins, in_keys=[("next", "reward_logits")], out_keys=[("next", "reward")]),
        TensorDictModule(lasting, in_keys=after, out_keys=[("next", "continue_pred")]),
    )
    now = ["state", "belief"]
    env = DreamerEnv(
        WorldModelWrapper(
            TensorDictModule(prior, in_keys=[*now, "action"], out_keys=["_", *now]),
            TensorDictSequential(
                TensorDictModule(reward, in_keys=now, out_keys=["reward_logits"]),
                TensorDictModule(bins, in_keys=["reward_logits"], out_keys=["reward"]),
            ),
        ),
        prior_shape=(latent,),
        belief_shape=(hidden,),
    )
    env.observation_spec = Composite(state=Unbounded(latent), belief=Unbounded(hidden))
    env.state_spec = env.observation_spec.clone()
    env.action_spec, env.reward_spec = OneHot(actions), Unbounded((1,))
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(
            DreamerV3MLP(latent + hidden, actions, job["policy_layers"], units),
            in_keys=now,
            out_keys=["logits"],
        ),
        ProbabilisticTensorDictModule(
            in_keys=["logits"], out_keys=["action"], distribution_class=OneHotCategorical
        ),
    )
    value = TensorDictSequential(
        TensorDictModule(
            DreamerV3MLP(latent + hidden, 255, job["policy_layers"], units, outscale=0.0),
            in_keys=now,
            out_keys=["value_logits"],
        ),
        TensorDictModule(SymExpTwoHot(), in_keys=["value_logits"], out_keys=["state_value"]),
    )
    goes_on = TensorDictSequential(
        TensorDictModule(lasting, in_keys=now, out_keys=["continue_logits"]),
        TensorDictModule(torch.sigmoid, in_keys=["continue_logits"], out_keys=["continuation"]),
    )
    model_loss = DreamerV3ModelLoss(
        world_model, lambda_continue=1.0, kl_mode="separate", unimix=0.01
    )
    model_loss.set_keys(pixels="observation")
    actor_loss = DreamerV3ActorLoss(
        actor,
        value,
        env,
        continuation_model=goes_on,
        imagination_horizon=job["horizon"],
        use_reinforce=True,
    )
    value_loss = DreamerV3ValueLoss(value, actor_loss=actor_loss, slow_critic_regularization=1.0)
    slow = SoftUpdate(value_loss, tau=0.02)
    whole = DreamerV3Loss(model_loss, actor_loss, value_loss, replay_value_loss_weight=0.0)
    stepper = DreamerV3OptimizationStepper(
        whole,
        torch.optim.Adam(whole.parameters(), 1e-4),
        slow,
        compile_train_step=False,
        cudagraph=False,
    )
    model_optimizer = torch.optim.Adam(world_model.parameters(), 1e-4)
    shape = (job["windows"], job["length"])  # batch first
    first = torch.zeros(*shape, 1, dtype=torch.bool)
    first[:, 0] = True
    batch = TensorDict(
        {
            "state": torch.zeros(*shape, latent),
            "belief": torch.zeros(*shape, hidden),
            "action": torch.eye(actions)[torch.randint(actions, shape)],
            "is_init": first,
            "next": {
                "observation": torch.randn(*shape, job["observation"]),
                "reward": torch.randn(*shape, 1),
                "done": torch.zeros(*shape, 1, dtype=torch.bool),
                "terminated": torch.zeros(*shape, 1, dtype=torch.bool),
            },
        },
        shape,
    )

    def update_model() -> None:
        losses, _ = model_loss(batch)
        model_optimizer.zero_grad()
        sum(losses.values()).mean().backward()
        model_optimizer.step()

    def dreaming(size: int) -> Any:
        begin = TensorDict(
            {"state": torch.zeros(size, latent), "belief": torch.zeros(size, hidden)}, [size]
        )

        @torch.no_grad()
        def dream() -> None:
            with set_exploration_type(ExplorationType.RANDOM):  # as in its loss of the actor
                rows = env.rollout(
                    job["horizon"],
                    actor,
                    auto_reset=False,
                    tensordict=env.reset(begin.copy()),
                    break_when_any_done=False,
                )
            goes_on(rows["next"])

        return dream

    facts["parameters"] = sum(parameter.numel() for parameter in world_model.parameters())
    calls = {
        "updates": (lambda: stepper.step(None, batch), 1),
        "model updates": (update_model, 1),
    }
    for size in job["dreams"]:
        calls[f"dream steps, {size}"] = (dreaming(size), job["horizon"] * size)
    return calls
