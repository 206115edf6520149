"""Small charts as SVG; colours are variables of the page's style."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from datagen.core.frames import Floats

_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 34

Series = tuple[str, str, Floats, Floats]
"""Label, CSS style of the line, x, y."""

Dots = tuple[str, str, Floats, Floats]
"""Label, CSS colour, x, y."""


def histogram(
    values: Sequence[float],
    label: str,
    *,
    whole: bool = False,
    bins: int = 18,
    bounds: tuple[float, float] | None = None,
) -> Markup:
    """Return a histogram in equal bins, or with ``whole``, in one bin for each whole number.

    The bins reach from the least value to the greatest, or over ``bounds``.
    """
    data = np.asarray(values, np.float64)
    if whole:
        low, high = int(data.min()), int(data.max())
        edges = np.arange(low, high + 2) - 0.5
    else:
        start, end = bounds or (data.min(), max(data.max(), data.min() + 1e-9))
        edges = np.linspace(start, end, bins + 1)
    counts, _ = np.histogram(data, edges)
    x_of = _axis(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    y_of = _axis(0, max(counts.max(), 1), _HEIGHT - _BOTTOM, _TOP)
    bars = "".join(
        f'<rect x="{x_of(left) + 0.5:.1f}" y="{y_of(count):.1f}" '
        f'width="{max(x_of(right) - x_of(left) - 1, 0.5):.1f}" '
        f'height="{y_of(0) - y_of(count):.1f}" fill="var(--accent)"/>'
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    ticks = _whole_ticks(edges) if whole else [float(edges[0]), float(edges[-1])]
    return _svg(
        bars + _x_ticks(ticks, x_of) + _y_ticks([0, int(counts.max())], y_of),
        f"{label}, n = {data.size}",
    )


def line_chart(
    series: Sequence[Series],
    x_label: str,
    *,
    log_y: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Markup:
    """Return a chart of lines over a common x; values that are not finite are left out.

    The y axis reaches from the least value to the greatest, or over ``bounds``.
    """
    drawn = [(name, style, *_finite(x, y, log_y)) for name, style, x, y in series]
    drawn = [line for line in drawn if len(line[2])]
    all_x = np.concatenate([line[2] for line in drawn])
    all_y = np.concatenate([line[3] for line in drawn])
    x_of = _axis(all_x.min(), all_x.max(), _LEFT, _WIDTH * 2 - _RIGHT)
    low, high = bounds or (all_y.min(), all_y.max())
    y_of = _axis(low, high, _HEIGHT * 1.4 - _BOTTOM, _TOP + 14)
    lines = "".join(
        f'<polyline fill="none" style="{style}" points="'
        + " ".join(f"{x_of(a):.1f},{y_of(b):.1f}" for a, b in zip(x, y, strict=True))
        + '"/>'
        for _, style, x, y in drawn
    )
    y_ticks = np.linspace(low, high, 5 if bounds else 4)
    y_names = [f"{10**tick if log_y else tick:.3g}" for tick in y_ticks]
    legend = "".join(
        f'<line x1="{_LEFT + 14 + 150 * i}" x2="{_LEFT + 38 + 150 * i}" y1="14" y2="14" '
        f'style="{style}"/><text x="{_LEFT + 44 + 150 * i}" y="18">{escape(name)}</text>'
        for i, (name, style, _, _) in enumerate(drawn)
    )
    axes = _x_ticks(list(np.linspace(all_x.min(), all_x.max(), 5)), x_of, _HEIGHT * 1.4)
    axes += _y_ticks(list(y_ticks), y_of, y_names)
    return _svg(axes + lines + legend, x_label, _WIDTH * 2, int(_HEIGHT * 1.4))


def scatter(series: Sequence[Dots], x_label: str, *, log_x: bool = False) -> Markup:
    """Return a chart of dots, y from 0 to 1, with a line of local means for each series.

    With ``log_x`` the x axis is logarithmic. Dots that are not finite, or then not above 0, are
    left out; without any dot the result is empty.
    """
    # _finite has a logarithmic y, so the axes are swapped before it and swapped back after it.
    drawn = [(name, color, *_finite(y, x, log_x)[::-1]) for name, color, x, y in series]
    drawn = [dots for dots in drawn if len(dots[2])]
    if not drawn:
        return Markup()
    all_x = np.concatenate([dots[2] for dots in drawn])
    x_of = _axis(all_x.min(), all_x.max(), _LEFT, _WIDTH - _RIGHT)
    y_of = _axis(0, 1, _HEIGHT - _BOTTOM, _TOP + 14)
    shapes = ""
    for index, (name, color, x, y) in enumerate(drawn):
        shapes += "".join(
            f'<circle cx="{x_of(a):.1f}" cy="{y_of(b):.1f}" r="2.2" fill="{color}" '
            'fill-opacity="0.35"/>'
            for a, b in zip(x, y, strict=True)
        )
        points = " ".join(f"{x_of(a):.1f},{y_of(b):.1f}" for a, b in _local_means(x, y))
        shapes += f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>'
        left = _LEFT + 100 * index
        shapes += f'<rect x="{left}" y="3" width="9" height="9" fill="{color}"/>'
        shapes += f'<text x="{left + 13}" y="12">{escape(name)}</text>'
    ticks = np.linspace(all_x.min(), all_x.max(), 4)
    if not log_x and np.ptp(ticks) > 3:
        ticks = np.floor(ticks)
    names = [f"{10**tick if log_x else tick:.2g}" for tick in ticks]
    axes = _x_ticks(list(ticks), x_of, names=names) + _y_ticks([0, 0.5, 1], y_of)
    return _svg(axes + shapes, f"{x_label}, n = {len(all_x)}")


def direction_map(directions: Floats, labels: Sequence[str], colors: dict[str, str]) -> Markup:
    """Return a map of the directions of cameras, by azimuth and elevation.

    The elevation has the scale of its sine: directions that are uniform on the sphere are
    uniform on the map.

    Args:
        directions: (N, 3), unit vectors towards the cameras, z_up.
        labels: N names, shown when the mouse is over a dot.
        colors: CSS colour of each name.
    """
    azimuth = np.degrees(np.arctan2(directions[:, 1], directions[:, 0]))
    x_of = _axis(-180, 180, _LEFT, _WIDTH - _RIGHT)
    y_of = _axis(-1, 1, _HEIGHT - _BOTTOM, _TOP)
    dots = "".join(
        f'<circle cx="{x_of(a):.1f}" cy="{y_of(z):.1f}" r="3.2" fill="{colors[label]}">'
        f"<title>{escape(label)}</title></circle>"
        for a, z, label in zip(azimuth, directions[:, 2], labels, strict=True)
    )
    elevations = [-90, -30, 0, 30, 90]
    sines = [float(np.sin(np.radians(e))) for e in elevations]
    axes = _x_ticks([-180, -90, 0, 90, 180], x_of)
    axes += _y_ticks(sines, y_of, [f"{e}°" for e in elevations])
    return _svg(axes + dots, "azimuth and elevation of the camera, degrees")


class _Axis:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = float(low), float(start)
        self._factor = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._start + (float(value) - self._low) * self._factor


def _axis(low: float, high: float, start: float, end: float) -> _Axis:
    return _Axis(low, high, start, end)


def _x_ticks(
    values: Sequence[float],
    x_of: _Axis,
    height: float = _HEIGHT,
    names: Sequence[str] | None = None,
) -> str:
    bottom = height - _BOTTOM
    names = [f"{round(float(value), 2):g}" for value in values] if names is None else names
    return "".join(
        f'<line x1="{x_of(v):.1f}" x2="{x_of(v):.1f}" y1="{bottom}" y2="{bottom + 4}" '
        f'stroke="var(--line)"/><text x="{x_of(v):.1f}" y="{bottom + 15}" '
        f'text-anchor="middle">{escape(name)}</text>'
        for v, name in zip(values, names, strict=True)
    )


def _y_ticks(values: Sequence[float], y_of: _Axis, names: Sequence[str] | None = None) -> str:
    names = [f"{value:g}" for value in values] if names is None else names
    return "".join(
        f'<line x1="{_LEFT}" x2="100%" y1="{y_of(v):.1f}" y2="{y_of(v):.1f}" '
        f'stroke="var(--line)"/><text x="{_LEFT - 5}" y="{y_of(v) + 4:.1f}" '
        f'text-anchor="end">{escape(name)}</text>'
        for v, name in zip(values, names, strict=True)
    )


def _whole_ticks(edges: NDArray[np.float64]) -> list[float]:
    numbers = (edges[:-1] + 0.5).astype(int)
    step = max(1, -(-len(numbers) // 12))
    return [float(n) for n in numbers[::step]]


def _local_means(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """Return means (x, y): for each x if there are at most 12, else of 8 equal groups by x."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    different = np.unique(x)
    if len(different) <= 12:
        return [(float(value), float(y[x == value].mean())) for value in different]
    parts = np.array_split(np.arange(len(x)), 8)
    return [(float(x[part].mean()), float(y[part].mean())) for part in parts]


def _finite(x: Floats, y: Floats, log_y: bool) -> tuple[Floats, Floats]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    keep = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log_y))
    return x[keep], np.log10(y[keep]) if log_y else y[keep]


def _svg(content: str, label: str, width: int = _WIDTH, height: int = _HEIGHT) -> Markup:
    """Return shapes, whose texts are escaped, as a chart with a label."""
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{content}'
        f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">{escape(label)}</text></svg>'
    )
