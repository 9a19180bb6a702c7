"""Pictures of the demo data: a flock of textured sprites over a textured background, from a random generator.

*Appearance* is what the sprites are: the outline that all of a clip share. *Motion* is how all of them move. The rest
(places, size, rotation, deformation, colours, textures, background, grain) is drawn anew for every clip, and colours
for every sprite, so that neither colour nor place tells a class.

Legend: T frames, S side in pixels; coordinates are in units of the side, the origin in the middle of the frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

APPEARANCES = ("disc", "ring", "triangle", "square", "bar", "cross", "star", "half")
MOTIONS = ("right", "left", "down", "up", "clockwise", "counterclockwise", "grow", "shrink")

_SHIFT = 0.35  # way of a sprite over the clip, in sides
_TURN = 2.2  # rotation over the clip, in radians
_ZOOM = 0.55  # change of the logarithm of the size over the clip
_SPACING = (0.36, 0.48)  # distance of neighbouring sprites
_FILL = (0.30, 0.36)  # size of a sprite in spacings
_FLOCK = 8  # sprites along an edge before the flock repeats itself, outside the frame
_SPRITE_BRIGHTNESS = 0.72
_BACKGROUND_BRIGHTNESS = 0.3
_COLOUR = 0.12
_SPRITE_CONTRAST = 0.12
_BACKGROUND_CONTRAST = 0.06
_GRAIN = 0.1  # noise of every pixel of every frame: it cannot be predicted
_ANGLES = 512


class _Flock(NamedTuple):
    """Every pixel in the coordinates of its nearest sprite: `u`, `v` [T, S, S] in units of the sprite's size."""

    u: Floats
    v: Floats
    scale: Floats
    """Pixels of a sprite's size, [T, 1, 1]."""
    sprite: npt.NDArray[np.int64]
    """Number of the sprite, [T, S, S]."""


def render_clip(
    rng: np.random.Generator, appearance: int, motion: int, num_frames: int, side: int
) -> npt.NDArray[np.uint8]:
    """A clip, uint8 [T, S, S, 3]."""
    time_T11 = (np.arange(num_frames) / max(1, num_frames - 1) - 0.5)[:, None, None]
    flock = _flock(rng, MOTIONS[motion], time_T11, side)
    alpha_TSS1 = _opacity(rng, APPEARANCES[appearance], flock)[..., None]
    clip = alpha_TSS1 * _sprite_colours(rng, flock) + (1 - alpha_TSS1) * _background(rng, side)
    clip += rng.normal(size=clip.shape) * _GRAIN
    return (np.clip(clip, 0, 1) * 255).astype(np.uint8)


def render_still(rng: np.random.Generator, appearance: int, side: int) -> npt.NDArray[np.uint8]:
    """An image of such a flock, uint8 [S, S, 3]."""
    return render_clip(rng, appearance, int(rng.integers(len(MOTIONS))), 1, side)[0]


def _flock(rng: np.random.Generator, motion: str, time_T11: Floats, side: int) -> _Flock:
    """Sprites on a shifted, turned and jittered lattice, all moving the same way."""
    speed = rng.uniform(0.8, 1.2)
    sign = -1 if motion in ("left", "up", "counterclockwise", "shrink") else 1
    dx, dy, turn, zoom = rng.normal(size=4) * (0.04, 0.04, 0.15, 0.05)
    if motion in ("right", "left"):
        dx += sign * _SHIFT
    elif motion in ("down", "up"):
        dy += sign * _SHIFT
    elif motion in ("clockwise", "counterclockwise"):  # y points down: growing angles turn clockwise
        turn += sign * _TURN
    else:
        zoom += sign * _ZOOM
    time_T11 = speed * time_T11
    spacing, lattice_angle = rng.uniform(*_SPACING), rng.uniform(0, 2 * np.pi)
    pixel_S = (np.arange(side) + 0.5) / side - 0.5
    p_TSS, q_TSS = _turned(pixel_S[None, None] - dx * time_T11, pixel_S[None, :, None] - dy * time_T11, lattice_angle)
    p_TSS, q_TSS = ((axis + rng.uniform(0, _FLOCK * spacing)) / spacing for axis in (p_TSS, q_TSS))
    row_TSS, column_TSS = np.floor(p_TSS).astype(np.int64), np.floor(q_TSS).astype(np.int64)
    sprite_TSS = row_TSS % _FLOCK * _FLOCK + column_TSS % _FLOCK
    jitter = rng.uniform(-0.06, 0.06, (2, _FLOCK**2))
    a_TSS = (p_TSS - row_TSS - 0.5 - jitter[0][sprite_TSS]) * spacing
    b_TSS = (q_TSS - column_TSS - 0.5 - jitter[1][sprite_TSS]) * spacing
    size_T11 = rng.uniform(*_FILL) * spacing * np.exp(zoom * time_T11 - abs(zoom) * 0.3)
    pose = rng.uniform(0, 2 * np.pi) + rng.normal(size=_FLOCK**2) * 0.3
    u_TSS, v_TSS = _turned(a_TSS, b_TSS, pose[sprite_TSS] + turn * time_T11)
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    return _Flock(u_TSS / size_T11 * stretch, v_TSS / size_T11 / stretch, size_T11 * side, sprite_TSS)


