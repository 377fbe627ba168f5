"""Cards of runs: what one is, what it was learned from, how, and how good it is.

The page is Markdown, with the front matter that the Hugging Face Hub reads: each line of it is a
key and a value of JSON, which is YAML, too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNSAID = "not stated"


@dataclass(frozen=True)
class CardConfig:
    """The words of a card, besides the figures of its run."""

    about: str = ""
    """A sentence on what it is."""
    data: str = ""
    """What it was learned from, and under which licence that is."""
    commit: str = ""
    """Commit of the code that trained it."""
    licence: str = ""
    """Licence of the run, such as MIT."""


def facts_of(
    config: CardConfig,
    evaluation: Mapping[str, Any],
    command: str,
    trained: str | None,
    seconds: float | None,
    version: str,
) -> dict[str, Any]:
    """The facts of a card, for JSON."""
    given = {name: value or UNSAID for name, value in vars(config).items()}
    return {
        **given,
        "command": command,
        "trained": trained,
        "seconds": seconds,
        "version": version,
        "figures": figures_of(evaluation),
    }


def figures_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of an evaluation, and their intervals and errors, as they stand in it."""
    return {
        key: value
        for key, value in evaluation.items()
        if _is_number(value) or (isinstance(value, list) and value and all(map(_is_number, value)))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_short(figures: Mapping[str, Any]) -> str:
    """The one or two figures that say most.

    >>> in_short({"real_return_mean": 499.5, "real_return_ci95": [499.0, 500.0], "seed": 3})
    'real return 499.5 (499 to 500)'
    >>> in_short({"nats_per_character": 1.5, "nats_per_character_se": 0.01})
    'loss 1.5 ± 0.01 nats per character'
    """
    said = []
    if "real_return_mean" in figures:
        said.append(f"real return {_with_error('real_return_mean', figures)}")
    if "optimal_return" in figures:
        said.append(f"optimum {figures['optimal_return']:.4g}")
    if not said:
        for key in figures:
            if key.startswith("nats_per_") and not key.endswith("_se"):
                frame = key.removeprefix("nats_per_")
                said.append(f"loss {_with_error(key, figures)} nats per {frame}")
    return ", ".join(said) or "no evaluation"


def _with_error(key: str, figures: Mapping[str, Any]) -> str:
    """A figure with its interval or its standard error."""
    value, stem = figures[key], key.removesuffix("_mean")
    mean = str(value) if isinstance(value, int) else f"{value:.4g}"
    if f"{stem}_ci95" in figures:
        return "{} ({:.4g} to {:.4g})".format(mean, *figures[f"{stem}_ci95"])
    return f"{mean} ± {figures[f'{key}_se']:.2g}" if f"{key}_se" in figures else mean


def page(name: str, experiment: str, facts: Mapping[str, Any], episodes: bool) -> str:
    """The card of a run as Markdown."""
    figures = facts["figures"]
    rows = [
        f"| {key.removesuffix('_mean').replace('_', ' ')} | {_with_error(key, figures)} |"
        for key, value in figures.items()
        if _is_number(value) and not key.endswith("_se")
    ]
    table = ["| figure | value |", "|---|---|", *rows] if rows else ["There is no evaluation."]
    have = "" if episodes else " It was packed without the episodes."
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in _front(name, experiment, facts)),
        "---",
        "",
        f"# {name}",
        "",
        _plain(facts["about"]),
        "",
        f"A run of `{experiment}` by worldmodel {facts['version']}.{have} "
        f"It is a zip file of JSON and safetensors: nothing in it is code, and opening it imports "
        "nothing that it names.",
        "",
        "```bash",
        "pip install worldmodel-gym",
        f"worldmodel evaluate {name}.wm",
        "```",
        "",
        f"- Data: {_plain(facts['data'])}",
        f"- Command: `{_plain(facts['command'])}`",
        f"- Commit: {_plain(facts['commit'])}",
        f"- Trained: {facts['trained'] or UNSAID}",
        f"- Licence: {_plain(facts['licence'])}",
        "",
        "## Evaluation",
        "",
        "Brackets are 95 % intervals, ± standard errors; losses are nats, lower is better.",
        "",
        *table,
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A text as a line of Markdown that is nothing but text."""
    return " ".join(text.split()).replace("`", "'").replace("<", "&lt;")


def _front(name: str, experiment: str, facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Keys and values of the front matter, as the Hub knows them."""
    is_policy = "real_return_mean" in facts["figures"]
    task = "reinforcement-learning" if is_policy else "other"
    metrics = [
        {"type": "mean_reward" if key == "real_return_mean" else key, "value": value}
        for key, value in facts["figures"].items()
        if _is_number(value)
    ]
    results = {
        "task": {"type": task, "name": experiment},
        "dataset": {"name": name, "type": name},
        "metrics": metrics,
    }
    licence = facts["licence"]
    return [
        ("library_name", "worldmodel-gym"),
        ("license", "other" if licence == UNSAID else licence.lower()),
        ("pipeline_tag", task),
        ("tags", ["world-model", experiment]),
        ("model-index", [{"name": name, "results": [results]}]),
    ]
