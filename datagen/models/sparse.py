"""Sparse volumes: features (N, C) on the occupied cells, "sites", of a batch of grids.

Plain PyTorch, on a CPU or a GPU. Shape suffixes: N sites, M sites after pooling, C channels,
H heads, D head channels, T condition tokens, B samples of the batch (some may have no site),
K groups of channels.
"""

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16
"""Of a packed coordinate, which may be -1 to 65534; the sample has the other bits of an int64."""
TAPS = list(itertools.product((-1, 0, 1), repeat=3))
"""The offsets of a 3³ kernel, x slowest, as its weights are stored."""
PADDED_LENGTH = 512
"""Groups up to this many sites are padded into batches; longer ones are attended one by one."""


@dataclass(frozen=True)
class Sites:
    """The cells that have features; row i of the features belongs to row i of ``coords``."""

    coords: Tensor
    """(N, 4) int: sample, x, y, z. Cells are distinct, in any order."""
    num_samples: int
    """Samples of the batch, those without a site included."""
    _cache: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def sample(self) -> Tensor:
        """(N,) int64: the sample of each site."""
        return self.coords[:, 0].long()

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor] | None]:
        """For each of the 27 taps, the sites with a neighbour there, and those neighbours.

        Each is a pair of row numbers, (M,) int64; None for the centre tap.
        """
        keys = pack(self.coords)
        sorted_keys, order = keys.sort()
        found: list[tuple[Tensor, Tensor] | None] = [None] * len(TAPS)
        for tap in range(len(TAPS) // 2):  # the other half are the same pairs, swapped
            wanted = keys + _key_step(TAPS[tap])
            place = torch.searchsorted(sorted_keys, wanted).clamp(max=max(len(keys) - 1, 0))
            here = (sorted_keys[place] == wanted).nonzero().squeeze(1)
            there = order[place[here]]
            found[tap] = (here, there)
            found[len(TAPS) - 1 - tap] = (there, here)
        return found

    @cached_property
    def by_sample(self) -> "Groups":
        """The sites of each sample."""
        return Groups.of(self.sample, self.num_samples)

    def by_window(self, size: int, shift: int) -> "Groups":
        """Return the sites of each window of size³ cells, moved by -shift along each axis."""
        windows = self.coords.clone()
        windows[:, 1:] = torch.div(windows[:, 1:] + shift, size, rounding_mode="floor")
        _, index = torch.unique(pack(windows), return_inverse=True)
        return Groups.of(index, int(index.max()) + 1 if len(index) else 0)

    def windows(self, size: int, shift: int) -> "Groups":
        """Return ``by_window`` from the cache."""
        key = f"{size}/{shift}"
        if key not in self._cache:
            self._cache[key] = self.by_window(size, shift)
        groups = self._cache[key]
        assert isinstance(groups, Groups)
        return groups


@dataclass(frozen=True)
class Groups:
    """A partition of the sites into groups, such as samples or windows."""

    order: Tensor
    """(N,) int64: rows of the sites, group after group."""
    counts: list[int]
    """How many sites each group has."""

    @classmethod
    def of(cls, group: Tensor, num_groups: int) -> "Groups":
        """Return the groups of sites with group numbers (N,) int64, 0 to num_groups - 1."""
        counts = torch.bincount(group, minlength=num_groups)
        return cls(group.argsort(stable=True), counts.tolist())


def pack(coords: Tensor) -> Tensor:
    """Return keys (N,) int64 of coordinates (N, 4), in the same order: by sample, x, y, z."""
    shifted = coords.long() + 1  # a neighbour at -1 stays within its own bits
    shifted[:, 0] -= 1
    key = shifted[:, 0]
    for axis in range(1, 4):
        key = (key << BITS) + shifted[:, axis]
    return key


def unpack(keys: Tensor) -> Tensor:
    """Return the coordinates (N, 4) int32 of keys (N,): the inverse of ``pack``."""
    mask = (1 << BITS) - 1
    axes = [(keys >> (BITS * place) & mask) - 1 for place in (2, 1, 0)]
    return torch.stack([keys >> 3 * BITS, *axes], dim=1).int()


def _key_step(offset: tuple[int, ...]) -> int:
    x, y, z = offset
    return ((x << BITS) + y << BITS) + z


class SparseConv3d(nn.Module):
    """Submanifold convolution: outputs at the sites alone, absent neighbours count as zero.

    The weight is (out, k, k, k, in), with kernel axes x, y, z. For kernel size 1 the library of the
    published networks reads the weight's memory as (in, out) without a transpose. The networks were
    trained that way, so this class reads it the same way.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        assert kernel_size in (1, 3), kernel_size
        self.conv = _ConvWeights(in_channels, out_channels, kernel_size)

    def forward(self, feats: Tensor, sites: Sites) -> Tensor:
        """Return features (N, C_out) for features (N, C_in)."""
        weight, bias = self.conv.weight, self.conv.bias
        out_channels, in_channels = weight.shape[0], weight.shape[-1]
        if weight.shape[1] == 1:
            return feats @ weight.reshape(in_channels, out_channels) + bias
        taps = weight.reshape(out_channels, -1, in_channels)
        centre = len(TAPS) // 2
        out = F.linear(feats, taps[:, centre], bias).float()  # sums of halves are kept in float32
        for tap, pair in enumerate(sites.pairs):
            if pair is not None and len(pair[0]):
                here, there = pair
                out = out.index_add(0, here, F.linear(feats[there], taps[:, tap]).float())
        return out.to(feats.dtype)

    def on_children(self, feats: Tensor, parents: Sites) -> Tensor:
        """Return the convolution (8N, C_out) of features (N, C_in) copied to all 8 children.

        The result is that of ``forward(feats.repeat_interleave(8, dim=0), subdivide(parents))``. A
        child's 27 neighbours belong to only 8 parents: along an axis, the three neighbours of the
        lower child lie in parents -1, 0, 0, and those of the upper child in 0, 0, 1. Taps that read
        the same parent are summed first, which leaves 64 products per parent instead of 216.
        """
        weight, bias = self.conv.weight, self.conv.bias
        out_channels = weight.shape[0]
        out = bias.float().expand(len(feats), 8, out_channels).clone()
        for child, parity in enumerate(itertools.product((0, 1), repeat=3)):
            summed = _sum_taps(weight.float(), parity).to(weight.dtype)
            for steps in itertools.product((0, 1), repeat=3):
                offset = tuple(p - 1 + s for p, s in zip(parity, steps, strict=True))
                pair = parents.pairs[TAPS.index(offset)]
                kernel = summed[:, steps[0], steps[1], steps[2]]
                if pair is None:
                    out[:, child] += F.linear(feats, kernel).float()
                elif len(pair[0]):
                    here, there = pair
                    out[:, child].index_add_(0, here, F.linear(feats[there], kernel).float())
        return out.reshape(-1, out_channels).to(feats.dtype)


class _ConvWeights(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        shape = (out_channels, *[kernel_size] * 3, in_channels)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = 1 / math.sqrt(in_channels * kernel_size**3)
        nn.init.uniform_(self.weight, -bound, bound)


def _sum_taps(weight: Tensor, parity: tuple[int, ...]) -> Tensor:
    """Return (out, 2, 2, 2, in): a kernel (out, 3, 3, 3, in) summed over taps of equal parent."""
    for axis, upper in enumerate(parity, start=1):
        first, middle, last = weight.unbind(axis)
        pair = (first + middle, last) if upper else (first, middle + last)
        weight = torch.stack(pair, dim=axis)
    return weight


def downsample(feats: Tensor, sites: Sites) -> tuple[Tensor, Sites, Tensor]:
    """Pool cells of 2³: return features (M, C), their sites, and each old site's new row (N,).

    The sum of a cell's features is divided by their number *plus one*: the published "mean" also
    counts the zero it starts from.
    """
    halved = sites.coords.clone()
    halved[:, 1:] = torch.div(halved[:, 1:], 2, rounding_mode="floor")
    keys, index = torch.unique(pack(halved), return_inverse=True)
    total = feats.new_zeros(len(keys), feats.shape[1], dtype=torch.float32)
    total = total.index_add(0, index, feats.float())
    count = torch.bincount(index, minlength=len(keys))
    pooled = (total / (count + 1)[:, None]).to(feats.dtype)
    return pooled, Sites(unpack(keys).to(sites.coords.dtype), sites.num_samples), index


def subdivide(sites: Sites) -> Sites:
    """Return the 8 children 2c + (i, j, k) of every site c, parent by parent, k fastest."""
    steps = list(itertools.product((0, 1), repeat=3))
    offsets = torch.tensor([(0, *step) for step in steps], device=sites.coords.device)
    factor = torch.tensor([1, 2, 2, 2], device=sites.coords.device)
    children = sites.coords[:, None] * factor + offsets
    return Sites(children.reshape(-1, 4).to(sites.coords.dtype), sites.num_samples)


class SparseGroupNorm(nn.GroupNorm):
    """Group norm with statistics over all sites of a sample, computed in float32."""

    def forward(self, feats: Tensor, sites: Sites) -> Tensor:  # type: ignore[override]
        """Return features (N, C) normalised, in the input's dtype."""
        grouped = torch.unflatten(feats.float(), 1, (self.num_groups, -1))
        per_site = grouped.shape[2]
        count = torch.bincount(sites.sample, minlength=sites.num_samples).clamp(min=1) * per_site
        mean = _sample_sums(grouped.sum(dim=2), sites) / count[:, None]
        centred = grouped - mean[sites.sample][:, :, None]
        variance = _sample_sums(centred.square().sum(dim=2), sites) / count[:, None]
        scale = torch.rsqrt(variance + self.eps)[sites.sample][:, :, None]
        normed = (centred * scale).reshape(feats.shape)
        out: Tensor = (normed * self.weight + self.bias).to(feats.dtype)
        return out


def _sample_sums(values: Tensor, sites: Sites) -> Tensor:
    """Return the sums (B, K) of values (N, K) over the sites of each sample."""
    total = values.new_zeros(sites.num_samples, values.shape[1])
    return total.index_add(0, sites.sample, values)


def attend_in_groups(q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor, groups: Groups) -> Tensor:
    """Return the attended values (N, H, D): softmax(Q Kᵀ / √D) V within each group of sites.

    Groups of similar length are padded to a common one and run together; padding is masked.
    """
    out = torch.empty_like(q_NHD)
    starts = [0, *itertools.accumulate(groups.counts)]
    for length, members in _batches(groups.counts).items():
        rows = torch.stack(
            [_padded(groups.order[starts[i] : starts[i + 1]], length) for i in members]
        )
        counts = torch.tensor([groups.counts[i] for i in members], device=rows.device)
        real = torch.arange(length, device=rows.device) < counts[:, None]
        mask = None if bool(real.all()) else real[:, None, None]
        q, k, v = (part[rows].transpose(1, 2) for part in (q_NHD, k_NHD, v_NHD))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        # Under autocast, attention may return another dtype.
        out[rows[real]] = attended.transpose(1, 2)[real].to(out.dtype)
    return out


def _batches(counts: list[int]) -> dict[int, list[int]]:
    """Return the groups that run together, by the length they are padded to."""
    batches: dict[int, list[int]] = {}
    for index, count in enumerate(counts):
        if count:
            step = 8 if count <= 64 else 32
            length = count if count > PADDED_LENGTH else -(-count // step) * step
            batches.setdefault(length, []).append(index)
    return batches


def _padded(rows: Tensor, length: int) -> Tensor:
    """Return ``length`` rows: the given ones, then the first one again and again."""
    return rows if len(rows) == length else torch.cat([rows, rows[:1].expand(length - len(rows))])


def attend_to_tokens(q_NHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, groups: Groups) -> Tensor:
    """Return the attended values (N, H, D): each sample's sites attend to its own T tokens."""
    out = torch.empty_like(q_NHD)
    starts = [0, *itertools.accumulate(groups.counts)]
    for sample, count in enumerate(groups.counts):
        if not count:
            continue
        rows = groups.order[starts[sample] : starts[sample] + count]
        q, k, v = (p.transpose(0, 1)[None] for p in (q_NHD[rows], k_BTHD[sample], v_BTHD[sample]))
        out[rows] = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).to(out.dtype)
    return out
