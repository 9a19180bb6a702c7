"""Pictures of the demo data: one textured sprite that moves over a cluttered background, from (seed, split, index).

*Appearance* is what the sprite is: an outline and the family of its texture. *Motion* is how it moves. Everything else
(place, size, rotation, deformation, colours, phase and frequency of the texture, the background) is drawn anew for every
clip. Sprite and background have similar colours and contrast, so that no single patch gives either label away: the
outline and the path show only where several patches and frames are put together.

Legend: T frames, S side in pixels; coordinates are in units of the side, the origin in the middle of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

APPEARANCES = ("disc", "ring", "triangle", "square", "bar", "cross", "star", "half")
MOTIONS = ("right", "left", "down", "up", "clockwise", "counterclockwise", "grow", "shrink")

_ANGLES = 512
_SHIFT = 0.5  # way of a sprite over the clip, in sides
_ORBIT_RADIUS = 0.2
_ASIDE = 0.18
_ZOOM = 1.0  # logarithm of the change of size over the clip
_RADIUS = (0.17, 0.23)
_SPRITE_MEAN = 0.45
_BACKGROUND_MEAN = 0.4
_HUE = 0.25
_TEXTURE = 0.2
_CLUTTER = 0.35
_CELL = (3, 6)  # pixels of a background cell at a side of 64
_GRAIN = 0.03


class _Path(NamedTuple):
    """Centre and logarithm of the size over the frames, each [T]."""

    x: Floats
    y: Floats
    log_size: Floats


def render_clip(
    rng: np.random.Generator, appearance: int, motion: int, num_frames: int, side: int
) -> npt.NDArray[np.uint8]:
    """A clip, uint8 [T, S, S, 3]."""
    time_T = (np.arange(num_frames, dtype=np.float32) / max(1, num_frames - 1)) - 0.5
    path = _path(rng, MOTIONS[motion], time_T)
    alpha_TSS1, colour_TSSC = _sprite(rng, APPEARANCES[appearance], path, time_T, side)
    background_SSC = _background(rng, side)
    clip = alpha_TSS1 * colour_TSSC + (1 - alpha_TSS1) * background_SSC
    clip += rng.standard_normal(clip.shape, dtype=np.float32) * _GRAIN
    return (np.clip(clip, 0, 1) * 255).astype(np.uint8)


def render_still(rng: np.random.Generator, appearance: int, side: int) -> npt.NDArray[np.uint8]:
    """An image of a sprite, uint8 [S, S, 3]."""
    motion = int(rng.integers(len(MOTIONS)))
    return render_clip(rng, appearance, motion, 1, side)[0]


def _path(rng: np.random.Generator, motion: str, time_T: Floats) -> _Path:
    """The way of the sprite; `time_T` runs from -0.5 to 0.5."""
    speed = rng.uniform(0.85, 1.15)
    x, y = rng.uniform(-0.1, 0.1, 2) + _ASIDE * rng.uniform(-1, 1, 2)
    still_T = np.zeros_like(time_T)
    way_T = _SHIFT * speed * time_T
    angle_T = rng.uniform(0, 2 * np.pi) + 2 * np.pi * speed * time_T
    size_T = _ZOOM * speed * time_T
    sign = -1 if motion in ("left", "up", "counterclockwise", "shrink") else 1
    if motion in ("right", "left"):
        return _Path(sign * way_T, y + still_T, still_T)
    if motion in ("down", "up"):
        return _Path(x + still_T, sign * way_T, still_T)
    if motion in ("clockwise", "counterclockwise"):  # y points down: growing angles turn clockwise
        return _Path(_ORBIT_RADIUS * np.cos(sign * angle_T), _ORBIT_RADIUS * np.sin(sign * angle_T), still_T)
    return _Path(x + still_T, y + still_T, sign * size_T)


def _sprite(rng: np.random.Generator, appearance: str, path: _Path, time_T: Floats, side: int) -> tuple[Floats, Floats]:
    """Opacity [T, S, S, 1] and colour [T, S, S, 3] of the sprite, in every frame."""
    size_T = rng.uniform(*_RADIUS) * np.exp(path.log_size)
    turn_T = rng.uniform(0, 2 * np.pi) + rng.normal() * 0.4 * time_T
    pixel_S = (np.arange(side) + 0.5) / side - 0.5
    dx_T1S = (pixel_S - path.x[:, None])[:, None, :]
    dy_TS1 = (pixel_S - path.y[:, None])[:, :, None]
    cos, sin, size = (value[:, None, None] for value in (np.cos(turn_T), np.sin(turn_T), size_T))
    u_TSS = (dx_T1S * cos + dy_TS1 * sin) / size
    v_TSS = (-dx_T1S * sin + dy_TS1 * cos) / size
    radius_TSS = np.hypot(u_TSS, v_TSS)
    edge_TSS = _deformed(rng, OUTLINES[appearance])[_angle_index(u_TSS, v_TSS)]
    alpha_TSS = np.clip((edge_TSS - radius_TSS) * size * side + 0.5, 0, 1)
    if appearance == "ring":
        alpha_TSS *= np.clip((radius_TSS - 0.5 * edge_TSS) * size * side + 0.5, 0, 1)
    wave_TSS = _texture(rng, APPEARANCES.index(appearance) % 4, u_TSS, v_TSS, radius_TSS)
    colour_TSSC = _SPRITE_MEAN + _hue(rng) + _TEXTURE * wave_TSS[..., None]
    return alpha_TSS[..., None].astype(np.float32), colour_TSSC.astype(np.float32)


def _texture(rng: np.random.Generator, family: int, u: Any, v: Any, radius: Any) -> Any:
    """Stripes, checks, rings or none, in [-1, 1], of random frequency and phase."""
    frequency = 2 * np.pi * rng.uniform(0.7, 1.1)
    phase, other = rng.uniform(0, 2 * np.pi, 2)
    waves: tuple[Callable[[], Any], ...] = (
        lambda: np.sin(frequency * u + phase),
        lambda: 1.6 * np.sin(frequency * u + phase) * np.sin(frequency * v + other),
        lambda: np.sin(frequency * radius + phase),
        lambda: np.zeros_like(u),
    )
    return np.tanh(2.5 * waves[family]())


def _background(rng: np.random.Generator, side: int) -> Floats:
    """Clutter [S, S, 3]: cells of random colours."""
    cell = int(rng.integers(*_CELL, endpoint=True)) * side // 64
    num_cells = side // cell + 2
    cells = rng.uniform(-1, 1, (num_cells, num_cells, 3))
    row, column = rng.integers(0, cell, 2)
    pixels = cells.repeat(cell, axis=0).repeat(cell, axis=1)[row : row + side, column : column + side]
    return (_BACKGROUND_MEAN + _CLUTTER * pixels).astype(np.float32)


def _hue(rng: np.random.Generator) -> Any:
    """A colour without brightness."""
    colour = rng.normal(size=3)
    colour -= colour.mean()
    return _HUE * colour / np.linalg.norm(colour)


def _angle_index(u: Any, v: Any) -> Any:
    return (np.arctan2(v, u) % (2 * np.pi) / (2 * np.pi) * _ANGLES).astype(np.int64) % _ANGLES


def _deformed(rng: np.random.Generator, outline: Any) -> Any:
    """An outline that differs a little from all others of its kind."""
    waves = [rng.normal() * 0.04 * np.sin(k * _THETA + rng.uniform(0, 2 * np.pi)) for k in (2, 3)]
    return outline * (1 + sum(waves))


_THETA = (np.arange(_ANGLES) + 0.5) / _ANGLES * 2 * np.pi


def _polygon(corners: npt.NDArray[np.float64]) -> Any:
    """Distance of a polygon's edge from its centre, by angle, scaled to the area of the unit disc."""
    start_1K2, way_1K2 = corners[None], np.roll(corners, -1, axis=0)[None] - corners[None]
    ray_A12 = np.stack([np.cos(_THETA), np.sin(_THETA)], axis=1)[:, None]

    def cross(a: Any, b: Any) -> Any:
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

    parallel_AK = cross(ray_A12, way_1K2)
    parallel_AK = np.where(np.abs(parallel_AK) < 1e-9, 1e-9, parallel_AK)
    distance_AK = cross(start_1K2, way_1K2) / parallel_AK
    along_AK = cross(start_1K2, ray_A12) / parallel_AK
    hit_AK = (distance_AK > 0) & (along_AK >= -1e-6) & (along_AK <= 1 + 1e-6)
    return _of_unit_area(np.where(hit_AK, distance_AK, 0).max(axis=1))


