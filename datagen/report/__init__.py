"""HTML pages that need no other file: of a workspace, and of a comparison of files."""

from datagen.report.comparison import write_comparison_report
from datagen.report.page import write_report

__all__ = ["write_comparison_report", "write_report"]
