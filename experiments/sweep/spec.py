"""The plan of a sweep: a file of TOML, which names options and seeds.

Options are spelled as on the command line and read by its parser: whatever that refuses, a plan
cannot have.
"""

import contextlib
import difflib
import io
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from worldmodel.experiments.cli.main import parse
from worldmodel.experiments.runs.command import words_of
from worldmodel.experiments.runs.device import own_device
from worldmodel.experiments.runs.processes import Needs, sentence_of
from worldmodel.files import MOST_JSON, reading
from worldmodel.names import check_names
from worldmodel.options import not_negative, positive
from worldmodel.run_folder import RunError

Options = dict[str, Any]
Direction = Literal["maximize", "minimize"]
DIGITS = 4  # of a number that is drawn
MOST = 10_000  # runs of a sweep
OURS = {"out": "a sweep gives each run a folder of its own", "seed": "give `seeds`"}


@dataclass(frozen=True)
class Range:
    """Numbers to draw from: whole ones if both ends are."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError(
                f"a range has a low end below its high end, above 0 with log, got {self}"
            )

    @property
    def is_whole(self) -> bool:
        """True if whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, rng: np.random.Generator) -> float:
        """A number of the range."""
        low, high = self.low, self.high + self.is_whole
        share = rng.random()
        if self.log:
            value = float(low * (high / low) ** share)
        else:
            value = float(low + (high - low) * share)
        return min(int(value), int(self.high)) if self.is_whole else float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Search:
    """Options that are drawn: from lists of values, or from ranges of numbers."""

    options: dict[str, Any]
    number: int
    seed: int = 0
    figure: str = ""  # key of evaluation.json that optuna goes by; "": the first of its kind
    direction: Direction | None = None  # None: as is better

    def __post_init__(self) -> None:
        positive(self, "number")
        not_negative(self, "seed")
        if self.direction not in (None, *get_args(Direction)):
            raise ValueError(f"direction is maximize or minimize, got {self.direction!r}")

    @property
    def choices(self) -> dict[str, Range | list[Any]]:
        """The values or the range that each option is drawn from."""
        return {name: _choice(name, value) for name, value in self.options.items()}

    def draw(self, place: int) -> Options:
        """The options of one combination; each has a stream of its own, so that more of them may
        be asked for later."""
        rng = np.random.default_rng([self.seed, place])
        return {
            name: choice.draw(rng)
            if isinstance(choice, Range)
            else choice[int(rng.integers(len(choice)))]
            for name, choice in self.choices.items()
        }


@dataclass(frozen=True)
class Spec:
    """The plan of a sweep."""

    command: str
    """The command of each run, such as `train control`."""
    seeds: Any = 1
    """Number of seeds, from 0 on, or a list of them."""
    options: Options = field(default_factory=dict)
    """Options that are the same for all runs."""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Values of options, all of whose combinations are run."""
    random: Search | None = None
    """Options that are drawn."""
    optuna: Search | None = None
    """Options that optuna chooses, by what came out before."""
    needs: dict[str, float] = field(default_factory=dict)
    """Share of the machine that a run needs, `cores` and `gpus`; by default the cores of its
    --threads, and no GPU."""
    retries: int = 1
    """Times that a run that failed is tried again, when all others are done."""
    slurm: dict[str, Any] = field(default_factory=dict)
    """Parameters of submitit, for --launcher slurm."""

    def __post_init__(self) -> None:
        not_negative(self, "retries")
        if not self.command.startswith("train "):
            raise ValueError(f"command is one of train, such as `train control`: {self.command!r}")
        if sum(map(bool, (self.grid, self.random, self.optuna))) > 1:
            raise ValueError("a plan has one of [grid], [random] and [optuna], got more")
        for name, values in self.grid.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"[grid] {name} is a list of values, got {values!r}")
        if unknown := set(self.needs) - {"cores", "gpus"}:
            raise ValueError(f"[needs] has cores and gpus, got {', '.join(sorted(unknown))}")
        cores, gpus = self.needs.get("cores", 1), self.needs.get("gpus", 0)
        if not (isinstance(cores, int) and cores > 0 and (0 <= gpus <= 1 or gpus == int(gpus))):
            raise ValueError(
                "[needs] cores is a whole number above 0, gpus one of 0 or more, or a share below "
                f"1, got {cores} and {gpus}"
            )
        for name in {key.replace("_", "-") for part in self._all_options for key in part}:
            if name in OURS:
                raise ValueError(f"{name} is no option of a plan: {OURS[name]}")
        if not self.all_seeds or not all(type(s) is int and s >= 0 for s in self.all_seeds):
            raise ValueError(
                f"seeds are a number above 0, or a list of numbers of 0 or more, got {self.seeds}"
            )
        if self.number > MOST:
            raise ValueError(f"a plan has at most {MOST:,} runs, got {self.number:,}")

    @property
    def _all_options(self) -> list[Mapping[str, Any]]:
        drawn = [search.options for search in (self.random, self.optuna) if search is not None]
        return [self.options, self.grid, *drawn]

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of each combination."""
        if isinstance(self.seeds, list):
            return list(dict.fromkeys(self.seeds))
        return list(range(self.seeds)) if type(self.seeds) is int else []

    @property
    def number(self) -> int:
        """The number of runs."""
        search = self.random or self.optuna
        trials = math.prod(map(len, self.grid.values())) if search is None else search.number
        return trials * len(self.all_seeds)

    def combinations(self) -> Iterator[tuple[str, Options]]:
        """Name and options of each combination that is known from the beginning."""
        if self.random is not None:
            for place in range(self.random.number):
                yield numbered(place), self.random.draw(place)
        elif self.optuna is None:
            names = list(self.grid)
            for place, values in enumerate(product(*self.grid.values())):
                options = dict(zip(names, values, strict=True))
                yield name_of(options) or numbered(place), options

    def words(self, options: Options) -> list[str]:
        """The words of a combination's command, without seed and folder."""
        words = self.command.split()
        for name, value in (self.options | options).items():
            given = tuple(value) if isinstance(value, list) else value
            words += words_of(f"--{name.replace('_', '-')}", given)
        return words


