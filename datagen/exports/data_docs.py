"""The generated part of docs/data.md: the declared tables.

``python -m datagen.exports.data_docs docs/data.md`` writes it again.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from datagen.errors import DatasetError
from datagen.exports.column_tables import column_table
from datagen.shards.tables import Table
from datagen.stages.tables import TABLES

BEGIN = "<!-- Made by `python -m datagen.exports.data_docs docs/data.md`: do not edit. -->"
END = "<!-- End of the generated part. -->"


def data_docs(text: str, tables: Iterable[Table]) -> str:
    """Return the text of docs/data.md with the tables between BEGIN and END.

    Raises:
        DatasetError: the text has no such part.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DatasetError(f"docs/data.md lacks a marker. Expected the lines {BEGIN} and {END}")
    return "\n".join([before + BEGIN, "", *tables_in_words(list(tables)), "", END + after])


def tables_in_words(tables: list[Table]) -> list[str]:
    """Return Markdown lines: a table of the datasets, then the columns of each dataset."""
    lines = ["| folder | made by | a row is |", "|---|---|---|"]
    lines += [
        f"| `{table.folder}/{'NAME/' if table.nested else ''}` | `datagen {table.verb}` "
        f"| {table.row or 'no rows, only files'} |"
        for table in tables
    ]
    for table in tables:
        if table.columns:
            lines += ["", f"### `{table.folder}`", "", *column_table(table, table.full_schema)]
    return lines


def write_data_docs(path: Path) -> None:
    """Replace the generated part of a file."""
    path.write_text(data_docs(path.read_text(), TABLES.values()))


if __name__ == "__main__":
    write_data_docs(Path(sys.argv[1]))
