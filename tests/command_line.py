"""Commands, run in the process of the tests."""

import contextlib
import io
from typing import NamedTuple

from worldmodel.experiments.cli.main import main


class Result(NamedTuple):
    """The exit code of a command, and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """The last line of the errors."""
        return (self.stderr.splitlines() or [""])[-1]


def worldmodel(*arguments: object) -> Result:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def assert_refused(result: Result, *words: str) -> None:
    """A command ended with one sentence that has these words."""
    assert result.returncode == 2
    said = " ".join((result.stderr + result.stdout).replace("│", " ").split())  # boxes wrap
    assert "Traceback" not in said
    for word in words:
        assert word in said
