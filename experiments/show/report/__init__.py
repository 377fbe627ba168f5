"""Reports: one page that shows a run's results and their reliability."""

from worldmodel.experiments.show.report.comparing import write_comparison
from worldmodel.experiments.show.report.recordings import RECORDINGS
from worldmodel.experiments.show.report.rl import RL
from worldmodel.experiments.show.report.writing import (
    ReportSpec,
    check_page,
    evaluated,
    write_report,
)

__all__ = [
    "RECORDINGS",
    "RL",
    "ReportSpec",
    "check_page",
    "evaluated",
    "write_comparison",
    "write_report",
]
