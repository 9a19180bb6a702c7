"""Pictures of the demo data: a reddish sprite that crosses a background of the same brightness, under grey snow.

*Appearance* is what the sprite is: its outline. *Motion* is the direction in which it moves. The rest (place, size,
pose, deformation, speed, textures, background) is drawn anew for every clip. Only a faint hue tells the sprite from the
background, and the snow, new in every frame, is much stronger than it. So most of what varies in a clip says nothing
and cannot be predicted, and the little that can be predicted is what the labels are about: features that leave the
snow out have to be learnt.

Legend: T frames, S side in pixels; coordinates are in units of the side, the origin in the middle of the frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

APPEARANCES = ("disc", "ring", "cross", "triangle", "bar", "slash", "pillar", "backslash")
MOTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")
"""Directions, an eighth of a turn apart; y points down, so they run clockwise."""

_WAY = (0.6, 0.8)  # of a sprite over the clip
_PLACE = 0.12  # a sprite is at most so far from the middle when half of the clip is over
_SIZE = (0.22, 0.26)
_TILT = 0.15  # radians
_STRETCH = 0.06  # as a logarithm
_DEFORMATION = 0.015  # of an outline's radius, per wave
_BRIGHTNESS = 0.5  # of sprite and background alike
_HUE = 0.05 * np.array([1.0, -0.4, -0.6])  # of the sprite, and of the background with the other sign; no brightness
_TINT = 0.02  # by which the hue of sprites differs
_SPRITE_CONTRAST = 0.1
_BACKGROUND_CONTRAST = 0.08
_SNOW = 0.25
_FLAKE = 2  # pixels along an edge: finer snow would not survive the encoder
_ANGLES = 512


class _Sprite(NamedTuple):
    """Every pixel in coordinates of the sprite: `u`, `v` [T, S, S] in units of its size, and that size in pixels."""

    u: Floats
    v: Floats
    size: float


def render_clip(
    rng: np.random.Generator, appearance: int, motion: int, num_frames: int, side: int
) -> npt.NDArray[np.uint8]:
    """A clip, uint8 [T, S, S, 3]."""
    time_T11 = (np.arange(num_frames) / max(1, num_frames - 1) - 0.5)[:, None, None]
    sprite = _sprite(rng, motion, time_T11, side)
    alpha_TSS = _opacity(rng, APPEARANCES[appearance], sprite)
    alpha_TSS1 = alpha_TSS[..., None]
    clip_TSSC = alpha_TSS1 * _texture(rng, sprite) + (1 - alpha_TSS1) * _background(rng, side)
    clip_TSSC += _snow(rng, num_frames, side)[..., None]
    return (np.clip(clip_TSSC, 0, 1) * 255).astype(np.uint8)


def render_still(rng: np.random.Generator, appearance: int, side: int) -> npt.NDArray[np.uint8]:
    """An image of such a sprite, uint8 [S, S, 3]."""
    return render_clip(rng, appearance, int(rng.integers(len(MOTIONS))), 1, side)[0]


def _sprite(rng: np.random.Generator, motion: int, time_T11: Floats, side: int) -> _Sprite:
    """A straight way through the middle of the frame, the middle taken loosely."""
    direction, way = motion / len(MOTIONS) * 2 * np.pi, rng.uniform(*_WAY) * time_T11
    x, y = rng.uniform(-_PLACE, _PLACE, size=2)
    pixel_S = (np.arange(side) + 0.5) / side - 0.5
    a_TSS = pixel_S[None, None] - x - np.cos(direction) * way
    b_TSS = pixel_S[None, :, None] - y - np.sin(direction) * way
    u_TSS, v_TSS = _turned(a_TSS, b_TSS, rng.uniform(-_TILT, _TILT))
    size, stretch = rng.uniform(*_SIZE), np.exp(rng.uniform(-_STRETCH, _STRETCH))
    return _Sprite(u_TSS / size * stretch, v_TSS / size / stretch, size * side)


def _turned(x: Any, y: Any, angle: Any) -> tuple[Any, Any]:
    """Coordinates in a frame turned by `angle`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, -x * sin + y * cos


