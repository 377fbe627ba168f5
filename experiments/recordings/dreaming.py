"""Recordings that nobody made: what a model dreams, from a prompt or from nothing."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodel import Dream, EpisodeSource, GenCore, WorldModel, action_codec, nested
from worldmodel.experiments.recordings.config import GenerateConfig
from worldmodel.experiments.recordings.kind import Kind
from worldmodel.experiments.recordings.learning import model_of
from worldmodel.experiments.recordings.shelf import as_episodes, held_out, kind_of
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.training import newest_checkpoint
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

AT_ONCE = 100  # rows, between words about the progress


@torch.no_grad()
def dream(
    model: WorldModel,
    kind: Kind,
    length: int,
    samples: int,
    temperature: float = 1.0,
    prompt: Any = None,
    stage: Any = None,
) -> list[Any]:
    """Observations of `samples` recordings, numpy leaves [T, ...]: the prompt, leaves [P, ...],
    and `length` frames that go on from it."""
    prompts = [] if prompt is None else _rows(kind, prompt, samples)
    horizon = len(prompts) + length + 1
    space, agent = kind.observation_space, kind.agent()
    world = Dream(model, horizon, space, kind.action_space, temperature=temperature)
    core = GenCore(world, agent)
    state = core.initial_state(samples)
    for row in prompts:
        state = core.observe(row, state)
    parts = [nested.stack([row.observation for row in prompts])] if prompts else []
    for done in range(0, length, AT_ONCE):
        sequences, _, state = core.generate(min(AT_ONCE, length - done), state)
        parts.append(sequences.rows.observation)
        if stage is not None:
            stage.update(min(done + AT_ONCE, length))
    whole = nested.map(lambda leaf: leaf.transpose(0, 1).numpy(), nested.concatenate(parts))
    return [nested.index(whole, number) for number in range(samples)]


def _rows(kind: Kind, prompt: Any, samples: int) -> list[Any]:
    """The rows of a prompt, [B, ...] each."""
    episodes = as_episodes(kind, [prompt])
    sequences = episodes.sequences(action_codec(kind.action_space))
    rows = nested.map(lambda leaf: leaf.expand(-1, samples, *leaf.shape[2:]), sequences.rows)
    return nested.steps(rows)


def load(folder: RunFolder) -> "RecordingsRun":
    """A run's model and what its recordings are, for scripts."""
    kind = kind_of(folder)
    model = model_of(kind, config_of(folder).model)
    newest_checkpoint(folder).load({"best": model})
    return RecordingsRun(model.eval().requires_grad_(False), kind)


class RecordingsRun(NamedTuple):
    """What a run has made."""

    model: WorldModel  # the best in validation, frozen
    kind: Kind

    def __repr__(self) -> str:
        return run_name(type(self.kind).__name__.lower(), self.model)


def generate(folder: RunFolder, told: GenerateConfig, reporter: Reporter) -> list[Path]:
    """Writes samples of a run's model, for people; the files."""
    torch.set_num_threads(config_of(folder).threads)
    model, kind = load(folder)
    prompt = None
    if told.prompt is not None:
        prompt = kind.prompt(told.prompt, told.prompt_length, reporter.say)
    stem = Path(told.out) if told.out else folder.path / "generated" / f"seed-{told.seed}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    progress = reporter.stage("dreaming", told.length, 0, f"{kind.frame}s")
    with progress as stage, OwnNoise(told.seed)():
        samples = dream(model, kind, told.length, told.samples, told.temperature, prompt, stage)
    for sample in samples:
        if words := kind.words(sample):
            print(words, end="\n\n")
    if not told.beside:
        return kind.write(samples, stem, reporter.say)
    real = some_real(held_out(folder), told.samples, told.seed)
    return kind.write_beside(samples, real, stem, reporter.say)


def some_real(store: EpisodeSource, number: int, seed: int) -> list[Any]:
    """Observations of so many recordings, drawn by chance, leaves [T, ...] each."""
    if len(store) < number:
        raise RunError(
            f"--beside shows as many recordings that were held out as samples, but there are "
            f"{len(store)}: ask for fewer --samples"
        )
    chosen = np.random.default_rng(seed).choice(len(store), number, replace=False)
    return [store.select(chosen[n : n + 1]).columns["observation"] for n in range(number)]
