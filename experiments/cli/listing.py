"""The command that lists the runs that come with the package. It imports no PyTorch."""

from rich.console import Console
from rich.table import Table

from worldmodel.experiments.cli import settings as of
from worldmodel.experiments.runs import cards
from worldmodel.experiments.runs.trained import manifests, trained_runs
from worldmodel.progress import Reporter


def runs(settings: of.Runs, reporter: Reporter) -> None:
    """Lists the runs that come with the package."""
    table = Table("name", "what it is", "figures", "MB")
    for name, manifest in manifests().items():
        size = f"{trained_runs()[name].stat().st_size / 1e6:.1f}"
        card = manifest.card
        table.add_row(name, str(card["about"]), cards.in_short(card["figures"]), size)
    Console().print(
        table, "worldmodel play NAME, evaluate NAME, and so on; cards: docs/sharing.md"
    )