def read_spec(file: Path) -> Spec:
    """Reads a plan; RunError for what is not understood."""
    try:
        with reading(file, MOST_JSON) as content:
            read = tomllib.loads(content.read().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{file} is no TOML: {error}") from error
    try:
        for name in ("random", "optuna"):
            if name in read:
                read[name] = _made(Search, read[name], f"[{name}] ")
        spec: Spec = _made(Spec, read, "")
        for search in filter(None, (spec.random, spec.optuna)):
            search.choices  # noqa: B018 (raises what is wrong)
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: {error}") from error
    return spec


def parsed(words: Sequence[str], where: str) -> Any:
    """The settings that the command line's parser reads from words; RunError for what it refuses.
    where: of the words, in the sentence."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            settings = parse(list(words))[1]
        check_names(settings)
    except SystemExit as end:
        sentence = sentence_of(said.getvalue()) or f"it ends with {end.code}"
        raise RunError(f"{where}: {sentence}") from end
    except ValueError as error:
        raise RunError(f"{where}: {error}") from error
    return settings


def needs_of(spec: Spec, config: Any) -> Needs:
    """The needs of a run, by the plan or else by its own threads and device: one GPU if it names
    one."""
    cores = int(spec.needs.get("cores", getattr(config, "threads", 1)))
    is_on_gpu = (own_device(config) or "cpu").startswith("cuda")
    return Needs(cores, float(spec.needs.get("gpus", is_on_gpu)))


def name_of(options: Options) -> str:
    """The name of a combination's folder; "" if it would be too long.

    >>> name_of({"core": "rssm", "hidden-size": 64})
    'core-rssm-hidden-size-64'
    """
    text = " ".join(f"{name} {value}" for name, value in options.items())
    kept = "".join(letter if letter.isalnum() or letter in "._" else " " for letter in text)
    name = "-".join(kept.split())
    return name if len(name) <= 100 else ""


def numbered(place: int) -> str:
    """The name of a combination that has too many options for one."""
    return f"trial-{place:04d}"


def _made(kind: Any, read: Any, where: str) -> Any:
    known = [place.name for place in fields(kind)]
    if not isinstance(read, dict):
        raise ValueError(f"{where}is a table of {', '.join(known)}, got {read!r}")
    for name in read:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{where}has no {name!r}: {guess}".strip())
    for place in fields(kind):
        if place.name not in read and place.default is MISSING is place.default_factory:
            raise ValueError(f"{where}{place.name} is missing")
    return kind(**read)


def _choice(name: str, value: Any) -> Range | list[Any]:
    if isinstance(value, list) and value:
        return value
    if isinstance(value, dict):
        made: Range = _made(Range, value, f"{name} ")
        return made
    raise ValueError(f"{name} is a list of values, or {{ low = 1, high = 2 }}, got {value!r}")
