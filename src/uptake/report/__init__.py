"""Report of a run, of a bench or of single responses as one HTML page."""

from uptake.report.write import write_report

__all__ = ["write_report"]
