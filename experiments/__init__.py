"""Experiments: runs, the command line, playing, filming, evaluating."""

from pathlib import Path
from typing import Any

__all__ = ["load", "sequence_model"]


def load(
    path: str | Path,
    checkpoint: str | None = None,
    trust: bool = False,
    device: str | None = None,
) -> Any:
    """A run as its newest checkpoint left it, for scripts; what it holds is up to its experiment.

    run = experiments.load("runs/demo"); run.model, run.agent, run.environment(), run.dream()
    run = experiments.load("runs/songs"); run.model, run.sample(100)

    path: of a run's folder, or of its packed file, or the name of a run that comes with the
    package (`worldmodel runs`).
    checkpoint: the name of an older one to use, such as "checkpoint-000012".
    trust: whether making its environment may run code of a module that the run names, though it
    was not made here (docs/trust.md).
    device: where it is computed, such as "cuda"; None: where it was trained, if that is here.
    """
    import warnings

    from worldmodel.experiments.runs.device import placed
    from worldmodel.experiments.runs.registry import offered
    from worldmodel.experiments.runs.trained import run_at
    from worldmodel.run_folder import RunFolder
    from worldmodel.trust import Trust

    folder = RunFolder.open(run_at(Path(path)), Trust(is_whole=trust)).at(checkpoint)
    return offered(folder, "load")(placed(folder, device, warnings.warn))


def sequence_model(kind: str, files: Any, **options: Any) -> Any:
    """A `SequenceModel` of files: "text", "audio", "midi" or "strokes", or a plugin's experiment.

    model = experiments.sequence_model("text", "corpus.txt", hidden_size=128).fit(minutes=5)
    model.sample(200, prompt="Once"); model.log_prob("how likely is this?"); model.save("run")

    files: files, or folders of them; options: as of `worldmodel train KIND`, such as rate=8_000 of
    audio. `fit` without data learns from the files; `save` makes a run of the command line's.
    """
    from worldmodel.experiments.recordings.model import sequence_model

    return sequence_model(kind, files, **options)
