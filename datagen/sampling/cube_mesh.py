"""The surface in the cubes of ``SLatMeshDecoder``, on the cubes that can hold any of it.

FlexiCubes (Shen et al. 2023, "Flexible Isosurface Extraction for Gradient-Based Mesh
Optimization"), as TRELLIS uses it: dual marching cubes whose vertices are placed by weights on
each cube's edges (beta), corners (alpha) and quads (gamma). The published code fills a dense grid
of 257³ corners; here only the cubes about a corner inside are looked at. Such a corner belongs to a
listed cube, since one that no listed cube touches lies outside; but more than half of the surface's
cubes may be unlisted neighbours.

V grid corners, K cubes looked at, S surface cubes, E edges, D dual vertices.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from datagen.models.sparse import pack, unpack

CORNERS = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
"""Of a cube, x fastest: the order of the decoder's channels."""

EDGES = [(0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6)]
EDGES += [(2, 0), (3, 1), (7, 5), (6, 4)]
"""Of a cube, by corners: the order of beta."""

NUM_CHANNELS = 53
"""Of a cube, without colours: sdf 8, deform 24, weights 21."""

MAX_DEFORM = 1 - 1e-8
"""How far a corner may move, of half a cell."""


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
    """Cubes, their corners, and what is known at both."""

    cubes: Tensor
    """(K, 3)."""
    weights: Tensor
    """(K, 21): beta 12, alpha 8, gamma 1, raw."""
    corner_of: Tensor
    """(K, 8): rows of the corners."""
    sdf: Tensor
    """(V,): negative inside."""
    positions: Tensor
    """(V, 3)."""
    colors: Tensor | None
    """(V, 6)."""


def extract_mesh(
    coords: Tensor, feats: Tensor, resolution: int, *, closed: bool = False
) -> CubeMesh:
    """Return the surface of one object.

    Args:
        coords: (M, 3) int, the listed cubes, 0..resolution - 1.
        feats: (M, 101) or (M, 53), the decoder's channels of each: sdf 8, deform 8·3, weights 21
            (beta 12, alpha 8, gamma 1) and, if any, colours 8·6.
        resolution: cubes along a side of the grid. TRELLIS: four times the voxels. I-Scene: five
            times, with the same cubes, so that its mesh is 0.8·v - 0.1 of true space.
        closed: look beyond the grid's border too. As published, a surface that meets the border
            stays open there; beyond it all is outside, so that it can be closed.

    Returns:
        The mesh; without vertices where no corner is inside.
    """
    feats = feats.float()
    grid = _fill_grid(coords, feats, resolution, closed=closed)
    case = _case_numbers(grid)
    surface = ((case > 0) & (case < 255)).nonzero().squeeze(1)
    case = _resolve_ambiguous(grid.cubes[surface], case[surface])
    loops, num_loops = (table.to(coords.device) for table in (LOOPS, NUM_LOOPS))
    first = num_loops[case].cumsum(0) - num_loops[case]
    dual_of = loops[case] + first[:, None]  # (S, 12), wrong where no crossing is
    crossed = loops[case] >= 0
    vertices, colors = _place_vertices(grid, surface, dual_of, crossed, int(num_loops[case].sum()))
    faces = _join_vertices(grid, surface, dual_of, crossed)
    return CubeMesh(vertices, faces, colors)


def _fill_grid(coords: Tensor, feats: Tensor, resolution: int, *, closed: bool) -> _Grid:
    """Average what cubes say of shared corners, and take the cubes around those inside."""
    offsets = torch.tensor(CORNERS, device=coords.device)
    said = pack(_with_zero((coords[:, None] + offsets).reshape(-1, 3)))
    known, place = torch.unique(said, return_inverse=True)
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
    """Return the values (W, C) of wanted keys, by sorted known ones; the default where unknown."""
    out = values.new_tensor(default).repeat(len(wanted), 1)
    if len(known):
        place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
        found = known[place] == wanted
        out[found] = values[place[found]]
    return out


def _case_numbers(grid: _Grid) -> Tensor:
    """Return (K,): bit i of a cube's number says that its corner i is inside."""
    inside = grid.sdf[grid.corner_of] < 0
    return (inside.long() << torch.arange(8, device=inside.device)).sum(dim=1)


