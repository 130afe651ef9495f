"""The story of a run on one page."""

from uptake.report.write import write_report

__all__ = ["write_report"]
