"""The surface in the cubes of ``SLatMeshDecoder``, from the cubes that can contain a part of it.

FlexiCubes (Shen et al. 2023, "Flexible Isosurface Extraction for Gradient-Based Mesh
Optimization"), as TRELLIS uses it: dual marching cubes whose vertices are placed by weights on
each cube's edges (beta), corners (alpha) and quads (gamma). The published code fills a dense grid
of 257³ corners. This module visits only the cubes around inside corners. An inside corner always
belongs to a cube that the decoder lists, because a corner without one counts as outside. The other
cubes around it may be missing from the list: more than half of the surface's cubes can be.

V grid corners, M listed cubes, K visited cubes, S surface cubes, X crossed edges, D dual vertices,
Q quads, F faces.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from datagen.models.sparse import pack, unpack

CUBE_CORNERS = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
"""Corners of a cube, x fastest: the order of the decoder's channels."""

CUBE_EDGES = [(0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6)]
CUBE_EDGES += [(2, 0), (3, 1), (7, 5), (6, 4)]
"""Edges of a cube, as pairs of corners: the order of beta."""

NUM_CHANNELS = 53
"""Channels of a cube without colours: sdf 8, deform 24, weights 21."""

MAX_DEFORM = 1 - 1e-8
"""How far a corner may move, as a share of half a cell."""


@dataclass(frozen=True)
class CubeMesh:
    """A mesh in canonical space (z_up, [-0.5, 0.5]³)."""

    vertices: Tensor
    """(D, 3) float32."""
    faces: Tensor
    """(F, 3) int64, counter-clockwise from outside."""
    colors: Tensor | None
    """(D, 6) float32 in (0, 1), colour and normal; None if the decoder has none."""


@dataclass(frozen=True)
class _Grid:
    """The visited cubes and their corners, with the values at both."""

    cubes: Tensor
    """(K, 3)."""
    weights: Tensor
    """(K, 21): beta 12, alpha 8, gamma 1, raw."""
    corner_of: Tensor
    """(K, 8): rows of each cube's corners."""
    sdf: Tensor
    """(V,): negative inside."""
    positions: Tensor
    """(V, 3)."""
    colors: Tensor | None
    """(V, 6)."""


def extract_mesh(
    coords: Tensor, feats: Tensor, resolution: int, *, closed: bool = False
) -> CubeMesh:
    """Return the surface of one object; it has no vertices if no corner is inside.

    Args:
        coords: (M, 3) int, the cubes that the decoder lists, 0..resolution - 1.
        feats: (M, 101) or (M, 53), their channels: sdf 8, deform 8·3, weights 21 (beta 12, alpha 8,
            gamma 1) and, with colours, 8·6.
        resolution: cubes along a side of the grid. TRELLIS: four times the voxels. I-Scene: five
            times, with the same cubes, so its vertices v are at 0.8·v - 0.1 in true space.
        closed: close the surface where it meets the grid's border, by visiting the cubes beyond it.
            The published code leaves it open there.
    """
    feats = feats.float()
    grid = _fill_grid(coords, feats, resolution, closed=closed)
    case = _case_numbers(grid)
    surface = ((case > 0) & (case < 255)).nonzero().squeeze(1)
    case = _resolve_ambiguous(grid.cubes[surface], case[surface])
    loops, num_loops = (table.to(coords.device) for table in (LOOPS, NUM_LOOPS))
    first = num_loops[case].cumsum(0) - num_loops[case]
    dual_of = loops[case] + first[:, None]  # (S, 12), meaningless for edges that are not crossed
    crossed = loops[case] >= 0
    vertices, colors = _place_vertices(grid, surface, dual_of, crossed, int(num_loops[case].sum()))
    faces = _join_vertices(grid, surface, dual_of, crossed)
    return CubeMesh(vertices, faces, colors)


