"""Samples of a run's model, written to files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel import EpisodeSource
from worldmodel.experiments.recordings.config import GenerateConfig
from worldmodel.experiments.recordings.model import RecordingsModel
from worldmodel.experiments.recordings.storage import held_out
from worldmodel.experiments.runs.registry import config_of
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.generation import dream


def generate(folder: RunFolder, config: GenerateConfig, reporter: Reporter) -> list[Path]:
    """Writes samples of a run's model; returns the files."""
    torch.set_num_threads(config_of(folder).threads)
    run = RecordingsModel.of_run(folder)
    modality = run.modality
    prompt = actions = None
    if config.prompt is not None:
        prompt = modality.prompt(config.prompt, config.prompt_length, reporter.say)
        actions = modality.steering_of(config.prompt, config.prompt_length, config.length)
    stem = Path(config.out) if config.out else folder.place("generated") / f"seed-{config.seed}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    progress = reporter.stage("dreaming", config.length, 0, f"{modality.frame}s")
    sizes = config.length, config.samples, config.temperature
    with progress as stage, OwnNoise(config.seed)():
        samples = dream(run.model, modality, *sizes, prompt, stage.update, actions)
    for sample in samples:
        if words := modality.words(sample):
            print(words, end="\n\n")
    if not config.beside:
        return modality.write(samples, stem, reporter.say)
    real = some_real(held_out(folder), config.samples, config.seed)
    return modality.write_beside(samples, real, stem, reporter.say)


def some_real(store: EpisodeSource, number: int, seed: int) -> list[Any]:
    """Observations of `number` recordings, drawn at random, leaves [T, ...] each."""
    if len(store) < number:
        raise RunError(
            f"--beside shows as many recordings that were held out as samples, but there are "
            f"{len(store)}: ask for fewer --samples"
        )
    chosen = np.random.default_rng(seed).choice(len(store), number, replace=False)
    return [store.select(chosen[n : n + 1]).columns["observation"] for n in range(number)]
