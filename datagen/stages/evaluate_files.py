"""``datagen evaluate --pred … --gt …``: scores the files of any methods against the truth."""

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
"""File in ``manifests/`` with published scores. Protocols without one use I-Scene's."""


@dataclass(frozen=True)
class Pair:
    """One method's prediction of one true scene."""

    method: str
    format: str
    scene_id: str
    place: Path


@dataclass(frozen=True, kw_only=True)
class EvaluateFiles(UnitStage):
    """Score the scene files of any methods against the ground truth, and compare the methods."""

    name: ClassVar[str] = "evaluate"
    table: ClassVar[Table] = COMPARISON
    revision: ClassVar[int] = 2
    unit_column: ClassVar[str] = "pair_index"
    unit_noun: ClassVar[str] = "predicted scenes"

    pred: tuple[str, ...] = content(lambda stage: stage.prediction_digests(), ())
    """One or more NAME=PATH: the name of a method and its files (see docs/evaluation.md)."""
    gt: Path = content(lambda stage: stage.truth_digest(), Path())
    """The ground truth: a workspace, 3D-FRONT as processed by MIDI, or a folder of GLB files."""
    format: tuple[str, ...] = resolved(lambda stage: stage.formats(), (), name="methods")
    """File format of each --pred, or one format for all: datagen, iscene, midi, scenegen,
    partcrafter, gen3dsr or glb. By default NAME if it is one of these, otherwise datagen for a
    workspace and glb for other paths."""
    gt_format: GtFormat = "auto"
    """File format of --gt."""
    comparison: Comparison = field(default_factory=Comparison)
    scenes_per_shard: int = 64
    """Predicted scenes per shard (one Parquet file)."""
    out: Path | None = how(None)
    """Output folder. By default ROOT/comparison."""
    allow_absent: bool = how(False)
    """Return exit code 0 even if some true scenes have no prediction."""

    def formats(self) -> list[str]:
        """Return a line ``METHOD: FORMAT`` for each method."""
        named = {pair.method: pair.format for pair in self.pairs()}
        return [f"{name}: {file_format}" for name, file_format in named.items()]

    def prediction_digests(self) -> dict[str, str]:
        """Return the sha256 of the names and bytes of each method's files, by ``pred METHOD``."""
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
        """Return the reader of ``--gt``.

        Raises:
            DatasetError: nothing is there, or it holds no scene.
        """
        if not self.gt.is_dir() and not self.gt.is_file():
            raise DatasetError(f"--gt {self.gt}: no such file or folder; check the name.")
        return open_truth(self.gt, self.gt_format)

    def predictions(self) -> dict[str, tuple[str, dict[str, Path]]]:
        """Return for each method its file format, and the path of each scene by scene id.

        Raises:
            ConfigError: a --pred or --format cannot be read.
            DatasetError: a path holds no scene.
        """
        if not self.pred or len(self.format) not in (0, 1, len(self.pred)):
            raise ConfigError(
                f"got {len(self.pred)} --pred and {len(self.format)} --format. Expected one or "
                "more --pred NAME=PATH, and no --format, one for all, or one for each."
            )
        formats = self.format * len(self.pred) if len(self.format) == 1 else self.format
        found: dict[str, tuple[str, dict[str, Path]]] = {}
        for index, words in enumerate(self.pred):
            name, equals, path = words.partition("=")
            if not equals or not name or not path or name in found:
                raise ConfigError(
                    f"--pred {words}: expected NAME=PATH, with a different NAME for each method; "
                    "for example --pred midi=results/midi ours=dataset."
                )
            chosen = formats[index] if formats else _format_of(name, Path(path))
            if chosen not in PREDICTED:
                raise ConfigError(
                    f"--format {chosen}: unknown. Expected one of {', '.join(PREDICTED)}."
                )
            found[name] = chosen, found_scenes(Path(path), PREDICTED[chosen], f"--pred {name}=")
        return found

    def pairs(self) -> list[Pair]:
        """Return what is scored: for each method, its scenes that have a truth, sorted by id.

        Raises:
            DatasetError: a method has no scene id in common with the truth.
        """
        true_ids = self.truth().ids()
        pairs = []
        for name, (file_format, scenes) in self.predictions().items():
            if (
                len(scenes) == len(true_ids) == 1
            ):  # a single scene on both sides needs no common name
                scenes = dict(zip(true_ids, scenes.values(), strict=True))
            common = sorted(set(scenes) & true_ids)
            if not common:
                raise DatasetError(
                    f"--pred {name}: none of its {len(scenes)} scenes has a truth among the "
                    f"{len(true_ids)}. The first predicted ids are {sorted(scenes)[:3]}, the first "
                    f"true ids are {sorted(true_ids)[:3]}. Rename the files so that the ids agree."
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
        """Report failed scenes. Any number may fail; the summary counts them."""
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
    """Return the file of published scores for a protocol, or I-Scene's if it has none."""
    own = manifests_folder() / PUBLISHED_TABLE.format(protocol=protocol)
    default = manifests_folder() / PUBLISHED_TABLE.format(protocol=DEFAULT_PROTOCOL)
    return own if own.is_file() else default


def manifests_folder() -> Path:
    """Return ``manifests/``: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "manifests"
    return inside if inside.is_dir() else package.parent / "manifests"


def _format_of(name: str, path: Path) -> str:
    if name.lower() in PREDICTED:
        return name.lower()
    ours = (path / "predictions").is_dir() or (path / "manifest.json").is_file()
    return "datagen" if ours else "glb"
