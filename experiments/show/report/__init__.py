"""Reports: one page that shows what a run learned, and how far it can be believed."""

from worldmodel.experiments.show.report.kinds import CONTROL, TOY_GAME, Kind
from worldmodel.experiments.show.report.writing import check_page, evaluated, write_report

__all__ = ["CONTROL", "TOY_GAME", "Kind", "check_page", "evaluated", "write_report"]