def _of_unit_area(radius: Any, share: float = 1.0) -> Any:
    """Scale an outline so that `share` of its area is that of the unit disc."""
    return radius / np.sqrt((radius**2).mean() * share)


def _regular(corners: int, inner: float | None = None) -> npt.NDArray[np.float64]:
    """Corners of a regular polygon, or of a star with every second corner at the radius `inner`."""
    count = corners if inner is None else 2 * corners
    angles = np.arange(count) / count * 2 * np.pi
    radius = np.ones(count) if inner is None else np.where(np.arange(count) % 2 == 0, 1.0, inner)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _cross_corners(arm: float) -> npt.NDArray[np.float64]:
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


_HALF_ANGLES = np.linspace(-np.pi / 2, np.pi / 2, 24)
OUTLINES = {
    "disc": np.ones(_ANGLES),
    "ring": _of_unit_area(np.ones(_ANGLES), share=0.75),
    "triangle": _polygon(_regular(3)),
    "square": _polygon(_regular(4)),
    "bar": _polygon(np.array([[1, -0.3], [1, 0.3], [-1, 0.3], [-1, -0.3]])),
    "cross": _polygon(_cross_corners(0.33)),
    "star": _polygon(_regular(5, inner=0.42)),
    "half": _polygon(np.stack([np.cos(_HALF_ANGLES) - 0.4, np.sin(_HALF_ANGLES)], axis=1)),
}
"""Radius of each outline by angle, all of one area."""
