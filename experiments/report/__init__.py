"""Reports: one page that shows what a run learned, and how far it can be believed."""

from experiments.report.kinds import CONTROL, TOY_GAME, Kind
from experiments.report.writing import check_page, evaluated, write_report

__all__ = ["CONTROL", "TOY_GAME", "Kind", "check_page", "evaluated", "write_report"]
