"""The loader: an endless, deterministic stream of samples that resumes exactly where it stopped."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, DatasetError
from datagen.training.data.images import Resizing
from datagen.training.data.order import LANES, WINDOW, Mix, epoch_order
from datagen.training.data.sources import RawView, ViewSource

PREFETCHED = 8
"""Samples that each worker process prepares ahead."""
OPEN_BLOCKS = LANES * (WINDOW + 1)
"""Blocks of a source kept in memory: those in use, and those whose other samples belong to other
workers."""


class Sample(Protocol):
    """A decoded view: what the loader and the batches need of it."""

    @property
    def layout_id(self) -> int:
        """The scene."""

    @property
    def view_index(self) -> int:
        """The view of the scene."""

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""


S = TypeVar("S", bound=Sample)
Decode = Callable[[RawView[Any], int, Resizing], S]
"""Decodes a view to a sample, given the side of its images and the resizing filter. Picklable."""


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """The settings that decide the samples and their order, for any number of ranks and workers."""

    size_px: int
    """Side of the conditioning images."""
    resize: Resizing = "smooth"
    """Resizing filter. Frozen encoders need lanczos4, which they were published with."""
    seed: int = 0
    """Seed of the order."""
    weights: tuple[float, ...] = ()
    """Relative share of each source in the samples, whatever its size; empty: equal shares."""


class SceneStream(IterableDataset[S | DatasetError], Generic[S]):
    """The samples of one rank, as a torch dataset that several workers can share.

    Position p of the whole stream belongs to rank p mod ``world``. Each source has its own epochs.
    A sample that cannot be decoded ends the stream: the last item is its error, as a value. (An
    exception of a worker process would arrive as a traceback in a string.)
    """

    def __init__(
        self,
        sources: Sequence[ViewSource[Any]],
        config: StreamConfig,
        decode: Decode[S],
        *,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        stop: int | None = None,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__()
        weights = config.weights or (1.0,) * len(sources)
        if len(weights) != len(sources) or not 0 <= rank < world:
            raise ConfigError(
                f"loader: got {len(sources)} sources, {len(weights)} weights, rank {rank} of "
                f"{world}. Expected a weight for each source, and a rank below their number."
            )
        for source in sources:
            if not len(source):
                raise DatasetError(
                    f"{source.latents.folder}: 0 views to train on. Expected at least one; "
                    "render more scenes or hold out fewer."
                )
        self.config = config
        self.rank, self.world, self.start, self.stop = rank, world, start, stop
        self._mix = Mix.of(weights, config.seed)
        self._readers = [
            _Reader(source, config, decode, index, cache_bytes // len(sources))
            for index, source in enumerate(sources)
        ]

    def __iter__(self) -> Iterator[S | DatasetError]:
        """Iterate over this worker's samples; an error is the last item."""
        worker = get_worker_info()
        index, count = (worker.id, worker.num_workers) if worker else (0, 1)
        position = self.start + self.rank + self.world * index
        while self.stop is None or position < self.stop:
            source, index_in_source = self._mix.locate(position)
            try:
                sample = self._readers[source].sample(index_in_source)
            except DatasetError as error:
                yield error
                return
            yield sample
            position += self.world * count


