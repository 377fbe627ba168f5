"""Renamed options: the error for an old name gives the new one."""

_MODEL = {
    "--hidden": "--hidden-size (of the recurrence; --decoder-hidden is the decoder's)",
    "--memory": "--hidden-size",
}
_LEARNING = {
    "--learning-bound": "--objective",
    "--learning-particles": "--num-particles",
    "--averaging": "--ema-decay",
    "--kl-half-cycle": "--kl-cycle",
    "--kl-freeze": "--kl-delay",
    "--batch-rows": "--batch-size (in windows: rows divided by --window)",
    "--res-q": "part of the core: srnn's posterior begins with the prior's mean",
    "--kl-estimate": "an option of `worldmodel.ELBO` alone",
    "--resampling-gradient": "an option of `worldmodel.FIVO` alone",
}
_POLICY = {
    "--trace": "--gae-lambda",
    "--dreams": "--num-imagined",
    "--length": "--rollout-length",
    "--policy-rate": "--policy-learning-rate",
    "--rollouts": "--first-rollouts and --rollout-ratio",
}
_COLLECTION = {
    "--copies": "--num-envs",
    "--phase": "--collect-steps",
    "--persistence": "--sticky-probability",
    "--particles": "--bound-particles",
}
_IMAGES = {
    "--vae-beta": "--vae-kl-weight",
    "--vae-batch": "--vae-batch-size",
    "--vae-rate": "--vae-learning-rate",
}
_GAME = {
    "--width": """--arguments '{"width": 5}'""",
    "--classes": """--arguments '{"classes": 3}'""",
    "--task": """--arguments '{"task": "equal"}'""",
    "--uniform-steps": "--prefill",
    "--policy-steps": "--steps (with --prefill among them)",
    "--rounds": "--collect-steps (steps of each round)",
    "--updates": "--first-updates and --update-ratio",
    "--games": "--episodes",
}
_LEARNED = {
    "--bound": "--objective",
    "--particles": "--num-particles",
    "--batch": "--batch-size",
    "--averaging": "--ema-decay",
}
_RECORDINGS = _LEARNED | {
    "--hidden": "--hidden-size (of the recurrence; --decoder-hidden is the decoder's)",
    "--deafness": "--input-dropout",
    "--products": "--matmul-precision (exact is highest, fast is medium)",
}
_VAE = _LEARNED | {
    **{
        f"--{name}": f"--vae-{name}" for name in ("latent", "hidden", "width", "likelihood", "std")
    },
    "--beta": "--kl-weight",
    "--half-beta-cycle": "--kl-cycle",
    "--batch-freeze": "--kl-delay",
    "--scale-losses": "--kl-weight (of the number of pixel values divided by --vae-latent)",
}
_SCORED = {"--bounds": "--bound", "--particles": "--bound-particles"}
_RL = _MODEL | _LEARNING | _POLICY | _COLLECTION | _IMAGES

RENAMED: dict[str, dict[str, str]] = {
    "train control": {**_RL, "--averaging": "--policy-ema-decay (of the model: --ema-decay)"},
    "train toy-game": _RL | _GAME,
    **dict.fromkeys(("train text", "train audio", "train midi", "train strokes"), _RECORDINGS),
    "train vae": _VAE,
    "evaluate": _SCORED,
    "bench control": {"--copies": "--num-envs"},
    "bench music": _SCORED,
    "bench speech": {"--bounds": "--bound"},
}
"""By command: old names, and the new ones."""


def new_name(command: str, argument: str) -> str | None:
    """The new name of an option; None if it was not renamed."""
    return RENAMED.get(command, {}).get(argument.partition("=")[0])
