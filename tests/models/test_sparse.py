"""Sparse operations give what plain dense ones give on the same cells."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from datagen.models.sparse import (
    Groups,
    Sites,
    SparseConv3d,
    SparseGroupNorm,
    attend_in_groups,
    attend_to_tokens,
    downsample,
    pack,
    subdivide,
    unpack,
)

SIDE = 6
seeds = st.integers(0, 2**31 - 1)


def random_sites(seed, num_samples=3, share=0.3, empty=()):
    """Return shuffled sites of random cells; the samples in ``empty`` have none."""
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(num_samples, SIDE, SIDE, SIDE, generator=generator) < share
    for sample in empty:
        occupied[sample] = False
    coords = occupied.nonzero().int()
    return Sites(coords[torch.randperm(len(coords), generator=generator)], num_samples)


def to_dense(feats, sites, side=SIDE):
    """Return (B, C, side, side, side), zero where there is no site."""
    dense = feats.new_zeros(sites.num_samples, side, side, side, feats.shape[1])
    dense[tuple(sites.coords.long().T)] = feats
    return dense.permute(0, 4, 1, 2, 3)


def at_sites(dense, sites):
    return dense.permute(0, 2, 3, 4, 1)[tuple(sites.coords.long().T)]


@settings(max_examples=20, deadline=None)
@given(seed=seeds, share=st.sampled_from([0.05, 0.4, 1.0]), empty=st.sampled_from([(), (1,), (2,)]))
def test_convolution_is_the_dense_one_read_at_the_sites(seed, share, empty):
    sites = random_sites(seed, share=share, empty=empty)
    torch.manual_seed(seed)
    conv = SparseConv3d(5, 7).double()
    nn.init.normal_(conv.conv.bias)
    feats = torch.randn(len(sites), 5, dtype=torch.float64)
    # Sums are kept in float32, so float64 inputs are as good as float32 ones.
    kernel = conv.conv.weight.permute(0, 4, 1, 2, 3)
    dense = F.conv3d(to_dense(feats, sites), kernel, conv.conv.bias, padding=1)
    torch.testing.assert_close(conv(feats, sites), at_sites(dense, sites), rtol=1e-5, atol=1e-5)


def test_convolution_of_size_one_reads_its_weights_memory_as_in_by_out():
    conv = SparseConv3d(2, 3, kernel_size=1)
    with torch.no_grad():
        conv.conv.weight.copy_(torch.arange(6.0).reshape(3, 1, 1, 1, 2))
    sites = Sites(torch.zeros(1, 4, dtype=torch.int32), 1)
    # Memory 0 1 2 3 4 5 is [[0, 1, 2], [3, 4, 5]]: (1, 10) gives 0 + 30, 1 + 40, 2 + 50.
    out = conv(torch.tensor([[1.0, 10.0]]), sites)
    assert out.tolist() == [[30.0, 41.0, 52.0]]


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_convolution_on_children_is_that_of_copied_features(seed):
    parents = random_sites(seed)
    torch.manual_seed(seed)
    conv = SparseConv3d(4, 6)
    nn.init.normal_(conv.conv.bias)
    feats = torch.randn(len(parents), 4)
    copied = conv(feats.repeat_interleave(8, dim=0), subdivide(parents))
    torch.testing.assert_close(conv.on_children(feats, parents), copied, rtol=1e-5, atol=1e-5)


def test_convolution_passes_gradients():
    sites = random_sites(0)
    conv = SparseConv3d(2, 3)
    feats = torch.randn(len(sites), 2, requires_grad=True)
    conv(feats, sites).square().sum().backward()
    assert feats.grad.abs().min() > 0
    assert conv.conv.weight.grad.abs().min() > 0


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_pooled_cell_is_the_sum_over_one_more_than_its_sites(seed):
    sites = random_sites(seed)
    torch.manual_seed(seed)
    feats = torch.randn(len(sites), 3)
    pooled, cells, index = downsample(feats, sites)
    assert pack(cells.coords).tolist() == sorted(pack(cells.coords).tolist())
    for row, cell in enumerate(cells.coords.tolist()):
        inside = [
            i
            for i, (b, x, y, z) in enumerate(sites.coords.tolist())
            if [b, x // 2, y // 2, z // 2] == cell
        ]
        expected = feats[inside].sum(dim=0) / (len(inside) + 1)
        torch.testing.assert_close(pooled[row], expected)
        assert (index[inside] == row).all()


def test_children_come_parent_by_parent_z_fastest():
    children = subdivide(Sites(torch.tensor([[1, 3, 0, 2]], dtype=torch.int32), 2)).coords
    expected = [[1, 6 + i, j, 4 + k] for i, j, k in itertools.product((0, 1), repeat=3)]
    assert children.tolist() == expected


@settings(max_examples=20, deadline=None)
@given(seed=seeds, empty=st.sampled_from([(), (0,), (2,)]))
def test_group_norm_takes_each_sample_by_itself(seed, empty):
    sites = random_sites(seed, empty=empty)
    torch.manual_seed(seed)
    norm = SparseGroupNorm(4, 8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    feats = torch.randn(len(sites), 8) * 3 + 1
    out = norm(feats, sites)
    for sample in range(sites.num_samples):
        chosen = sites.sample == sample
        if chosen.sum() > 1:
            alone = F.group_norm(feats[chosen].T[None], 4, norm.weight, norm.bias)[0].T
            torch.testing.assert_close(out[chosen], alone, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, num_groups=st.integers(1, 40), size=st.integers(0, 120))
def test_attention_in_groups_is_masked_softmax(seed, num_groups, size):
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(num_groups, (size,), generator=generator)
    q, k, v = (torch.randn(size, 2, 8, generator=generator) for _ in range(3))
    out = attend_in_groups(q, k, v, Groups.of(group, num_groups))
    scores = torch.einsum("ihd,jhd->hij", q, k) / 8**0.5
    scores.masked_fill_(group[:, None] != group[None], -torch.inf)
    expected = torch.einsum("hij,jhd->ihd", scores.softmax(dim=-1), v)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_attention_in_one_long_group_is_plain_attention():
    q, k, v = (torch.randn(700, 2, 4) for _ in range(3))
    out = attend_in_groups(q, k, v, Groups.of(torch.zeros(700, dtype=torch.long), 1))
    plain = F.scaled_dot_product_attention(*(part.transpose(0, 1) for part in (q, k, v)))
    torch.testing.assert_close(out, plain.transpose(0, 1))


def test_windows_are_cut_where_the_shifted_coordinate_divides():
    coords = torch.tensor([[0, 3, 0, 0], [0, 4, 0, 0], [0, 7, 0, 0], [0, 8, 0, 0], [1, 3, 0, 0]])
    sites = Sites(coords.int(), 2)
    assert sorted(sites.windows(8, 0).counts) == [1, 1, 3]  # 8 alone, the other sample alone
    assert sorted(sites.windows(8, 4).counts) == [1, 1, 3]  # 3 alone
    shifted = sites.windows(8, 4)
    first = shifted.order[: shifted.counts[0]].tolist()
    assert first == [0]


@pytest.mark.parametrize("empty", [(), (1,), (2,)])
def test_tokens_are_those_of_the_sites_own_sample(empty):
    sites = random_sites(3, empty=empty)
    q = torch.randn(len(sites), 2, 4)
    tokens = torch.randn(3, 5, 2, 4)
    out = attend_to_tokens(q, tokens, tokens, sites.by_sample)
    for row, sample in enumerate(sites.sample.tolist()):
        weights = torch.einsum("hd,thd->ht", q[row], tokens[sample]) / 2
        expected = torch.einsum("ht,thd->hd", weights.softmax(dim=-1), tokens[sample])
        torch.testing.assert_close(out[row], expected, rtol=1e-4, atol=1e-5)


def test_no_site_at_all_gives_empty_features():
    sites = Sites(torch.zeros(0, 4, dtype=torch.int32), 2)
    conv, norm = SparseConv3d(3, 4), SparseGroupNorm(1, 4)
    out = norm(conv(torch.zeros(0, 3), sites), sites)
    assert out.shape == (0, 4)
    assert conv.on_children(torch.zeros(0, 3), sites).shape == (0, 4)
    pooled, cells, _ = downsample(out, sites)
    assert len(pooled) == len(cells) == len(subdivide(sites)) == 0
    assert attend_in_groups(*(torch.zeros(0, 1, 4),) * 3, sites.windows(8, 4)).shape == (0, 1, 4)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(*[st.integers(0, 1023)] * 4), max_size=20))
def test_packed_coordinates_come_back_and_keep_their_order(rows):
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    torch.testing.assert_close(unpack(pack(coords)), coords)
    keys = pack(coords).tolist()
    assert sorted(range(len(rows)), key=lambda i: keys[i]) == sorted(
        range(len(rows)), key=lambda i: rows[i]
    )
