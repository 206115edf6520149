"""The few pieces of HTML that the report is made of. Text is escaped here; bodies are HTML."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REPORT = "report.html"
"""Name of every page that is written beside data."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #646c78; --page: #fbfbfc; --card: #fff;
  --line: #d9dde3; --accent: #2f6fb2; --second: #c2571a; --picture: #edeff2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3af; --page: #16181c;
  --card: #1f2228; --line: #363b44; --accent: #6fb0f0; --second: #f0955c; --picture: #4a505a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 24px 20px 80px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 6px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { max-width: 82ch; margin: 6px 0; } .soft, figcaption { color: var(--soft); }
nav { margin: 12px 0 20px; } nav a { margin-right: 16px; } a { color: var(--accent); }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
.grid { display: grid; gap: 12px; margin: 12px 0; align-items: start; }
.chart { max-width: 780px; }
figure { margin: 0; padding: 8px; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; min-width: 0; }
figure img, figure svg { display: block; width: 100%; height: auto; }
figure img { background: var(--picture); border-radius: 3px; margin-bottom: 4px; }
.row { display: flex; gap: 8px; align-items: stretch; }
.row > * { flex: 1 1 0; min-width: 0; }
.row img { object-fit: contain; }
figcaption { font-size: 12.5px; line-height: 1.4; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
table { border-collapse: collapse; margin: 10px 0; font-size: 14px; }
.wide { overflow-x: auto; } th, td { padding: 4px 12px 4px 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; } td.best { font-weight: 700; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 4px; }
.note { border-left: 3px solid var(--second); padding-left: 10px; }
details { margin: 4px 0; } summary { cursor: pointer; color: var(--soft); }
svg text { fill: currentColor; font: 11px system-ui, sans-serif; }
"""


def page(title: str, body: str) -> str:
    """Return a whole document."""
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def section(anchor: str, title: str, body: str) -> str:
    """Return a chapter that the navigation can point to."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{body}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def grid(items: Iterable[str], min_width_px: int) -> str:
    """Return items that flow into as many columns as fit."""
    columns = f"repeat(auto-fill, minmax({min_width_px}px, 1fr))"
    return f'<div class="grid" style="grid-template-columns: {columns}">{"".join(items)}</div>'


def figure(picture: str, caption: str, kind: str = "") -> str:
    """Return a picture with a caption; both are HTML."""
    return f'<figure class="{kind}">{picture}<figcaption>{caption}</figcaption></figure>'


def side_by_side(pictures: Iterable[str]) -> str:
    """Return pictures in one row, equally wide."""
    return f'<div class="row">{"".join(pictures)}</div>'


def image(pixels: NDArray[np.uint8], alt: str, *, max_px: int = 320, exact: bool = False) -> str:
    """Return an image (H, W, 3 or 4) with its bytes in the page, at most ``max_px`` a side.

    Args:
        pixels: sRGB, straight alpha.
        alt: what it shows, for who cannot see it.
        exact: keep every pixel's colour, for drawings and maps; nothing is blended.
    """
    picture = Image.fromarray(pixels)
    if max(picture.size) > max_px:
        factor = max_px / max(picture.size)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.NEAREST if exact else None)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=exact, quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/webp;base64,{data}" loading="lazy">'


def swatch(color: str) -> str:
    """Return a small square of a CSS colour."""
    return f'<span class="swatch" style="background: {color}"></span>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int) -> str:
    """Return a table; cells are HTML, the columns from ``numbers_from`` on are numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{value}</{tag}>'
            if column >= numbers_from
            else f"<{tag}>{value}</{tag}>"
            for column, value in enumerate(values)
        )

    head = cells("th", [escape(name) for name in header])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