def _fill_grid(coords: Tensor, feats: Tensor, resolution: int, *, closed: bool) -> _Grid:
    """Average the cubes' values at shared corners, and collect the cubes around inside corners."""
    offsets = torch.tensor(CUBE_CORNERS, device=coords.device)
    listed_corners = pack(_with_zero((coords[:, None] + offsets).reshape(-1, 3)))
    known, place = torch.unique(listed_corners, return_inverse=True)
    channels = [(feats[:, :8] - 1 / resolution).reshape(-1, 1), feats[:, 8:32].reshape(-1, 3)]
    has_colors = feats.shape[1] > NUM_CHANNELS
    if has_colors:
        channels.append(feats[:, NUM_CHANNELS:].reshape(-1, 6))
    values = torch.cat(channels, dim=1)
    total = values.new_zeros(len(known), values.shape[1]).index_add(0, place, values)
    mean = total / torch.bincount(place, minlength=len(known))[:, None]

    inside = unpack(known[mean[:, 0] < 0])[:, 1:]
    low, high = (-1, resolution + 1) if closed else (0, resolution)
    cubes = (inside[:, None] - offsets).reshape(-1, 3)
    cubes = cubes[((cubes >= low) & (cubes < high)).all(dim=1)]
    cube_keys = torch.unique(pack(_with_zero(cubes)))
    cubes = unpack(cube_keys)[:, 1:].long()
    around = pack(_with_zero((cubes[:, None] + offsets).reshape(-1, 3)))
    keys, corner_of = torch.unique(around, return_inverse=True)
    mean = _looked_up(known, mean, keys, default=[1.0] + [0.0] * (mean.shape[1] - 1))
    listed = pack(_with_zero(coords))
    order = listed.argsort()
    weights = feats[order, 32:NUM_CHANNELS]
    moved = MAX_DEFORM / (2 * resolution) * torch.tanh(mean[:, 1:4])
    return _Grid(
        cubes=cubes,
        weights=_looked_up(listed[order], weights, cube_keys, default=[0.0] * 21),
        corner_of=corner_of.reshape(-1, 8),
        sdf=mean[:, 0],
        positions=unpack(keys)[:, 1:] / resolution - 0.5 + moved,
        colors=torch.sigmoid(mean[:, 4:]) if has_colors else None,
    )


def _looked_up(known: Tensor, values: Tensor, wanted: Tensor, default: list[float]) -> Tensor:
    """Return the values (W, C) of the wanted keys among sorted known ones, or the default."""
    out = values.new_tensor(default).repeat(len(wanted), 1)
    if len(known):
        place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
        found = known[place] == wanted
        out[found] = values[place[found]]
    return out


def _case_numbers(grid: _Grid) -> Tensor:
    """Return (K,): bit i of a cube's number is set if its corner i is inside."""
    inside = grid.sdf[grid.corner_of] < 0
    return (inside.long() << torch.arange(8, device=inside.device)).sum(dim=1)


def _resolve_ambiguous(cubes: Tensor, case: Tensor) -> Tensor:
    """Return the cases (S,), complemented for two neighbours that would be joined wrongly.

    A face whose inside corners are diagonally opposite is ambiguous: it can be cut in two ways. If
    in both neighbours one loop contains all four edges of the face, two vertices would be joined
    twice, and the mesh would not be manifold (Nielson 2004, "Dual Marching Cubes", cases 16, 19).
    """
    step = AMBIGUOUS_STEP.to(cubes.device)[case]
    ambiguous = step.any(dim=1)
    keys = pack(_with_zero(cubes))  # sorted, because the cubes are
    wanted = pack(_with_zero(cubes + step))
    place = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
    both = ambiguous & (keys[place] == wanted) & ambiguous[place]
    return torch.where(both, 255 - case, case)


def _place_vertices(
    grid: _Grid, surface: Tensor, dual_of: Tensor, crossed: Tensor, num_vertices: int
) -> tuple[Tensor, Tensor | None]:
    """Return the dual vertices (D, 3) and their colours (D, 6).

    v_d = Σ_e β_e u_e / Σ_e β_e over a loop's edges, with the zero crossing of an edge
    u_e = (s_b α_b x_a - s_a α_a x_b) / (s_b α_b - s_a α_a)  (FlexiCubes, equations 1 to 5).
    """
    cube, edge = crossed.nonzero(as_tuple=True)
    ends = torch.tensor(CUBE_EDGES, device=crossed.device)[edge]  # (X, 2)
    corner = grid.corner_of[surface[cube][:, None], ends]
    weights = grid.weights[surface[cube]]
    alpha = 1 + 0.99 * torch.tanh(weights[:, 12:20].gather(1, ends))
    beta = 1 + 0.99 * torch.tanh(weights[:, :12].gather(1, edge[:, None]))
    scaled = grid.sdf[corner] * alpha
    share = torch.stack([scaled[:, 1], -scaled[:, 0]], dim=1)
    share = share / share.sum(dim=1, keepdim=True)
    dual = dual_of[cube, edge]

    def mean(values: Tensor) -> Tensor:
        crossing = (values[corner] * share[..., None]).sum(dim=1)
        total = crossing.new_zeros(num_vertices, crossing.shape[1])
        norm = beta.new_zeros(num_vertices, 1).index_add(0, dual, beta)
        return total.index_add(0, dual, crossing * beta) / norm

    return mean(grid.positions), None if grid.colors is None else mean(grid.colors)


