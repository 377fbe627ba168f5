"""Reports: one page that shows a run's results and their reliability."""

from worldmodel.experiments.show.report.comparing import write_comparison
from worldmodel.experiments.show.report.kinds import RL, ReportSpec
from worldmodel.experiments.show.report.writing import check_page, evaluated, write_report

__all__ = ["RL", "ReportSpec", "check_page", "evaluated", "write_comparison", "write_report"]
