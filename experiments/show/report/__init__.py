"""Reports: one page that shows what a run learned, and how far it can be believed."""

from worldmodel.experiments.show.report.kinds import RL, ReportSpec
from worldmodel.experiments.show.report.writing import check_page, evaluated, write_report

__all__ = ["RL", "ReportSpec", "check_page", "evaluated", "write_report"]