def _join_vertices(grid: _Grid, surface: Tensor, dual_of: Tensor, crossed: Tensor) -> Tensor:
    """Return faces (F, 3): two triangles around each crossed edge that four cubes share."""
    cube, edge = crossed.nonzero(as_tuple=True)
    corners = torch.tensor(CUBE_EDGES, device=cube.device)[edge]
    ends = grid.corner_of[surface[cube][:, None], corners]
    ends, _ = ends.sort(dim=1)  # rows follow x, y, z, so the first end is the lower one
    number = len(grid.sdf)
    key = ends[:, 0] * number + ends[:, 1]
    # The four cubes around an edge come in the order of their coordinates, cubes being sorted.
    order = key.argsort(stable=True)
    found, counts = torch.unique_consecutive(key[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    whole = counts == 4
    quads = order[starts[whole][:, None] + torch.arange(4, device=cube.device)[[0, 1, 3, 2]]]
    lower_is_inside = grid.sdf[found[whole] // number] < 0
    # Of the four cubes, the first two differ in the later of the two other axes. So they run in one
    # direction around edges along x or z, and in the other around edges along y (the last four).
    is_along_y = edge[quads[:, 0]] >= 8
    flip = lower_is_inside ^ is_along_y
    quads = torch.where(flip[:, None], quads.flip(1), quads)
    gamma = 0.99 * torch.sigmoid(grid.weights[surface[cube[quads]], 20]) + 0.005
    vertices = dual_of[cube[quads], edge[quads]]
    return _cut_quads(vertices, gamma)


def _cut_quads(quads: Tensor, gamma: Tensor) -> Tensor:
    """Cut quads (Q, 4) along the diagonal whose ends have the larger product of gamma."""
    along_first = gamma[:, 0] * gamma[:, 2] > gamma[:, 1] * gamma[:, 3]
    first = quads[:, [0, 1, 2, 0, 2, 3]]
    second = quads[:, [0, 1, 3, 1, 2, 3]]
    return torch.where(along_first[:, None], first, second).reshape(-1, 3)


def _with_zero(coords: Tensor) -> Tensor:
    """Return (N, 4): coordinates (N, 3) after a sample number 0."""
    return torch.nn.functional.pad(coords.long(), (1, 0))


def _faces_of_cube() -> list[list[int]]:
    """Return the corners of each of the six faces, in order around the face."""
    faces = []
    for axis, side in itertools.product(range(3), (0, 1)):
        u, v = (other for other in range(3) if other != axis)
        face = []
        for at_u, at_v in ((0, 0), (1, 0), (1, 1), (0, 1)):
            corner = [0, 0, 0]
            corner[axis], corner[u], corner[v] = side, at_u, at_v
            face.append(CUBE_CORNERS.index((corner[0], corner[1], corner[2])))
        faces.append(face)
    return faces


def _loops_of(case: int) -> tuple[list[int], tuple[int, int, int]]:
    """Return the loop of each edge (-1: not crossed), and the step across an ambiguous face.

    On each face, two crossed edges are linked if the corners between them are inside. This keeps
    diagonally opposite inside corners apart. Linked edges form a loop around one dual vertex.
    """
    inside = [bool(case >> corner & 1) for corner in range(8)]
    number = {frozenset(ends): index for index, ends in enumerate(CUBE_EDGES)}
    leader = list(range(12))

    def find(edge: int) -> int:
        while leader[edge] != edge:
            edge = leader[edge]
        return edge

    ambiguous = []
    for place, face in enumerate(_faces_of_cube()):
        links = _links_on_face(face, inside)
        for first, second in links:
            leader[find(number[first])] = find(number[second])
        if len(links) == 2:
            ambiguous.append((place, [number[edge] for link in links for edge in link]))
    crossed = [inside[a] != inside[b] for a, b in CUBE_EDGES]
    leaders = sorted({find(edge) for edge in range(12) if crossed[edge]})
    loops = [leaders.index(find(edge)) if crossed[edge] else -1 for edge in range(12)]
    step = [0, 0, 0]
    if len(ambiguous) == 1 and len({loops[edge] for edge in ambiguous[0][1]}) == 1:
        axis, side = divmod(ambiguous[0][0], 2)
        step[axis] = 2 * side - 1
    return loops, (step[0], step[1], step[2])


def _links_on_face(
    face: list[int], inside: list[bool]
) -> list[tuple[frozenset[int], frozenset[int]]]:
    """Return the pairs of edges that a face links: one pair for each run of inside corners."""
    links = []
    for start in range(4):
        if inside[face[start]] and not inside[face[start - 1]]:
            end = start
            while inside[face[(end + 1) % 4]]:
                end += 1
            entry = frozenset((face[start - 1], face[start]))
            leave = frozenset((face[end % 4], face[(end + 1) % 4]))
            links.append((entry, leave))
    return links


_TABLE = [_loops_of(case) for case in range(256)]
LOOPS = torch.tensor([loops for loops, _ in _TABLE])
"""(256, 12): the loop of its cube that an edge belongs to; -1 if the edge is not crossed."""
NUM_LOOPS = LOOPS.amax(dim=1) + 1
"""(256,): dual vertices of a cube."""
AMBIGUOUS_STEP = torch.tensor([step for _, step in _TABLE])
"""(256, 3): the step to the neighbour across a face that one loop of the cube meets twice; or 0."""
