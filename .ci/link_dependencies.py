"""Links all that a distribution of this environment requires, and nothing else, into a folder.

python link_dependencies.py NAME FOLDER
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def required(name: str, extras: frozenset[str] = frozenset()) -> set[tuple[str, frozenset[str]]]:
    """The requirements of a distribution, as this machine has them: names, with their extras."""
    found = map(Requirement, distribution(name).requires or [])
    return {
        (one.name, frozenset(one.extras))
        for one in found
        if not one.marker or any(one.marker.evaluate({"extra": e}) for e in extras | {""})
    }


name, folder = sys.argv[1], Path(sys.argv[2])
seen, ahead = set(), required(name)
while ahead:
    seen |= ahead
    ahead = {further for one in ahead for further in required(*one)} - seen
for dependency in {one for one, _ in seen}:
    of = distribution(dependency)
    for top in {file.parts[0] for file in of.files or []} - {"..", "__pycache__"}:
        if not top.endswith(".pth") and not (folder / top).exists():
            (folder / top).symlink_to(Path(str(of.locate_file(top))).resolve())
