"""Sparse volumes: features (N, C) on the occupied cells, "sites", of a batch of grids.

Plain PyTorch, on a CPU or a GPU. Shape suffixes: N sites, C channels, H heads, D head channels,
T condition tokens, B samples of the batch (some may have no site).
"""

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16
"""Of a packed coordinate; the sample takes the rest of an int64."""
MAX_COORD = 2**BITS - 3
TAPS = list(itertools.product((-1, 0, 1), repeat=3))
"""The offsets of a 3³ kernel, x slowest, as its weights are stored."""
PADDED_LENGTH = 512
"""Groups up to this many sites are padded into batches; longer ones are attended one by one."""


@dataclass(frozen=True)
class Sites:
    """The cells that carry features. Row i of any features belongs to row i of ``coords``."""

    coords: Tensor
    """(N, 4) int, sample, x, y, z; no cell twice; any order."""
    num_samples: int
    """Samples of the batch, those without a site counted in."""
    _cache: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def sample(self) -> Tensor:
        """(N,) int64: the sample of each site."""
        return self.coords[:, 0].long()

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor] | None]:
        """For each of the 27 taps, the sites that have a neighbour there, and the neighbours.

        None for the centre, where every site is its own.
        """
        keys = pack(self.coords)
        sorted_keys, order = keys.sort()
        found: list[tuple[Tensor, Tensor] | None] = [None] * len(TAPS)
        for tap in range(len(TAPS) // 2):  # the other half are the same pairs, turned round
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
        """The sites of each window of size³ cells, the windows moved by -shift along each axis."""
        windows = self.coords.clone()
        windows[:, 1:] = torch.div(windows[:, 1:] + shift, size, rounding_mode="floor")
        _, index = torch.unique(pack(windows), return_inverse=True)
        return Groups.of(index, int(index.max()) + 1 if len(index) else 0)

    def windows(self, size: int, shift: int) -> "Groups":
        """Return ``by_window``, computed once."""
        key = f"{size}/{shift}"
        if key not in self._cache:
            self._cache[key] = self.by_window(size, shift)
        groups = self._cache[key]
        assert isinstance(groups, Groups)
        return groups


@dataclass(frozen=True)
class Groups:
    """Sites in groups that attend among themselves."""

    order: Tensor
    """(N,) int64: the sites, group by group."""
    counts: list[int]
    """Sites of each group."""

    @classmethod
    def of(cls, group: Tensor, num_groups: int) -> "Groups":
        """Return the groups of sites whose group numbers (N,) are given."""
        counts = torch.bincount(group, minlength=num_groups)
        return cls(group.argsort(stable=True), counts.tolist())


def pack(coords: Tensor) -> Tensor:
    """Return one int64 a row of (N, 4) coordinates, ordered as they are: sample, x, y, z."""
    shifted = coords.long() + 1  # a neighbour at -1 stays within its own bits
    shifted[:, 0] -= 1
    key = shifted[:, 0]
    for axis in range(1, 4):
        key = (key << BITS) + shifted[:, axis]
    return key


def unpack(keys: Tensor) -> Tensor:
    """Return the (N, 4) int32 coordinates of ``pack``."""
    mask = (1 << BITS) - 1
    axes = [(keys >> (BITS * place) & mask) - 1 for place in (2, 1, 0)]
    return torch.stack([keys >> 3 * BITS, *axes], dim=1).int()


def _key_step(offset: tuple[int, ...]) -> int:
    x, y, z = offset
    return ((x << BITS) + y << BITS) + z


class SparseConv3d(nn.Module):
    """A convolution at the sites alone: absent neighbours count as zero, outputs stay sites.

    The weight is (out, k, k, k, in), its kernel axes x, y, z. With kernel size 1 the published
    library reads the weight's memory as (in, out), without transposing it; the published networks
    were trained so, and so are read here.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        assert kernel_size in (1, 3), kernel_size
        self.conv = _ConvWeights(in_channels, out_channels, kernel_size)

    def forward(self, feats: Tensor, sites: Sites) -> Tensor:
        """Map features (N, C_in) to (N, C_out)."""
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
        """Return the convolution of features copied to all 8 children, (8 N, C_out).

        Equal to ``forward(subdivide(feats), subdivided sites)``. A child's 27 neighbours are
        children of 8 parents only: along an axis, the lower child's are those of parents -1, 0, 0
        and the upper child's those of 0, 0, 1. So taps that read the same parent are summed first,
        and 64 products a parent do for 216.
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
    """Sum a kernel (out, 3, 3, 3, in) to (out, 2, 2, 2, in): the taps that read one parent."""
    for axis, upper in enumerate(parity, start=1):
        first, middle, last = weight.unbind(axis)
        pair = (first + middle, last) if upper else (first, middle + last)
        weight = torch.stack(pair, dim=axis)
    return weight


def downsample(feats: Tensor, sites: Sites) -> tuple[Tensor, Sites, Tensor]:
    """Pool cells of 2³ and return features (M, C), their sites, and each old site's new row (N,).

    The sum of a cell's features is divided by their number *plus one*: the published "mean"
    counts the zero that it starts from.
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
    """Return the 8 children 2c + (i, j, k) of every site, parent by parent, k fastest."""
    steps = list(itertools.product((0, 1), repeat=3))
    offsets = torch.tensor([(0, *step) for step in steps], device=sites.coords.device)
    factor = torch.tensor([1, 2, 2, 2], device=sites.coords.device)
    children = sites.coords[:, None] * factor + offsets
    return Sites(children.reshape(-1, 4).to(sites.coords.dtype), sites.num_samples)


class SparseGroupNorm(nn.GroupNorm):
    """Group norm with the statistics of each sample over all its sites, in float32."""

    def forward(self, feats: Tensor, sites: Sites) -> Tensor:  # type: ignore[override]
        """Map (N, C) to (N, C)."""
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
    """Sum (N, G) over the sites of each sample: (B, G)."""
    total = values.new_zeros(sites.num_samples, values.shape[1])
    return total.index_add(0, sites.sample, values)


def attend_in_groups(q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor, groups: Groups) -> Tensor:
    """Attend among the sites of each group alone, softmax(Q Kᵀ / √D) V: (N, H, D).

    Groups of about the same length are padded to a common one and run together; no pad is seen.
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
        out[rows[real]] = attended.transpose(1, 2)[real].to(out.dtype)  # autocast has its own
    return out


def _batches(counts: list[int]) -> dict[int, list[int]]:
    """Return the groups to run together by the length that they are padded to."""
    batches: dict[int, list[int]] = {}
    for index, count in enumerate(counts):
        if count:
            step = 8 if count <= 64 else 32
            length = count if count > PADDED_LENGTH else -(-count // step) * step
            batches.setdefault(length, []).append(index)
    return batches


def _padded(rows: Tensor, length: int) -> Tensor:
    """Repeat the first row at the end until there are ``length``."""
    return rows if len(rows) == length else torch.cat([rows, rows[:1].expand(length - len(rows))])


def attend_to_tokens(q_NHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, groups: Groups) -> Tensor:
    """Let each sample's sites attend to its own condition tokens: (N, H, D)."""
    out = torch.empty_like(q_NHD)
    starts = [0, *itertools.accumulate(groups.counts)]
    for sample, count in enumerate(groups.counts):
        if not count:
            continue
        rows = groups.order[starts[sample] : starts[sample] + count]
        q, k, v = (p.transpose(0, 1)[None] for p in (q_NHD[rows], k_BTHD[sample], v_BTHD[sample]))
        out[rows] = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).to(out.dtype)
    return out


def position_embedding(coords: Tensor, channels: int) -> Tensor:
    """Return (N, C): sines and cosines of coordinates (N, 3), zeros to the end."""
    num_frequencies = channels // 3 // 2
    steps = torch.arange(num_frequencies, dtype=torch.float32, device=coords.device)
    angles = coords.float()[..., None] * 10000 ** -(steps / num_frequencies)
    embedding = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(embedding, (0, channels - embedding.shape[1]))