def _opacity(rng: np.random.Generator, appearance: str, sprite: _Sprite) -> Any:
    """1 inside a sprite, 0 outside, with an edge of one pixel, [T, S, S]."""
    radius_TSS = np.hypot(sprite.u, sprite.v)
    angle_TSS = np.arctan2(sprite.v, sprite.u) % (2 * np.pi) / (2 * np.pi)
    edge_TSS = _deformed(rng, OUTLINES[appearance])[(angle_TSS * _ANGLES).astype(np.int64) % _ANGLES]
    alpha_TSS = np.clip((edge_TSS - radius_TSS) * sprite.size + 0.5, 0, 1)
    if appearance == "ring":
        alpha_TSS *= np.clip((radius_TSS - 0.55 * edge_TSS) * sprite.size + 0.5, 0, 1)
    return alpha_TSS


def _texture(rng: np.random.Generator, sprite: _Sprite) -> Any:
    """Stripes in one hue, [T, S, S, 3]."""
    tint_C = rng.normal(size=3) * _TINT
    stripes_TSS = _wave(rng, sprite.u, sprite.v, rng.uniform(0.6, 1.6))
    return _BRIGHTNESS + _HUE + tint_C - tint_C.mean() + _SPRITE_CONTRAST * stripes_TSS[..., None]


def _background(rng: np.random.Generator, side: int) -> Any:
    """Two faint waves, [S, S, 3]."""
    pixel_S = (np.arange(side) + 0.5) / side
    frequency = rng.uniform(2, 6)
    waves = [_wave(rng, pixel_S[None, :], pixel_S[:, None], f) for f in (frequency, frequency * rng.uniform(0.7, 1.4))]
    return _BRIGHTNESS - _HUE + _BACKGROUND_CONTRAST * 0.5 * (waves[0] + waves[1])[..., None]


def _snow(rng: np.random.Generator, num_frames: int, side: int) -> Any:
    """Flakes of random brightness, other ones in every frame, [T, S, S]."""
    count = -(-side // _FLAKE)
    flakes_TNN = rng.normal(size=(num_frames, count, count)) * _SNOW
    return flakes_TNN.repeat(_FLAKE, axis=1).repeat(_FLAKE, axis=2)[:, :side, :side]


def _wave(rng: np.random.Generator, x: Any, y: Any, frequency: float) -> Any:
    along, _ = _turned(x, y, rng.uniform(0, np.pi))
    return np.sin(2 * np.pi * frequency * along + rng.uniform(0, 2 * np.pi))


def _deformed(rng: np.random.Generator, outline: Any) -> Any:
    """An outline that differs a little from all others of its kind."""
    waves = [rng.normal() * _DEFORMATION * np.sin(k * _THETA + rng.uniform(0, 2 * np.pi)) for k in (2, 3)]
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


def _triangle_corners() -> npt.NDArray[np.float64]:
    angles = np.arange(3) / 3 * 2 * np.pi
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _bar_corners(eighth: int) -> npt.NDArray[np.float64]:
    """A bar, turned to the left by some eighths of a turn; y points down."""
    angle = eighth / 8 * 2 * np.pi
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([[1, -0.3], [1, 0.3], [-1, 0.3], [-1, -0.3]]) @ turn


def _cross_corners(arm: float) -> npt.NDArray[np.float64]:
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


OUTLINES = {
    "disc": np.ones(_ANGLES),
    "ring": _of_unit_area(np.ones(_ANGLES), share=0.7),
    "cross": _polygon(_cross_corners(0.33)),
    "triangle": _polygon(_triangle_corners()),
    "bar": _polygon(_bar_corners(0)),
    "slash": _polygon(_bar_corners(1)),
    "pillar": _polygon(_bar_corners(2)),
    "backslash": _polygon(_bar_corners(3)),
}
"""Radius of each outline by angle, all of one area."""
