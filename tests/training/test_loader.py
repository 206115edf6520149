"""The loader's stream: every sample once an epoch, the same for any ranks, workers and resuming."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import ConfigError, DatasetError
from datagen.training import SceneLoader, SceneStream, StreamConfig, decode_sample
from datagen.training.data.loader import OPEN_BLOCKS
from tests.training.scenes import source_of, write_scenes

CONFIG = StreamConfig(size_px=8, seed=3)
MIXED = StreamConfig(size_px=8, seed=3, weights=(1.0, 0.5))
VIEWS = {0: 30, 1: 17, 2: 9, 4: 1, 6: 11}
NUM = sum(VIEWS.values())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return source_of(write_scenes(tmp_path_factory.mktemp("scenes"), VIEWS, num_instances=1))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Single objects: scene and instance are the same; layouts from 100."""
    return source_of(
        write_scenes(tmp_path_factory.mktemp("objects"), {100: 3, 101: 4}, num_instances=1)
    )


def key(sample) -> tuple[int, int]:
    return sample.layout_id, sample.view_index


def take(loader, count: int) -> list[tuple[int, int]]:
    return [key(sample) for sample in itertools.islice(loader, count)]


@pytest.fixture(scope="module")
def order(source, objects):
    """The first places of the mixed stream, taken by one process."""
    return take(SceneLoader([source, objects], MIXED, decode_sample), 300)


def interleave(ranks: list[list]) -> list:
    return [item for step in zip(*ranks, strict=True) for item in step]


def test_epoch_holds_every_sample_once_and_the_next_another_order(source):
    stream = take(SceneLoader([source], CONFIG, decode_sample), 2 * NUM)
    views = sorted((layout, view + 1) for layout, n in VIEWS.items() for view in range(n))
    assert sorted(stream[:NUM]) == sorted(stream[NUM:]) == views
    assert stream[:NUM] != stream[NUM:]
    assert stream[:NUM] != views


def test_order_depends_on_the_seed_alone(source):
    again = take(SceneLoader([source], CONFIG, decode_sample), NUM)
    assert take(SceneLoader([source], CONFIG, decode_sample), NUM) == again
    assert take(SceneLoader([source], StreamConfig(size_px=8, seed=4), decode_sample), NUM) != again


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_worker_processes_change_nothing(source, objects, order, num_workers):
    loader = SceneLoader([source, objects], MIXED, decode_sample, num_workers=num_workers)
    assert take(loader, 100) == order[:100]


@pytest.mark.parametrize(("world", "num_workers"), [(1, 0), (2, 0), (3, 0), (2, 2), (3, 1)])
def test_ranks_share_the_one_order(source, objects, order, world, num_workers):
    ranks = [
        take(
            SceneLoader(
                [source, objects],
                MIXED,
                decode_sample,
                rank=rank,
                world=world,
                num_workers=num_workers,
            ),
            24,
        )
        for rank in range(world)
    ]
    assert interleave(ranks) == order[: 24 * world]


@settings(deadline=None, max_examples=25)
@given(
    stopped_after=st.integers(0, 40),
    old_world=st.integers(1, 4),
    new_world=st.integers(1, 5),
    new_workers=st.integers(1, 3),
)
def test_state_goes_on_with_the_very_next_sample(
    source, objects, order, stopped_after, old_world, new_world, new_workers
):
    old = SceneLoader([source, objects], MIXED, decode_sample, rank=old_world - 1, world=old_world)
    take(old, stopped_after)
    state = old.state_dict()
    assert state["position"] == stopped_after * old_world
    # A worker process of a rank is by construction a stream of its own: see test_worker_….
    streams = []
    for worker, rank in itertools.product(range(new_workers), range(new_world)):
        share = rank + new_world * worker
        new = SceneLoader(
            [source, objects], MIXED, decode_sample, rank=share, world=new_world * new_workers
        )
        new.load_state_dict(state)
        streams.append(take(new, 2))
    shares = new_world * new_workers
    start = state["position"]
    assert interleave(streams) == order[start : start + 2 * shares]


@pytest.mark.parametrize(("old_workers", "new_workers"), [(0, 2), (2, 0), (2, 3)])
def test_state_taken_while_workers_are_ahead_is_the_consumers(
    source, objects, order, old_workers, new_workers
):
    old = SceneLoader([source, objects], MIXED, decode_sample, num_workers=old_workers)
    take(old, 41)
    new = SceneLoader([source, objects], MIXED, decode_sample, num_workers=new_workers)
    new.load_state_dict(old.state_dict())
    assert take(new, 30) == order[41:71]
    assert new.state_dict()["position"] == 71


def test_state_of_another_stream_is_refused(source, objects):
    state = SceneLoader([source], CONFIG, decode_sample).state_dict()
    with pytest.raises(DatasetError, match="another weights, views"):
        SceneLoader([source, objects], MIXED, decode_sample).load_state_dict(state)
    with pytest.raises(DatasetError, match="another seed"):
        SceneLoader([source], StreamConfig(size_px=8, seed=9), decode_sample).load_state_dict(state)


def test_mix_meets_sources_by_weight_and_each_passes_through_its_own_epochs(source, objects):
    stream = take(SceneLoader([source, objects], MIXED, decode_sample), 96 * 7)
    single = [view for view in stream if view[0] >= 100]
    assert len(single) == 32 * 7
    assert all(single.count(view) == 32 for view in set(single)) and len(set(single)) == 7


def test_stream_with_an_end_gives_each_rank_its_part_and_some_nothing(source):
    ranks = [
        list(SceneLoader([source], CONFIG, decode_sample, rank=r, world=5, stop=3))
        for r in range(5)
    ]
    assert [len(samples) for samples in ranks] == [1, 1, 1, 0, 0]
    assert [key(samples[0]) for samples in ranks[:3]] == take(
        SceneLoader([source], CONFIG, decode_sample), 3
    )


