"""Runs campaigns: `python -m campaigns [NAME ...] [--cases N] [--seed S]`, in `tests/`.

Prints what happens to stderr and the figures as JSON lines to stdout; the exit code is 1 if any
case went wrong.
"""

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

import torch

from campaigns.processes import prepare

CAMPAIGNS = ("kills", "damage", "hostile", "odd", "crowds", "ranks", "collectors")
"""Modules with `run(cases, seed, place, to) -> Iterator[Tally]` and CASES, their long number."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="campaigns", description=__doc__)
    parser.add_argument("names", nargs="*", default=CAMPAIGNS, metavar="NAME")
    parser.add_argument("--cases", type=int, help="cases of each, instead of its long number")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in CAMPAIGNS]:
        parser.error(f"there is no campaign {unknown[0]!r}; there are {', '.join(CAMPAIGNS)}")
    torch.set_num_threads(1)  # forks of a process with threads could wait for ever
    prepare()
    wrong = 0
    for name in options.names:
        campaign = importlib.import_module(f"campaigns.{name}")
        cases = campaign.CASES if options.cases is None else options.cases
        with tempfile.TemporaryDirectory(prefix="campaign-") as place:
            for tally in campaign.run(cases, options.seed, Path(place), sys.stderr):
                print(json.dumps(tally.as_json()), flush=True)
                wrong += len(tally.wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
