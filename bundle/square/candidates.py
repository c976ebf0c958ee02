"""The candidates of the Square Attack: where it starts and how it steps, in each norm, on the 8-bit grid.

Andriushchenko et al. 2020, arXiv 1912.00049 (algorithms 2 and 3). Every candidate is inside the ball in integers.

l∞: vertical stripes of ± the budget to start, then squares of one sign per channel.
l2: tiles of bumps to start; then one window's length, and what the ball has left, moves to a bump in another. Here on
whole levels, rounded so that the ball holds.
l1 is a scheme of this project's own: a ball of radius eps holds about eps pixel values changed from end to end, so a
fraction of the changed values is put back, and what that frees is spent on values drawn anew, each pushed to an end of the
range as far as the budget reaches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.table.threats import Threat

Levels = NDArray[np.int32]
Uniforms = NDArray[np.float64]

#: l1: the budget is spent on as many new values as it holds changes of this many levels.
SHORT = 100


def start_count(threat: Threat, shape: tuple[int, ...]) -> int:
    """How many uniform numbers the start takes."""
    _, height, width, channels = shape
    match threat.norm:
        case "linf":
            return channels * width
        case "l2":
            return channels * _tiles(height, width) ** 2 + 1
        case "l1":
            return step_count(threat, shape)


def step_count(threat: Threat, shape: tuple[int, ...]) -> int:
    """How many uniform numbers a step takes."""
    channels = shape[3]
    match threat.norm:
        case "linf":
            return 2 + channels
        case "l2":
            return 5 + channels
        case "l1":
            return 2 + 2 * min(threat.levels // SHORT + 4, channels * shape[1] * shape[2])


def start(clean: NDArray[np.uint8], uniforms: Uniforms, threat: Threat) -> NDArray[np.uint8]:
    """The first candidates around clean images uint8 (N, H, W, C); uniform numbers in [0, 1), (N, start_count)."""
    match threat.norm:
        case "linf":
            return _stripes(clean, uniforms, threat.levels)
        case "l2":
            return _tiled(clean, uniforms, threat.levels)
        case "l1":
            return _sparse(clean, clean, uniforms, 1.0, threat.levels)


def step(
    clean: NDArray[np.uint8], best: NDArray[np.uint8], uniforms: Uniforms, fraction: float, threat: Threat
) -> NDArray[np.uint8]:
    """The next candidates (N, H, W, C), each from the best one so far; uniform numbers (N, step_count).

    `fraction` of the image is what a window covers; in l1, the fraction of the changed values that is drawn anew.
    """
    match threat.norm:
        case "linf":
            return _squared(clean, best, uniforms, fraction, threat.levels)
        case "l2":
            return _shifted(clean, best, uniforms, fraction, threat.levels)
        case "l1":
            return _sparse(clean, best, uniforms, fraction, threat.levels)


# l∞


def _stripes(clean: NDArray[np.uint8], uniforms: Uniforms, levels: int) -> NDArray[np.uint8]:
    count, _, width, channels = clean.shape
    signs = np.where(uniforms[:, : width * channels] < 0.5, -levels, levels).reshape(count, 1, width, channels)
    return np.clip(clean.astype(np.int32) + signs, 0, 255).astype(np.uint8)


def _squared(
    clean: NDArray[np.uint8], best: NDArray[np.uint8], uniforms: Uniforms, fraction: float, levels: int
) -> NDArray[np.uint8]:
    """One square of ± levels for each channel; turned around where it would leave the image as it is."""
    _, height, width, channels = clean.shape
    side = _side(fraction, height, width)
    window = _window(uniforms[:, 0], uniforms[:, 1], side, height, width)
    signs = np.where(uniforms[:, 2 : 2 + channels] < 0.5, -levels, levels)[:, None, None, :]
    center = clean[window].astype(np.int32)
    inside = np.clip(center + signs, 0, 255)
    same = (inside == best[window]).all(axis=(1, 2, 3))
    inside[same] = np.clip(center - signs, 0, 255)[same]
    candidates = best.copy()
    candidates[window] = inside.astype(np.uint8)
    return candidates


def _side(fraction: float, height: int, width: int) -> int:
    return min(max(round((fraction * height * width) ** 0.5), 1), height, width)


def _window(
    down: Uniforms, right: Uniforms, side: int, height: int, width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Indices (N, side, side) of a window of each image, where uniform numbers (N,) put it."""
    top = (down * (height - side + 1)).astype(np.intp)
    left = (right * (width - side + 1)).astype(np.intp)
    steps = np.arange(side)
    return (
        np.arange(len(down))[:, None, None],
        (top[:, None] + steps)[:, :, None],
        (left[:, None] + steps)[:, None, :],
    )