def test_more_ranks_than_samples_pass_through_several_epochs(objects):
    ranks = [
        take(SceneLoader([objects], CONFIG, decode_sample, rank=r, world=20), 1) for r in range(20)
    ]
    assert interleave(ranks) == take(SceneLoader([objects], CONFIG, decode_sample), 20)


def test_cache_changes_no_sample_and_saves_decoding(source):
    calls = []

    def decode(*args):
        calls.append(1)
        return decode_sample(*args)

    plain = list(itertools.islice(SceneLoader([source], CONFIG, decode), 2 * NUM))
    assert len(calls) == 2 * NUM
    calls.clear()
    some = plain[0].nbytes * 20
    half = list(itertools.islice(SceneLoader([source], CONFIG, decode, cache_bytes=some), 2 * NUM))
    assert len(calls) == 2 * NUM - 20
    calls.clear()
    full = list(itertools.islice(SceneLoader([source], CONFIG, decode, cache_bytes=2**30), 2 * NUM))
    assert len(calls) == NUM
    for ours, theirs in ((half, plain), (full, plain)):
        assert [key(s) for s in ours] == [key(s) for s in theirs]
        assert all(
            np.array_equal(a.instance_images, b.instance_images)
            for a, b in zip(ours, theirs, strict=True)
        )


def test_memory_holds_few_blocks_and_each_is_read_once_an_epoch(tmp_path, monkeypatch):
    source = source_of(
        write_scenes(tmp_path, dict.fromkeys(range(130), 2), num_instances=1, scenes_per_shard=1)
    )
    read = []
    real = type(source).read_block
    monkeypatch.setattr(type(source), "read_block", lambda s, b: read.append(b) or real(s, b))
    stream = SceneStream([source], CONFIG, decode_sample, stop=2 * 260)
    most = 0
    for _ in stream:
        most = max(most, len(stream._readers[0]._blocks))
    assert sorted(read) == sorted([*range(130)] * 2)
    assert most <= OPEN_BLOCKS


@pytest.mark.parametrize("num_workers", [0, 2])
def test_corrupt_row_stops_the_stream_with_its_shard_and_row(tmp_path, num_workers):
    write_scenes(tmp_path, {0: 5, 2: 5}, num_instances=1)
    path = tmp_path / "renders" / "shard-00001.parquet"
    damage(path, "rgb", 4, lambda data: data[: len(data) // 2])
    loader = SceneLoader([source_of(tmp_path)], CONFIG, decode_sample, num_workers=num_workers)
    expected = r"renders/shard-00001\.parquet, row 4 \(layout 2, view 4\): its images cannot be"
    with pytest.raises(DatasetError, match=expected) as caught:
        take(loader, 10)
    assert "\n" not in str(caught.value)
    with pytest.raises(StopIteration):
        next(loader)  # nothing takes its place


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("scene_latent", lambda data: data[:-2], "its latents cannot be used"),
        ("scene_latent", lambda data: None, "its latents cannot be used"),
        ("instance_latents", lambda data: data * 2, "2 latents of 1 instances"),
        ("scene_latent", lambda data: b"\x00\x7e" + data[2:], "a latent is not finite"),
    ],
)
def test_corrupt_latents_are_named(tmp_path, column, change, words):
    write_scenes(tmp_path, {0: 3}, num_instances=1)
    damage(tmp_path / "latents" / "shard-00000.parquet", column, 1, change)
    with pytest.raises(DatasetError, match=rf"latents/shard-00000\.parquet, row 1 .*{words}"):
        take(SceneLoader([source_of(tmp_path)], CONFIG, decode_sample), 3)


@pytest.mark.parametrize("bits", [0, 40, 60])
def test_damaged_image_is_never_replaced(tmp_path, bits):
    write_scenes(tmp_path, {0: 2}, num_instances=1, noise=True)

    def flip(data: bytes) -> bytes:
        place = min(bits * len(data) // 100, len(data) - 1)
        return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]

    damage(tmp_path / "renders" / "shard-00000.parquet", "rgb", 1, flip)
    with pytest.raises(DatasetError, match=r"row 1 \(layout 0, view 1\): its images"):
        take(SceneLoader([source_of(tmp_path)], CONFIG, decode_sample), 2)


def test_map_of_more_instances_than_latents_is_corrupt(tmp_path):
    write_scenes(tmp_path / "two", {0: 2}, num_instances=2)
    write_scenes(tmp_path / "one", {0: 2}, num_instances=1)
    name = "renders/shard-00000.parquet"
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(DatasetError, match="the map shows instance 2 of 1"):
        take(SceneLoader([source_of(tmp_path / "one")], CONFIG, decode_sample), 1)


def test_source_without_views_is_an_error_that_names_it(source):
    with pytest.raises(DatasetError, match=r"latents: 0 views to train on"):
        SceneLoader([source.select(source.layout_id < 0)], CONFIG, decode_sample)


@pytest.mark.parametrize(("rank", "world", "weights"), [(2, 2, ()), (0, 1, (1.0, 2.0))])
def test_rank_or_weights_that_do_not_fit_are_refused(source, rank, world, weights):
    config = StreamConfig(size_px=8, weights=weights)
    with pytest.raises(ConfigError, match=r"loader: got 1 sources"):
        SceneLoader([source], config, decode_sample, rank=rank, world=world)


def damage(path, column: str, row: int, change) -> None:
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = change(values[row])
    index = table.schema.get_field_index(column)
    table = table.set_column(index, table.schema.field(index), pa.array(values, pa.binary()))
    pq.write_table(table, path)