class SceneLoader(Generic[S]):
    """An iterator over one rank's samples, decoded here or in worker processes."""

    def __init__(
        self,
        sources: Sequence[ViewSource[Any]],
        config: StreamConfig,
        decode: Decode[S],
        *,
        rank: int = 0,
        world: int = 1,
        stop: int | None = None,
        num_workers: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        """Open a stream at its start.

        Args:
            sources: the views to mix.
            config: decides the samples and their order.
            decode: decodes a view to a sample, in the process that reads it.
            rank: this process.
            world: number of ranks.
            stop: position of the whole stream at which it ends; None: it never ends.
            num_workers: processes that read and decode ahead; 0: this process does it on demand.
            cache_bytes: memory for decoded samples, in each process that decodes.

        Raises:
            ConfigError: the number of weights is not that of the sources, or the rank is not
                below ``world``.
            DatasetError: a source has no views.
        """
        self.sources = tuple(sources)
        self._stream = SceneStream(
            sources, config, decode, rank=rank, world=world, stop=stop, cache_bytes=cache_bytes
        )
        self._num_workers = num_workers
        self._handed_out = 0
        self._items: Iterator[S | DatasetError] | None = None

    def __iter__(self) -> "SceneLoader[S]":
        """Return the loader itself."""
        return self

    def __next__(self) -> S:
        """Return the next sample.

        Raises:
            DatasetError: the sample is corrupt or missing; shard and row are named.
        """
        if self._items is None:
            self._items = self._open()
        item = next(self._items)
        if isinstance(item, DatasetError):
            self._items = iter(())  # the stream ends, although other workers may have more
            raise item
        self._handed_out += 1
        return item

    @property
    def num_views(self) -> int:
        """Number of views in all sources."""
        return sum(len(source) for source in self.sources)

    def state_dict(self) -> dict[str, Any]:
        """Return the stream's position; equal on all ranks that took equally many samples."""
        return {"position": self._position(), **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume after the last sample handed out, with any number of ranks and workers.

        Raises:
            DatasetError: the state is of a stream with other sources or settings.
        """
        ours = self._identity()
        if differing := [name for name in ours if state.get(name) != ours[name]]:
            raise DatasetError(
                f"loader: the state is of a stream with another {', '.join(differing)}. "
                "Expected the sources, weights and seed of this one; start again with --overwrite."
            )
        self._stream.start = int(state["position"])
        self._handed_out = 0
        self._items = None

    def _position(self) -> int:
        return self._stream.start + self._handed_out * self._stream.world

    def _identity(self) -> dict[str, Any]:
        """Return what identifies the stream, as plain values that a checkpoint can hold."""
        config = dataclasses.asdict(self._stream.config)
        return {
            **config,
            "weights": list(config["weights"]),
            "views": [len(source) for source in self.sources],
            "latents": [source.latents.fingerprint for source in self.sources],
        }

    def _open(self) -> Iterator[S | DatasetError]:
        if not self._num_workers:
            return iter(self._stream)
        # A forked process starts at once; clients of object stores do not survive a fork.
        local = all(source.latents.folder.is_local for source in self.sources)
        return iter(
            DataLoader(
                self._stream,
                batch_size=None,
                num_workers=self._num_workers,
                prefetch_factor=PREFETCHED,
                collate_fn=_as_it_is,
                multiprocessing_context="fork" if local else "spawn",
            )
        )


class _Reader(Generic[S]):
    """The endless stream of one source, for one process."""

    def __init__(
        self,
        source: ViewSource[Any],
        config: StreamConfig,
        decode: Decode[S],
        index: int,
        cache_bytes: int,
    ) -> None:
        self._source = source
        self._key = (config.seed, index)
        self._images = (config.size_px, config.resize)
        self._decode = decode
        self._room = cache_bytes
        self._cache: dict[int, S] = {}
        self._blocks: OrderedDict[tuple[int, int], dict[int, RawView[Any]]] = OrderedDict()
        self._orders: dict[int, NDArray[np.int64]] = {}

    def sample(self, index_in_source: int) -> S:
        """Return the sample at an index of the source's own endless stream."""
        epoch, place = divmod(index_in_source, len(self._source))
        index = int(self._order(epoch)[place])
        if index in self._cache:
            return self._cache[index]
        sample = self._decode(self._view(epoch, index), *self._images)
        # The first samples stay: over whole epochs, dropping the least recent would never hit.
        if sample.nbytes <= self._room:
            self._room -= sample.nbytes
            self._cache[index] = sample
        return sample

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            if len(self._orders) == 2:  # at the end of an epoch, a mix alternates between two
                del self._orders[min(self._orders)]
            seed, index = self._key
            self._orders[epoch] = epoch_order(
                self._source.block, rng_for(seed, "order", index, epoch)
            )
        return self._orders[epoch]

    def _view(self, epoch: int, index: int) -> RawView[Any]:
        """Take a view out of its block and free its memory: an epoch needs it once."""
        key = (epoch, int(self._source.block[index]))
        if index not in self._blocks.get(key, {}):
            self._blocks[key] = self._source.read_block(key[1])
        self._blocks.move_to_end(key)
        view = self._blocks[key].pop(index)
        if not self._blocks[key]:
            del self._blocks[key]
        if len(self._blocks) > OPEN_BLOCKS:
            self._blocks.popitem(last=False)
        return view


def _as_it_is(item: Any) -> Any:
    return item  # nothing is collated: the trainer makes the batches
