"""``datagen evaluate --pred … --gt …``: any methods' files against the truth, side by side."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from datagen.core.fields import content, how, resolved
from datagen.engine.stage import Inputs, RunOptions
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError, DatasetError
from datagen.evaluation.compare import Comparison, comparison_rows
from datagen.evaluation.protocols import DEFAULT_PROTOCOL
from datagen.evaluation.readers import PREDICTED, found_scenes
from datagen.evaluation.summary import (
    as_csv,
    latex,
    markdown,
    read_published,
    summarise_methods,
)
from datagen.evaluation.tables import COMPARISON
from datagen.evaluation.truth import GtFormat, Truth, digest_of, open_truth
from datagen.shards import Dataset, Folder, Output, Row
from datagen.shards.tables import Table

logger = logging.getLogger(__name__)

PUBLISHED_TABLE = "published_{protocol}.csv"
"""Tables in ``manifests/``; I-Scene's stands for protocols without one."""


@dataclass(frozen=True)
class Pair:
    """One method's prediction of one true scene."""

    method: str
    format: str
    scene_id: str
    place: Path


@dataclass(frozen=True, kw_only=True)
class EvaluateFiles(UnitStage):
    """Score any methods' scenes, read as they lie on disk, against the truth, side by side."""

    name: ClassVar[str] = "evaluate"
    table: ClassVar[Table] = COMPARISON
    revision: ClassVar[int] = 2
    unit_column: ClassVar[str] = "pair_index"
    unit_noun: ClassVar[str] = "predicted scenes"

    pred: tuple[str, ...] = content(lambda stage: stage.prediction_digests(), ())
    """NAME=PATH, one or more: what the method is called, and its files (docs/evaluation.md)."""
    gt: Path = content(lambda stage: stage.truth_digest(), Path())
    """The truth: a workspace, MIDI's 3D-FRONT, or a folder of GLBs."""
    format: tuple[str, ...] = resolved(lambda stage: stage.formats(), (), name="methods")
    """File format of each --pred, or one for all: datagen, iscene, midi, scenegen, partcrafter,
    gen3dsr or glb. By default NAME if it is one of these, else datagen for a workspace, else
    glb."""
    gt_format: GtFormat = "auto"
    """File format of --gt."""
    comparison: Comparison = field(default_factory=Comparison)
    scenes_per_shard: int = 64
    """Predicted scenes a shard."""
    out: Path | None = how(None)
    """Where the result goes. Default: ROOT/comparison."""
    allow_absent: bool = how(False)
    """Exit code 0 although true scenes have no prediction."""

    def formats(self) -> list[str]:
        """Return each method with the format of its files."""
        named = {pair.method: pair.format for pair in self.pairs()}
        return [f"{name}: {file_format}" for name, file_format in named.items()]

    def prediction_digests(self) -> dict[str, str]:
        """Return the sha256 over the names and bytes of each method's files."""
        pairs = self.pairs()
        return {
            f"pred {name}": digest_of(pair.place for pair in pairs if pair.method == name)
            for name in dict.fromkeys(pair.method for pair in pairs)
        }

    def truth_digest(self) -> str:
        """Return the fingerprint of the true scenes that are scored against."""
        return self.truth().fingerprint(sorted({pair.scene_id for pair in self.pairs()}))

    def output(self, root: Folder, inputs: Inputs) -> Output:
        folder = root / self.table.folder if self.out is None else Folder.at(str(self.out))
        return replace(super().output(root, inputs), folder=folder)

    def units(self, inputs: Inputs) -> Sequence[int]:
        return range(len(self.pairs()))

    def truth(self) -> Truth:
        if not self.gt.is_dir() and not self.gt.is_file():
            raise DatasetError(f"--gt {self.gt}: no such file or folder; check the name.")
        return open_truth(self.gt, self.gt_format)

    def predictions(self) -> dict[str, tuple[str, dict[str, Path]]]:
        """Return each method's file format and its scenes.

        Raises:
            ConfigError: a --pred or --format is not understood.
            DatasetError: a path holds no scene.
        """
        if not self.pred or len(self.format) not in (0, 1, len(self.pred)):
            raise ConfigError(
                f"{len(self.pred)} --pred and {len(self.format)} --format; expected at least one "
                "--pred NAME=PATH, and as many --format, one, or none."
            )
        formats = self.format * len(self.pred) if len(self.format) == 1 else self.format
        found: dict[str, tuple[str, dict[str, Path]]] = {}
        for index, words in enumerate(self.pred):
            name, equals, path = words.partition("=")
            if not equals or not name or not path or name in found:
                raise ConfigError(
                    f"--pred {words}: expected NAME=PATH, every NAME once; for example "
                    "--pred midi=results/midi ours=dataset."
                )
            chosen = formats[index] if formats else _format_of(name, Path(path))
            if chosen not in PREDICTED:
                raise ConfigError(
                    f"--format {chosen}: unknown. Expected one of {', '.join(PREDICTED)}."
                )
            found[name] = chosen, found_scenes(Path(path), PREDICTED[chosen], f"--pred {name}=")
        return found

    def pairs(self) -> list[Pair]:
        """Return what is scored: each method's scenes that have a truth, by id.

        Raises:
            DatasetError: a method has no scene id in common with the truth.
        """
        true_ids = self.truth().ids()
        pairs = []
        for name, (file_format, scenes) in self.predictions().items():
            if len(scenes) == len(true_ids) == 1:  # one scene on both sides, whatever their names
                scenes = dict(zip(true_ids, scenes.values(), strict=True))
            common = sorted(set(scenes) & true_ids)
            if not common:
                raise DatasetError(
                    f"--pred {name}: none of its {len(scenes)} scenes has a truth among the "
                    f"{len(true_ids)}. Predicted ids begin {sorted(scenes)[:3]}, true ones "
                    f"{sorted(true_ids)[:3]}. Rename the files so that the ids agree."
                )
            pairs += [Pair(name, file_format, one, scenes[one]) for one in common]
        return pairs

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        pairs, truth = self.pairs(), self.truth()

        def process(pair_index: int) -> list[Row]:
            pair = pairs[pair_index]
            file_format = PREDICTED[pair.format]
            true = truth.read(pair.scene_id)
            rows = comparison_rows(
                file_format.read(pair.place), file_format, true, truth.format, self.comparison
            )
            key = {"method": pair.method, "format": pair.format, "scene_id": pair.scene_id}
            for warning in rows[0]["warnings"]:
                logger.warning(f"evaluate: {pair.method}, scene {pair.scene_id}: {warning}")
            empty = dict.fromkeys(COMPARISON.schema.names)
            return [{**empty, "pair_index": pair_index, **key, **row} for row in rows]

        yield process

    def check_result(self, dataset: Dataset, inputs: Inputs, options: RunOptions) -> None:
        """Report failed scenes; any number may fail, the summary counts them."""
        super().check_result(dataset, inputs, replace(options, max_failed_fraction=1.0))

    def is_complete(self, dataset: Dataset) -> bool:
        """Return whether every true scene was scored for every method."""
        absent = sum(self._absent().values())
        return not dataset.manifest["failed"] and (self.allow_absent or not absent)

    def _absent(self) -> dict[str, int]:
        truth = self.truth()
        scored = Counter(pair.method for pair in self.pairs())
        return {name: len(truth.ids()) - n if truth.whole else 0 for name, n in scored.items()}

    def write_summary(self, dataset: Dataset) -> None:
        """Write ``summary.md``, ``summary.tex`` and ``summary.csv`` beside the scores."""
        pairs = self.pairs()
        failed = Counter(pairs[item["unit"]].method for item in dataset.manifest["failed"])
        methods = list(dict.fromkeys(pair.method for pair in pairs))
        rows = list(dataset) if dataset.manifest["shards"] else []
        seed = self.comparison.seed
        summaries = summarise_methods(rows, methods, failed, self._absent(), seed=seed)
        published = read_published(published_table(self.comparison.protocol))
        settings = self._settings(rows)
        lines = [
            f"- not scored: {pairs[item['unit']].method}, scene {pairs[item['unit']].scene_id}: "
            f"{item['reason']}"
            for item in dataset.manifest["failed"]
        ]
        text = markdown(summaries, published, settings)
        text += "\n".join(["", *lines, ""]) if lines else ""
        for name, text_of_file in (
            ("summary.md", text),
            ("summary.tex", latex(summaries, published, settings)),
            ("summary.csv", as_csv(summaries, published)),
        ):
            dataset.folder.write_bytes(name, text_of_file.encode())

    def _settings(self, rows: Sequence[dict[str, Any]]) -> str:
        used = sorted({(row["align"], row["matched_by"], row["chamfer"]) for row in rows})
        words = "; ".join(f"aligned by {a}, matched by {m}, CD = {c}" for a, m, c in used)
        return f"{self.comparison.words()}; {words}."


def published_table(protocol: str) -> Path:
    """Return the table of scores published by a protocol's definitions, else I-Scene's."""
    own = manifests_folder() / PUBLISHED_TABLE.format(protocol=protocol)
    default = manifests_folder() / PUBLISHED_TABLE.format(protocol=DEFAULT_PROTOCOL)
    return own if own.is_file() else default


def manifests_folder() -> Path:
    """Return ``manifests/``: inside the package when installed, else beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "manifests"
    return inside if inside.is_dir() else package.parent / "manifests"


def _format_of(name: str, path: Path) -> str:
    if name.lower() in PREDICTED:
        return name.lower()
    ours = (path / "predictions").is_dir() or (path / "manifest.json").is_file()
    return "datagen" if ours else "glb"
