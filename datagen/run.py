"""Runs a stage in a workspace, and then the steps that follow it.

These steps write attributions, cards and report pages. They are registered here, so that stages do
not depend on them.
"""

from collections.abc import Callable

from datagen.engine.stage import RunOptions, Stage, funnel
from datagen.errors import StageError
from datagen.executors.job import Executor
from datagen.executors.local import LocalExecutor
from datagen.exports.attribution import write_attribution
from datagen.exports.card import write_card
from datagen.report import write_comparison_report
from datagen.shards import Dataset, Folder, open_dataset
from datagen.stages.evaluate_files import EvaluateFiles
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.layouts import SampleLayouts

Finish = Callable[[Stage, Dataset, Folder], list[str]]
"""Called with a stage, its sealed dataset and the workspace; returns lines for standard output."""


def run_stage(
    stage: Stage,
    root: Folder | str,
    executor: Executor | None = None,
    options: RunOptions | None = None,
) -> tuple[Dataset, list[str]]:
    """Make the missing parts of a stage's dataset, then run the steps that follow.

    Args:
        stage: with all its fields.
        root: the workspace, a folder or URL.
        executor: where the stage runs; by default this process.
        options: how it runs.

    Returns:
        The sealed dataset, and lines about what was done.

    Raises:
        DatasetError: an input is missing, or the folder holds another dataset.
        StageError: too many rows failed.
    """
    folder = root if isinstance(root, Folder) else Folder.at(root)
    dataset = stage.run(folder, executor or LocalExecutor(), options or RunOptions())
    return dataset, finish(stage, dataset, folder)


def finish(stage: Stage, dataset: Dataset, root: Folder) -> list[str]:
    """Run the steps that follow a sealed dataset, and return lines about what was done."""
    steps = [step for kind, step in FINISH if isinstance(stage, kind)]
    lines = [f"{stage.name}: {funnel(dataset)} in {dataset.folder}"]
    for step in (*steps, _card):
        lines += step(stage, dataset, root)
    return lines


def _verification(stage: Stage, dataset: Dataset, root: Folder) -> list[str]:
    """With ``--verify``, check all layouts for collisions between the meshes."""
    assert isinstance(stage, SampleLayouts), stage
    if not stage.verify:
        return []
    try:
        from datagen.verify.layouts import verify_and_record
    except ModuleNotFoundError as error:
        raise StageError(
            f"layouts: --verify needs {error.name}, which is not installed. "
            "Expected the extra `evaluate`; run `pip install 'datagen[evaluate]'`."
        ) from error
    verify_and_record(open_dataset(root / "assets"), dataset)
    return []


def _attribution(stage: Stage, dataset: Dataset, root: Folder) -> list[str]:
    """Write the authors and licenses of all assets in the layouts."""
    write_attribution(root)
    return []


def _comparison(stage: Stage, dataset: Dataset, root: Folder) -> list[str]:
    """Write the tables and the report page of a comparison."""
    assert isinstance(stage, EvaluateFiles), stage
    stage.write_summary(dataset)
    summary = dataset.folder.read_bytes("summary.md").decode().removesuffix("\n")
    return [summary, f"report: {write_comparison_report(stage, dataset)}"]


def _card(stage: Stage, dataset: Dataset, root: Folder) -> list[str]:
    """Write the dataset card and the machine-readable description of the workspace."""
    write_card(root)
    return []


FINISH: list[tuple[type[Stage], Finish]] = [
    (SampleLayouts, _verification),
    (SampleLayouts, _attribution),
    (TakeLayouts, _attribution),
    (EvaluateFiles, _comparison),
]
"""The steps after each kind of stage, in order. The card follows all of them."""