def _turned(x: Any, y: Any, angle: Any) -> tuple[Any, Any]:
    """Coordinates in a frame turned by `angle`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, -x * sin + y * cos


def _opacity(rng: np.random.Generator, appearance: str, flock: _Flock) -> Any:
    """1 inside a sprite, 0 outside, with an edge of one pixel, [T, S, S]."""
    radius_TSS = np.hypot(flock.u, flock.v)
    angle_TSS = np.arctan2(flock.v, flock.u) % (2 * np.pi) / (2 * np.pi)
    edge_TSS = _deformed(rng, OUTLINES[appearance])[(angle_TSS * _ANGLES).astype(np.int64) % _ANGLES]
    alpha_TSS = np.clip((edge_TSS - radius_TSS) * flock.scale + 0.5, 0, 1)
    if appearance == "ring":
        alpha_TSS *= np.clip((radius_TSS - 0.55 * edge_TSS) * flock.scale + 0.5, 0, 1)
    return alpha_TSS


def _sprite_colours(rng: np.random.Generator, flock: _Flock) -> Any:
    """A colour for each sprite and stripes that turn with it, [T, S, S, 3]."""
    colours = rng.normal(size=(_FLOCK**2, 3))
    colours -= colours.mean(axis=1, keepdims=True)
    stripes_TSS = _wave(rng, flock.u, flock.v, rng.uniform(0.6, 1.6))
    return (_SPRITE_BRIGHTNESS + _COLOUR * colours)[flock.sprite] + _SPRITE_CONTRAST * stripes_TSS[..., None]


def _background(rng: np.random.Generator, side: int) -> Any:
    """Two faint waves, [S, S, 1]."""
    pixel_S = (np.arange(side) + 0.5) / side
    frequency = rng.uniform(2, 6)
    waves = [_wave(rng, pixel_S[None, :], pixel_S[:, None], f) for f in (frequency, frequency * rng.uniform(0.7, 1.4))]
    return (_BACKGROUND_BRIGHTNESS + _BACKGROUND_CONTRAST * 0.5 * (waves[0] + waves[1]))[..., None]


def _wave(rng: np.random.Generator, x: Any, y: Any, frequency: float) -> Any:
    along, _ = _turned(x, y, rng.uniform(0, np.pi))
    return np.sin(2 * np.pi * frequency * along + rng.uniform(0, 2 * np.pi))


def _deformed(rng: np.random.Generator, outline: Any) -> Any:
    """An outline that differs a little from all others of its kind."""
    waves = [rng.normal() * 0.03 * np.sin(k * _THETA + rng.uniform(0, 2 * np.pi)) for k in (2, 3)]
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
    "ring": _of_unit_area(np.ones(_ANGLES), share=0.7),
    "triangle": _polygon(_regular(3)),
    "square": _polygon(_regular(4)),
    "bar": _polygon(np.array([[1, -0.3], [1, 0.3], [-1, 0.3], [-1, -0.3]])),
    "cross": _polygon(_cross_corners(0.33)),
    "star": _polygon(_regular(5, inner=0.42)),
    "half": _polygon(np.stack([np.cos(_HALF_ANGLES) - 0.4, np.sin(_HALF_ANGLES)], axis=1)),
}
"""Radius of each outline by angle, all of one area."""
