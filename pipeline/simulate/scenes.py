"""Procedural scenes in linear light: the content of the simulated sample set, the same for both classes.

A scene is a background (sky, clouds, wall or chequered floor), objects painted back to front
with shading, texture and soft shadows, thin lines, and a gradient of light. All of it is drawn from one
generator of random numbers, so a scene is a function of its seed and its shape.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

# Lengths are in units of the scene's short side; the origin is its centre. Scenes are painted as
# three planes (3, H, W), because NumPy is several times faster on whole planes than on triples.


@dataclass(frozen=True)
class _Canvas:
    """Pixel positions: x (1 x W), y (H x 1), float32, and the size of a pixel, in units of the short side."""

    x: np.ndarray
    y: np.ndarray
    pixel: float

    @classmethod
    def of_shape(cls, height: int, width: int) -> "_Canvas":
        pixel = 1 / min(height, width)
        x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * pixel
        y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * pixel
        return cls(x[None, :], y[:, None], pixel)

    def crop_around(self, x: float, y: float, reach: float) -> tuple["_Canvas", tuple[slice, slice]]:
        """Return the window within `reach` of a point, whose origin is the point, and its rows and columns."""
        left, right = np.searchsorted(self.x[0], (x - reach, x + reach))
        top, bottom = np.searchsorted(self.y[:, 0], (y - reach, y + reach))
        rows, columns = slice(top, bottom), slice(left, right)
        near = _Canvas(self.x[:, columns] - np.float32(x), self.y[rows] - np.float32(y), self.pixel)
        return near, (rows, columns)

    def cover(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """Compute the coverage 0 to 1 of a shape from signed distances (negative inside): its antialiased edge."""
        return np.clip(0.5 - distance / (self.pixel + softness), 0, 1)


def draw_scene(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a scene as linear light: float32 (height, width, 3), from 0 to 1 (the brightest white)."""
    canvas = _Canvas.of_shape(height, width)
    textures = [_draw_texture(rng, height, width) for _ in range(3)]
    scene = _draw_background(rng, canvas, textures)
    if rng.random() < 0.5:  # a lens focused on the foreground
        scene = ndimage.gaussian_filter(scene, rng.uniform(0.5, 4), axes=(1, 2), mode="nearest")
    sizes = np.sort(np.exp(rng.uniform(np.log(0.04), np.log(0.4), rng.integers(3, 11))))[::-1]
    for size in sizes:
        _paint_object(rng, canvas, scene, textures, size)
    for _ in range(rng.integers(0, 7)):
        _paint_line(rng, canvas, scene)
    scene *= 1 + rng.uniform(0, 0.5) * _draw_gradient(rng, canvas)
    scene *= rng.uniform(0.12, 0.35) / max(float(scene.mean()), 1e-3)
    return np.ascontiguousarray(np.clip(scene, 0, 1).transpose(1, 2, 0))


def _draw_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw noise whose amplitude falls as 1/f^a, as natural textures' does: (H, W), mean 0, deviation 1."""
    exponent, stretch = rng.uniform(0.8, 2.0), np.float32(np.exp(rng.normal(0, 0.5)))
    fy = fft.fftfreq(height).astype(np.float32)[:, None] * stretch
    fx = fft.rfftfreq(width).astype(np.float32)[None, :] / stretch
    power = fy**2 + fx**2
    power[0, 0] = np.inf
    white = rng.standard_normal((height, width), dtype=np.float32)
    texture = fft.irfft2(fft.rfft2(white) * power ** (-exponent / 2), s=(height, width))
    return (texture - texture.mean()) / texture.std()


def _draw_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour in linear light, (3, 1, 1): any hue, mostly of low saturation as in nature."""
    hue = 2 * np.pi * (rng.random() - np.arange(3) / 3)
    saturation = rng.beta(1.5, 2.5)
    value = np.exp(rng.uniform(np.log(0.05), np.log(0.9)))
    return (value * (1 - saturation * (0.5 - 0.5 * np.cos(hue)))).astype(np.float32)[:, None, None]


def _draw_gradient(rng: np.random.Generator, canvas: _Canvas) -> np.ndarray:
    """Draw a linear gradient in a random direction, about -0.5 to 0.5."""
    angle = rng.uniform(0, 2 * np.pi)
    return canvas.x * np.float32(np.cos(angle)) + canvas.y * np.float32(np.sin(angle))


def _mix(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate: `other` where share is 1, `one` where it is 0."""
    return one + share * (other - one)


def _mix_in_place(under: np.ndarray, surface: np.ndarray, share: np.ndarray) -> None:
    """Interpolate as `_mix`, in place: allocating memory would be most of the time."""
    change = surface - under
    change *= share
    under += change