# l2


def bumps(side: int) -> NDArray[np.float64]:
    """The paper's pattern η of a square: a positive bump beside a negative one, (side, side), of l2 norm 1."""
    left = side // 2
    pattern = np.concatenate([_bump(side, left), -_bump(side, side - left)], axis=1) if left else _bump(side, side)
    return pattern / np.linalg.norm(pattern)


def _bump(height: int, width: int) -> NDArray[np.float64]:
    """Nested squares around the middle, cut to (height, width); the j-th from within adds 1/j² (equation 2)."""
    down, right = np.abs(np.arange(height) - height // 2), np.abs(np.arange(width) - width // 2)
    added = 1.0 / np.arange(1, max(height, width) // 2 + 2) ** 2
    reached = added[::-1].cumsum()[::-1]
    return reached[np.maximum(down[:, None], right[None, :])]


def _tiles(height: int, width: int) -> int:
    """Tiles along a side of the start: five, or fewer where an image is small."""
    return max(1, min(5, height // 3, width // 3))


def _tiled(clean: NDArray[np.uint8], uniforms: Uniforms, levels: int) -> NDArray[np.uint8]:
    """Tiles of bumps of random sign, scaled to the ball."""
    count, height, width, channels = clean.shape
    tiles = _tiles(height, width)
    side = min(height, width) // tiles
    signs = np.where(uniforms[:, : channels * tiles**2] < 0.5, -1.0, 1.0).reshape(count, tiles, tiles, channels)
    turned = uniforms[:, -1] < 0.5
    pattern = np.where(turned[:, None, None], bumps(side).T, bumps(side))
    grid = signs[:, :, None, :, None, :] * pattern[:, None, :, None, :, None]
    moves = np.zeros(clean.shape)
    moves[:, : tiles * side, : tiles * side] = grid.reshape(count, tiles * side, tiles * side, channels)
    length = np.sqrt((moves**2).sum(axis=(1, 2, 3), keepdims=True))
    center = clean.astype(np.int32)
    moved = np.clip(center + moves / length * levels**0.5, 0, 255) - center
    whole = _whole(moved.reshape(count, -1), np.full(count, levels)).reshape(clean.shape)
    return (center + whole).astype(np.uint8)


def _shifted(
    clean: NDArray[np.uint8], best: NDArray[np.uint8], uniforms: Uniforms, fraction: float, levels: int
) -> NDArray[np.uint8]:
    """A second window is put back; a bump in the first takes its length and what the ball has left."""
    count, height, width, channels = clean.shape
    side = min(max(_side(fraction, height, width), 3) | 1, height, width)
    target = _window(uniforms[:, 0], uniforms[:, 1], side, height, width)
    source = _window(uniforms[:, 2], uniforms[:, 3], side, height, width)
    center = clean.astype(np.int32)
    moves = best.astype(np.int32) - center
    unspent = levels - (moves**2).sum(axis=(1, 2, 3))
    old = moves[target].astype(np.float64)
    emptied = moves.copy()
    emptied[source] = 0
    emptied[target] = 0
    # For each channel, the squares that both windows hold together; what the ball has left is shared out evenly.
    held = (moves**2 - emptied**2).sum(axis=(1, 2))
    budget = held + unspent[:, None] / channels

    pattern = np.where((uniforms[:, 4] < 0.5)[:, None, None], bumps(side).T, bumps(side))[..., None]
    signs = np.where(uniforms[:, 5 : 5 + channels] < 0.5, -1.0, 1.0)[:, None, None, :]
    lengths = np.sqrt((old**2).sum(axis=(1, 2), keepdims=True))
    mixed = signs * pattern + old / np.maximum(lengths, 1)
    norms = np.sqrt((mixed**2).sum(axis=(1, 2), keepdims=True))
    wished = mixed / np.maximum(norms, 1e-12) * np.sqrt(budget)[:, None, None, :]
    within = np.clip(center[target] + wished, 0, 255) - center[target]
    left = levels - (emptied**2).sum(axis=(1, 2, 3))
    emptied[target] = _whole(within.reshape(count, -1), left).reshape(within.shape)
    return (center + emptied).astype(np.uint8)


def _whole(moves: NDArray[np.float64], budgets: NDArray[np.integer[Any]]) -> Levels:
    """Whole levels next to `moves` (N, D), whose squares sum to at most `budgets` (N,), in integers.

    Each is rounded to the nearest; an image that this takes over its budget is shrunk and rounded again, and as a last
    resort rounded towards zero, which makes nothing longer.
    """
    lengths = (moves**2).sum(axis=1)
    shrink = np.sqrt(np.minimum(1.0, budgets / np.maximum(lengths, 1e-12)))
    result = np.rint(moves * shrink[:, None]).astype(np.int32)
    for _ in range(3):
        spent = (result.astype(np.int64) ** 2).sum(axis=1)
        over = spent > budgets
        if not over.any():
            return result
        shrink[over] *= np.sqrt(budgets[over] / spent[over])
        result[over] = np.rint(moves[over] * shrink[over, None]).astype(np.int32)
    over = (result.astype(np.int64) ** 2).sum(axis=1) > budgets
    result[over] = np.trunc(moves[over] * shrink[over, None]).astype(np.int32)
    return result


# l1


def _sparse(
    clean: NDArray[np.uint8], best: NDArray[np.uint8], uniforms: Uniforms, fraction: float, levels: int
) -> NDArray[np.uint8]:
    """Puts a fraction of the changed values back and spends the budget on values drawn anew."""
    center = clean.reshape(len(clean), -1).astype(np.int32)
    moves = best.reshape(len(clean), -1).astype(np.int32) - center
    _put_back(moves, uniforms[:, :2], fraction)
    places, signs = np.split(uniforms[:, 2:], 2, axis=1)
    places = (places * center.shape[1]).astype(np.intp)
    values = np.take_along_axis(center, places, axis=1)
    # To the end of the range that was drawn, or to the other one where the value is there already.
    upwards = np.where(signs < 0.5, values < 255, values == 0)
    ends = np.where(upwards, 255 - values, -values)
    free = (np.take_along_axis(moves, places, axis=1) == 0) & _first_of_its_kind(places)
    lengths = np.where(free, np.abs(ends), 0)
    left = levels - np.abs(moves).sum(axis=1, keepdims=True)
    granted = np.clip(left - (lengths.cumsum(axis=1) - lengths), 0, lengths)
    rows = np.arange(len(clean))[:, None]
    np.add.at(moves, (rows, places), np.sign(ends) * granted)
    return (center + moves).reshape(clean.shape).astype(np.uint8)


def _put_back(moves: Levels, uniforms: Uniforms, fraction: float) -> None:
    """Sets a fraction of the changed values (N, D), and at least one, to zero; two numbers per image say which.

    Value d has the key frac(u + v·d): spread evenly over [0, 1), whatever values are changed.
    """
    keys = (uniforms[:, :1] + uniforms[:, 1:] * np.arange(1, moves.shape[1] + 1)) % 1.0
    keys[moves == 0] = 2.0
    moves[(keys < fraction) | (keys == keys.min(axis=1, keepdims=True))] = 0


def _first_of_its_kind(places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which entries of each row have not been in it before; (N, M)."""
    order = places.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(places, order, axis=1)
    new = np.ones(places.shape, np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first
