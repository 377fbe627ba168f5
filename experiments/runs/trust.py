"""The options of commands that open runs: trust in the code that they name."""

from dataclasses import dataclass
from pathlib import Path

from worldmodel.experiments.runs.trained import run_at
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.trust import Trust


@dataclass(frozen=True)
class TrustConfig:
    """Trust in the code that a run names, where it was not made here (docs/trust.md)."""

    trust: bool = False
    """Trust a run that was not made here: making its environment may run code of a module that it
    names."""
    env: str | None = None
    """The run's module:id once more, where it was not made here: the module is imported from where
    packages are installed, from --env-path, or from the current directory."""
    env_path: Path | None = None
    """Folder of the environment's module, if it has moved since the training."""

    def open(self, path: Path) -> RunFolder:
        """Opens a run, by its path or by its name, with this trust in it."""
        place = None
        if self.env_path is not None:
            if not self.env_path.is_dir():
                raise RunError(
                    f"--env-path is the folder of a module: there is no {self.env_path}"
                )
            place = str(self.env_path.resolve())
        return RunFolder.open(run_at(path), Trust(self.trust, self.env, place))