def _draw_background(rng: np.random.Generator, canvas: _Canvas, textures: list[np.ndarray]) -> np.ndarray:
    colours = [_draw_colour(rng) for _ in range(4)]
    kind = rng.choice(["sky", "clouds", "wall", "floor"])
    if kind == "clouds":
        return _mix(colours[0], colours[1], np.clip(0.5 + 0.3 * textures[0], 0, 1))
    if kind == "wall":
        width = rng.uniform(0.05, 0.3)
        across = (_draw_gradient(rng, canvas) / width) % 1
        seam = canvas.cover((np.abs(across - 0.5) - rng.uniform(0.02, 0.3)) * width)
        wall = _mix(colours[0], colours[1], seam * rng.uniform(0.2, 1))
        return _roughen(wall, textures[0], rng.uniform(0, 0.3))
    horizon = rng.uniform(-0.3, 0.4)
    depth = np.maximum(canvas.y - horizon, 0.01)
    if kind == "floor":
        tile = rng.uniform(2, 6)
        waves = np.sin(tile * canvas.x / depth) * np.sin(tile * 0.6 / depth)
        # Far tiles are finer than a pixel: they fade to the mean instead of aliasing.
        waves *= np.clip(depth**2 / (8 * tile * canvas.pixel), 0, 1)
        ground = _mix(colours[2], colours[3], 0.5 + 0.5 * np.tanh(4 * waves))
    else:
        ground = _mix(colours[2], colours[3], np.clip(depth, 0, 1))
    ground = _roughen(ground, textures[1], rng.uniform(0.05, 0.4))
    sky = _mix(colours[0], colours[1], np.clip(0.5 - canvas.y + 0.15 * textures[0], 0, 1))
    hills = horizon + 0.08 * textures[2].mean(axis=0, keepdims=True) * rng.uniform(0, 4)
    return _mix(ground, sky, canvas.cover(canvas.y - hills))


def _roughen(surface: np.ndarray, texture: np.ndarray, amount: float) -> np.ndarray:
    """Multiply the surface by a texture whose mean is about 1."""
    return surface * np.exp(amount * texture - amount**2 / 2)


def _paint_object(
    rng: np.random.Generator, canvas: _Canvas, scene: np.ndarray, textures: list[np.ndarray], size: float
) -> None:
    """Paint one object of radius `size` with its shadow into the scene."""
    middle_x, middle_y = (rng.uniform(-1, 1) * float(axis.max()) for axis in (canvas.x, canvas.y))
    near, window = canvas.crop_around(middle_x, middle_y, 2.2 * size)
    under = scene[:, *window]
    x, y = _rotate(near.x, near.y, rng.uniform(0, 2 * np.pi))
    distance = _draw_shape(rng, x, y * rng.uniform(1, 2), size)

    lift, softness = rng.uniform(0, 0.3) * size, rng.uniform(0.05, 0.6) * size
    shadow = ndimage.shift(near.cover(distance, softness), lift / near.pixel, order=0, mode="nearest")
    under *= 1 - rng.uniform(0, 0.7) * shadow

    along = _rotate(near.x, near.y, rng.uniform(0, 2 * np.pi))[0] / size
    if rng.random() < 0.5:  # shading of a ball (Lambert's law), else of a flat face
        shade = 0.25 + 0.75 * np.clip(0.4 + 0.6 * along, 0, 1)
    else:
        shade = np.clip(1 + rng.uniform(0, 0.4) * along, 0.3, 1.7)
    colour = _draw_colour(rng)
    if rng.random() < 0.3:
        stripes = np.sin(x * rng.uniform(2, 12) / size) > rng.uniform(-0.5, 0.5)
        colour = _mix(colour, _draw_colour(rng), stripes)
    roughness = rng.uniform(0.02, 0.4) if rng.random() < 0.5 else 0.0
    shade = _roughen(shade, textures[rng.integers(3)][window], roughness)
    _mix_in_place(under, colour * shade, near.cover(distance))


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def _draw_shape(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """Draw a disc, ring, box, polygon or wavy blob of this radius, as signed distances (negative inside)."""
    kind = rng.choice(["disc", "ring", "box", "polygon", "blob"])
    radius = np.hypot(x, y)
    if kind == "box":
        return np.maximum(np.abs(x) - size, np.abs(y) - size * rng.uniform(0.3, 1))
    if kind == "polygon":
        turns = np.sort(rng.uniform(0, 2 * np.pi, 3)) / 3 + np.arange(3) * 2 * np.pi / 3
        sides = [_rotate(x, y, turn)[0] - size * rng.uniform(0.4, 1) for turn in turns]
        return np.maximum.reduce([*sides, radius - 1.5 * size])
    if kind == "ring":
        return np.abs(radius - size * 0.8) - size * rng.uniform(0.05, 0.25)
    if kind == "blob":
        waves = rng.integers(3, 9)
        return radius - size * (0.8 + rng.uniform(0.05, 0.2) * np.sin(waves * np.arctan2(y, x)))
    return radius - size


def _paint_line(rng: np.random.Generator, canvas: _Canvas, scene: np.ndarray) -> None:
    """Paint a bent twig or wire across the scene."""
    x, y = _rotate(canvas.x, canvas.y, rng.uniform(0, 2 * np.pi))
    bend = rng.uniform(-0.5, 0.5) * x**2 + rng.uniform(0, 0.05) * np.sin(x * rng.uniform(2, 15))
    distance = np.abs(y - rng.uniform(-0.5, 0.5) - bend) - rng.uniform(0.001, 0.012)
    distance = np.maximum(distance, np.abs(x - rng.uniform(-0.5, 0.5)) - rng.uniform(0.1, 0.8))
    _mix_in_place(scene, _draw_colour(rng), canvas.cover(distance))