def _resolve_ambiguous(cubes: Tensor, case: Tensor) -> Tensor:
    """Return the cases (S,), two that would join wrongly across a face turned inside out.

    A face whose inside corners lie across its diagonal can be cut in two ways. Where the loop of
    both neighbours holds all four of its edges, two vertices would be joined twice, and the mesh
    would not be manifold (Nielson 2004, "Dual Marching Cubes", cases 16 and 19).
    """
    step = AMBIGUOUS_STEP.to(cubes.device)[case]
    doubtful = step.any(dim=1)
    keys = pack(_with_zero(cubes))  # sorted: the cubes are
    wanted = pack(_with_zero(cubes + step))
    place = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
    both = doubtful & (keys[place] == wanted) & doubtful[place]
    return torch.where(both, 255 - case, case)


def _place_vertices(
    grid: _Grid, surface: Tensor, dual_of: Tensor, crossed: Tensor, num_vertices: int
) -> tuple[Tensor, Tensor | None]:
    """Return the dual vertices (D, 3) and their colours (D, 6).

    v_d = Σ_e β_e u_e / Σ_e β_e over a loop's edges, with the zero crossing of an edge
    u_e = (s_b α_b x_a - s_a α_a x_b) / (s_b α_b - s_a α_a)  (FlexiCubes, equations 1 to 5).
    """
    cube, edge = crossed.nonzero(as_tuple=True)
    ends = torch.tensor(EDGES, device=crossed.device)[edge]  # (C, 2)
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
    """Return faces (F, 3): a quad around each crossed edge that four cubes share, cut in two."""
    cube, edge = crossed.nonzero(as_tuple=True)
    ends = grid.corner_of[surface[cube][:, None], torch.tensor(EDGES, device=cube.device)[edge]]
    ends, _ = ends.sort(dim=1)  # rows are in the order of x, y, z: the first end is the lower one
    number = len(grid.sdf)
    key = ends[:, 0] * number + ends[:, 1]
    # The four cubes around an edge come in the order of their coordinates, cubes being sorted.
    order = key.argsort(stable=True)
    found, counts = torch.unique_consecutive(key[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    whole = counts == 4
    quads = order[starts[whole][:, None] + torch.arange(4, device=cube.device)[[0, 1, 3, 2]]]
    lower_is_inside = grid.sdf[found[whole] // number] < 0
    # Of the four cubes, the first two differ in the later of the two other axes. So round an edge
    # along x or z they turn one way, round one along y (the last four edges) the other.
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
    """Put a sample number 0 before coordinates (N, 3)."""
    return torch.nn.functional.pad(coords.long(), (1, 0))


def _faces_of_cube() -> list[list[int]]:
    """Return the corners of each of the six faces, in turn around it."""
    faces = []
    for axis, side in itertools.product(range(3), (0, 1)):
        u, v = (other for other in range(3) if other != axis)
        face = []
        for at_u, at_v in ((0, 0), (1, 0), (1, 1), (0, 1)):
            corner = [0, 0, 0]
            corner[axis], corner[u], corner[v] = side, at_u, at_v
            face.append(CORNERS.index((corner[0], corner[1], corner[2])))
        faces.append(face)
    return faces


def _loops_of(case: int) -> tuple[list[int], tuple[int, int, int]]:
    """Return the loop of each edge (-1: not crossed), and the way to a doubtful face's neighbour.

    On each face, a crossed edge is linked with the next one round an inside corner (or round the
    inside corners between them), which keeps inside corners across a diagonal apart. The linked
    edges are a loop about a vertex.
    """
    inside = [bool(case >> corner & 1) for corner in range(8)]
    number = {frozenset(ends): index for index, ends in enumerate(EDGES)}
    leader = list(range(12))

    def find(edge: int) -> int:
        while leader[edge] != edge:
            edge = leader[edge]
        return edge

    doubtful = []
    for place, face in enumerate(_faces_of_cube()):
        links = _links_on_face(face, inside)
        for first, second in links:
            leader[find(number[first])] = find(number[second])
        if len(links) == 2:
            doubtful.append((place, [number[edge] for link in links for edge in link]))
    crossed = [inside[a] != inside[b] for a, b in EDGES]
    leaders = sorted({find(edge) for edge in range(12) if crossed[edge]})
    loops = [leaders.index(find(edge)) if crossed[edge] else -1 for edge in range(12)]
    step = [0, 0, 0]
    if len(doubtful) == 1 and len({loops[edge] for edge in doubtful[0][1]}) == 1:
        axis, side = divmod(doubtful[0][0], 2)
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
"""(256, 12): which loop of its cube an edge belongs to; -1 where it is not crossed."""
NUM_LOOPS = LOOPS.amax(dim=1) + 1
"""(256,): vertices of a cube."""
AMBIGUOUS_STEP = torch.tensor([step for _, step in _TABLE])
"""(256, 3): the way to the neighbour across a face that the cube's one loop meets twice."""
