"""``datagen verify``: checks every dataset of a workspace, and the references between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from datagen.errors import DatasetError
from datagen.shards import Folder
from datagen.shards.dataset import open_shard, shard_name
from datagen.shards.workspace import Workspace, holds_dataset
from datagen.stages.tables import TABLES
from datagen.verify.contents import CONTENT_CHECKS
from datagen.verify.references import References
from datagen.verify.rows import ROW_CHECKS, RowCheck
from datagen.verify.shards import Finding, FolderCheck, check_folder
from datagen.verify.units import UNIT_CHECKS

MAX_LINES = 100
"""Maximum number of printed problems per dataset."""


@dataclass
class WorkspaceVerification:
    """The result of ``datagen verify``."""

    checks: list[FolderCheck]
    """One for each dataset."""
    notes: list[str]
    """Datasets whose references were not followed, because they cannot be read."""

    @property
    def findings(self) -> list[Finding]:
        """The problems of all datasets."""
        return [finding for check in self.checks for finding in check.findings]

    def text(self) -> str:
        """Return the printed result: a line per dataset, its problems below it, and the total."""
        lines = []
        for check in self.checks:
            lines.append(f"{check.name}: {_size(check)}: {_count(len(check.findings))}")
            lines += [f"  {finding}" for finding in check.findings[:MAX_LINES]]
            if len(check.findings) > MAX_LINES:
                lines.append(f"  … and {len(check.findings) - MAX_LINES} more")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"verify: {_count(len(self.findings))} in {len(self.checks)} datasets")
        return "\n".join(lines) + "\n"


def verify_path(folder: Folder, *, deep: bool = False, threads: int = 4) -> WorkspaceVerification:
    """Check a workspace, or one dataset of it with its references.

    Args:
        folder: of the workspace or of the dataset.
        deep: also decode every image and geometry file.
        threads: number of shards that are read at once.

    Raises:
        DatasetError: there is no dataset.
    """
    root, names = _workspace_of(folder)
    return verify_workspace(root, names, deep=deep, threads=threads)


def _workspace_of(folder: Folder) -> tuple[Folder, list[str] | None]:
    """Return the workspace of a folder, and the names of the datasets to check; None: all."""
    if any(Workspace(folder).folders(table) for table in TABLES.values()):
        return folder, None
    parent, _, name = folder.url.rstrip("/").rpartition("/")
    if name in TABLES and folder.names():
        return Folder.at(parent), Workspace.at(parent).folders(TABLES[name])
    root, _, group = parent.rpartition("/")
    if group in TABLES and TABLES[group].nested and holds_dataset(folder):
        return Folder.at(root), [f"{group}/{name}"]
    return folder, None


def verify_workspace(
    root: Folder, names: Sequence[str] | None = None, *, deep: bool = False, threads: int = 4
) -> WorkspaceVerification:
    """Check datasets of a workspace: bytes against manifests, and references between datasets.

    Args:
        root: the workspace.
        names: folders to check; None: all. Datasets that they refer to are read too.
        deep: also decode every image and geometry file, and count pixels and faces.
        threads: number of shards that are read at once.

    Raises:
        DatasetError: there is no dataset.
    """
    workspace = Workspace(root)
    present = {name: table for table in TABLES.values() for name in workspace.folders(table)}
    chosen = [name for name in present if names is None or name in names]
    if not chosen:
        raise DatasetError(
            f"{root} holds no dataset. Expected a workspace with one of "
            f"{', '.join(TABLES)}, or a dataset's own folder."
        )
    references = References(root)
    checks = [check_folder(root / name, name, present[name], threads) for name in chosen]
    for check in checks:
        if check.dataset is None:
            continue
        _check_inputs(check, references)
        kind = check.table.folder
        if kind in ROW_CHECKS:
            _check_rows(check, *ROW_CHECKS[kind], references)
        if kind in UNIT_CHECKS:
            _check_units(check, references)
        if deep and kind in CONTENT_CHECKS:
            _check_rows(check, *CONTENT_CHECKS[kind], references)
    return WorkspaceVerification(checks, references.notes)


def _size(check: FolderCheck) -> str:
    if check.dataset is None:
        return "not sealed"
    manifest = check.dataset.manifest
    megabytes = check.num_bytes / 1e6
    return f"{manifest['rows']} rows, {len(manifest['shards'])} shards, {megabytes:.1f} MB"


def _count(number: int) -> str:
    return "sound" if number == 0 else f"{number} problem{'s' if number > 1 else ''}"


def _check_inputs(check: FolderCheck, references: References) -> None:
    assert check.dataset is not None
    fields = check.dataset.fields
    for name, fingerprint in check.dataset.manifest["inputs"].items():
        if fields.get(name) is not None:
            continue  # a field of that name (--model) was used in place of the folder
        other = references.dataset(name)
        if other is not None and other.fingerprint != fingerprint:
            check.add(
                "manifest.json",
                f"was made from other {name} ({fingerprint[:12]}…) than those beside it "
                f"({other.fingerprint[:12]}…)",
            )


def _check_rows(
    check: FolderCheck, columns: list[str], problems: RowCheck, references: References
) -> None:
    assert check.dataset is not None
    if not check.readable:
        return
    with open_shard(check.dataset.folder, check.readable[0]) as file:
        missing = sorted(set(columns) - set(file.schema_arrow.names))
    if missing:
        check.add(check.readable[0], f"column {missing[0]} is missing, and every shard needs it")
        return
    for path in check.readable:
        for index, row in enumerate(check.dataset.shard_rows(path, columns)):
            for problem in problems(row, references, check.name):
                check.add(path, problem, index)


def _check_units(check: FolderCheck, references: References) -> None:
    dataset = check.dataset
    assert dataset is not None
    if not check.readable or len(check.readable) < len(dataset.manifest["shards"]):
        return  # an unreadable shard was reported once; its scenes are not reported again
    for unit, problem in UNIT_CHECKS[check.table.folder](dataset, references):
        check.add(shard_name(unit // dataset.manifest["units_per_shard"]), problem)
