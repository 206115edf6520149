"""Self-contained HTML pages: about a workspace, and about a comparison of files."""

from datagen.report.comparison import write_comparison_report
from datagen.report.page import write_report

__all__ = ["write_comparison_report", "write_report"]
