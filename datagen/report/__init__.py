"""One self-contained HTML page about a workspace."""

from datagen.report.page import write_report

__all__ = ["write_report"]
