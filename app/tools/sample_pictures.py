"""Draw the sample pictures in ``resource/images/``: ``python tools/sample_pictures.py``.

They are drawn and not photographed so that they may be copied along with the site.
"""

import math
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

FOLDER = Path(__file__).parents[1] / "src/my_flask_webpage/resource/images"
WIDTH, HEIGHT = 1600, 1067
SCALE = 2  # drawn larger and then made smaller, so that edges are smooth

Colour = str
Point = tuple[float, float]


class Scene:
    """A canvas whose coordinates are the finished picture's pixels."""

    def __init__(self, top: Colour, bottom: Colour, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  # the same pictures each time
        self.image = self.gradient(top, bottom)

    def gradient(self, top: Colour, bottom: Colour) -> Image.Image:
        """Blend from one colour at the top to another at the bottom."""
        blend = Image.linear_gradient("L").resize((WIDTH * SCALE, HEIGHT * SCALE))
        size = blend.size
        return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), blend)

    def mask(self, draw: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
        """Draw white on black."""
        mask = Image.new("L", self.image.size, 0)
        draw(ImageDraw.Draw(mask))
        return mask

    def shape(self, points: list[Point], top: Colour, bottom: Colour | None = None) -> None:
        """Fill a polygon, with a blend over the picture's height."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        mask = self.mask(lambda draw: draw.polygon(scaled, fill=255))
        self.image.paste(self.gradient(top, bottom or top), mask=mask)

    def box(self, x: float, y: float, w: float, h: float, fill: Colour, radius: float = 0) -> None:
        """Fill a rectangle."""
        area = [x * SCALE, y * SCALE, (x + w) * SCALE, (y + h) * SCALE]
        ImageDraw.Draw(self.image).rounded_rectangle(area, radius * SCALE, fill=fill)

    def disc(self, x: float, y: float, r: float, fill: Colour) -> None:
        """Fill a circle."""
        area = [(x - r) * SCALE, (y - r) * SCALE, (x + r) * SCALE, (y + r) * SCALE]
        ImageDraw.Draw(self.image).ellipse(area, fill=fill)

    def line(self, points: list[Point], fill: Colour, width: float) -> None:
        """Draw a line with round corners."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        ImageDraw.Draw(self.image).line(scaled, fill, round(width * SCALE), joint="curve")

    def glow(self, x: float, y: float, r: float, fill: Colour, strength: float) -> None:
        """Add light around a point."""
        small = Image.new("L", (WIDTH // 4, HEIGHT // 4), 0)
        area = [(x - r) / 4, (y - r) / 4, (x + r) / 4, (y + r) / 4]
        ImageDraw.Draw(small).ellipse(area, fill=round(255 * strength))
        mask = small.filter(ImageFilter.GaussianBlur(r / 9)).resize(self.image.size)
        light = Image.composite(
            Image.new("RGB", self.image.size, fill), Image.new("RGB", self.image.size), mask
        )
        self.image = ImageChops.screen(self.image, light)

    def ridge(self, base: float, swing: float, top: Colour, bottom: Colour, waves: int = 3) -> None:
        """Fill everything below a soft, irregular line."""
        parts = [
            (
                self.random.uniform(0.4, 1) / n,
                self.random.uniform(0.6, 1.3) * n,
                self.random.random(),
            )
            for n in range(1, waves + 1)
        ]
        points: list[Point] = [
            (
                x,
                base
                + swing * sum(a * math.sin(2 * math.pi * (f * x / WIDTH + p)) for a, f, p in parts),
            )
            for x in range(0, WIDTH + 9, 8)
        ]
        self.shape([*points, (WIDTH, HEIGHT), (0, HEIGHT)], top, bottom)

    def stars(self, count: int, below: float) -> None:
        """Scatter stars down to a height."""
        for _ in range(count):
            x, y = self.random.uniform(0, WIDTH), self.random.uniform(0, below)
            self.disc(x, y, self.random.uniform(0.7, 2.0), "#d8deea")

    def save(self, name: str) -> None:
        """Write the finished picture."""
        self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(
            FOLDER / name, quality=84, optimize=True, progressive=True
        )


def harbour() -> Scene:
    """Draw a ferry at sunrise."""
    scene = Scene("#5f86a8", "#f7cfa0", 3)
    scene.glow(1120, 560, 430, "#ffb765", 0.75)
    scene.disc(1120, 560, 74, "#fff0cf")
    scene.ridge(560, 60, "#7c95ae", "#8ba0b4")
    scene.ridge(610, 40, "#4f7190", "#5b7c99", 4)
    scene.shape([(0, 660), (WIDTH, 660), (WIDTH, HEIGHT), (0, HEIGHT)], "#f0c59a", "#2a5570")
    for row in range(34):
        y = 672 + row * 12
        for _ in range(5 + row // 4):
            x = scene.random.gauss(1120, 60 + row * 14)
            half = scene.random.uniform(14, 44) * (0.5 + row / 30)
            scene.line([(x - half, y), (x + half, y)], "#ffdcae" if row < 20 else "#7ea2b4", 2.2)
    scene.shape([(380, 700), (760, 700), (728, 762), (420, 762)], "#1d3547")
    scene.box(430, 650, 250, 50, "#f4efe6", 6)
    scene.box(520, 606, 120, 46, "#f4efe6", 6)
    scene.box(470, 580, 34, 72, "#c8553d", 4)
    for x in range(446, 660, 36):
        scene.box(x, 664, 22, 16, "#38586e", 3)
    for x in (534, 572, 606):
        scene.box(x, 618, 24, 16, "#38586e", 3)
    scene.ridge(960, 22, "#1f4359", "#12293a", 2)
    return scene


def tides() -> Scene:
    """Draw two tides of a day."""
    scene = Scene("#0f2740", "#2c5d78", 5)
    scene.stars(90, 420)
    scene.glow(1180, 250, 300, "#cfe4ee", 0.5)
    scene.disc(1180, 250, 82, "#f1f3ea")
    for level, colour in ((610, "#3b7690"), (700, "#2b6079"), (790, "#1d4a62"), (880, "#133549")):
        shift = scene.random.uniform(-0.05, 0.05)
        wave: list[Point] = [
            (x, level + 92 * math.sin(4 * math.pi * (x / WIDTH + shift)))
            for x in range(0, WIDTH + 9, 8)
        ]
        scene.shape([*wave, (WIDTH, HEIGHT), (0, HEIGHT)], colour)
        scene.line(wave, "#8fc1cf" if level == 610 else "#4d8aa0", 3)
    for hour in range(25):
        x = 40 + hour * (WIDTH - 80) / 24
        scene.line([(x, 1010), (x, 988 if hour % 6 else 966)], "#7fb0c0", 3)
    return scene


def shelves() -> Scene:
    """Draw books."""
    scene = Scene("#f3e7d3", "#e6d2b3", 11)
    colours = [
        "#8c3b2e",
        "#c8773b",
        "#d9a441",
        "#4f6d5a",
        "#2f4858",
        "#7a5c8a",
        "#b5534a",
        "#e0cfae",
    ]
    for shelf in range(3):
        floor = 330 + shelf * 320
        x = 70.0
        while x < WIDTH - 120:
            if scene.random.random() < 0.09:
                x += scene.random.uniform(40, 110)
                continue
            width = scene.random.uniform(28, 66)
            height = scene.random.uniform(170, 258)
            colour = scene.random.choice(colours)
            if scene.random.random() < 0.1:
                lean = 58
                scene.shape(
                    [(x, floor), (x + width, floor), (x + width + lean, floor - height),
                     (x + lean, floor - height + 12)], colour,
                )  # fmt: skip
                x += width + lean + 6
                continue
            scene.box(x, floor - height, width, height, colour, 3)
            scene.box(x + 5, floor - height + 26, width - 10, 5, "#f3e7d3")
            scene.box(x + 5, floor - 44, width - 10, 12, "#f0ddb8", 2)
            x += width + 3
        scene.box(0, floor, WIDTH, 26, "#7b5334")
        scene.box(0, floor + 26, WIDTH, 10, "#5d3d26")
    return scene


def village() -> Scene:
    """Draw houses at dusk."""
    scene = Scene("#3b3f6b", "#f0a47a", 8)
    scene.stars(40, 260)
    scene.ridge(560, 90, "#5c4f7d", "#7a5d80")
    scene.ridge(700, 50, "#43406a", "#4b3f64")
    walls = ["#26264a", "#2d2b52", "#221f40", "#302c55"]
    x = -30.0
    while x < WIDTH:
        width, height = scene.random.uniform(110, 190), scene.random.uniform(120, 230)
        floor = 930 + scene.random.uniform(-30, 30)
        wall = scene.random.choice(walls)
        scene.box(x, floor - height, width, height + 200, wall)
        roof = scene.random.uniform(60, 110)
        peak = (x + width / 2, floor - height - roof)
        scene.shape([(x - 14, floor - height), peak, (x + width + 14, floor - height)], "#1a1834")
        for column in range(int(width // 48)):
            for row in range(int(height // 70)):
                lit = scene.random.random() < 0.5
                left, top = x + 18 + column * 48, floor - height + 22 + row * 66
                if lit:
                    scene.glow(left + 12, top + 16, 60, "#c9772d", 0.5)
                scene.box(left, top, 24, 32, "#ffd488" if lit else "#3c3964", 2)
        x += width + scene.random.uniform(8, 60)
    scene.ridge(1010, 12, "#17152e", "#100e22", 2)
    return scene


def lantern() -> Scene:
    """Draw light in the night."""
    scene = Scene("#0a1626", "#152f45", 21)
    scene.stars(160, 760)
    scene.ridge(880, 36, "#0f2436", "#0b1a28")
    scene.glow(800, 520, 620, "#b86b1f", 0.55)
    scene.glow(800, 520, 260, "#ffcf7a", 0.8)
    scene.line([(800, 0), (800, 300)], "#05090f", 6)
    scene.shape([(730, 372), (870, 372), (838, 312), (762, 312)], "#0b131c")
    scene.box(722, 368, 156, 20, "#0b131c", 6)
    scene.box(742, 388, 116, 230, "#ffdf9c", 8)
    scene.disc(800, 520, 40, "#fff6dc")
    for x in (742, 796, 850):
        scene.box(x, 388, 8, 230, "#0b131c")
    scene.box(722, 616, 156, 26, "#0b131c", 6)
    return scene


def birds() -> Scene:
    """Draw geese in the evening."""
    scene = Scene("#9fb8bd", "#f6dcbc", 13)
    scene.glow(420, 780, 420, "#ffc98a", 0.6)
    scene.disc(420, 760, 66, "#fff1d6")
    for index in range(17):
        side = -1 if index % 2 else 1
        row = (index + 1) // 2
        x, y = 1010 - row * 62, 330 + side * row * 27 + scene.random.uniform(-6, 6)
        span = 30 - row * 0.9
        flap = scene.random.uniform(6, 17)
        wing = [(x - span, y - flap), (x - span / 3, y - 3), (x, y + 4),
                (x + span / 3, y - 3), (x + span, y - flap)]  # fmt: skip
        scene.line(wing, "#39474d", 5)
    scene.ridge(860, 22, "#7f9089", "#6f8078")
    scene.ridge(930, 16, "#566a60", "#3c4d45", 4)
    reeds(scene, 240, 960, "#2c3a33")
    return scene


def reeds(scene: Scene, count: int, floor: float, colour: Colour) -> None:
    """Draw reeds in the foreground."""
    for _ in range(count):
        x = scene.random.uniform(-20, WIDTH + 20)
        height = scene.random.uniform(60, 250)
        lean = scene.random.gauss(14, 22)
        tip = (x + lean, floor - height)
        scene.line([(x, HEIGHT), (x + lean * 0.3, floor - height * 0.4), tip], colour, 3.2)
        if scene.random.random() < 0.28:
            scene.line([tip, (tip[0] - lean * 0.12, tip[1] + 42)], colour, 11)


def mist() -> Scene:
    """Draw reeds at a lake."""
    scene = Scene("#dfe9df", "#a9c4b4", 34)
    scene.glow(1100, 300, 420, "#fffbe6", 0.5)
    for base, top, bottom in ((430, "#b9cfc2", "#cfded3"), (520, "#9bb8a8", "#b7cdc0")):
        scene.ridge(base, 34, top, bottom, 5)
    scene.shape([(0, 640), (WIDTH, 640), (WIDTH, HEIGHT), (0, HEIGHT)], "#cddcd2", "#6f9382")
    for _ in range(60):
        x, y = scene.random.uniform(0, WIDTH), scene.random.uniform(660, 960)
        half = scene.random.uniform(30, 130)
        scene.line([(x - half, y), (x + half, y)], "#dbe6dd", 2)
    reeds(scene, 150, 960, "#4f7361")
    reeds(scene, 130, 1060, "#2d4a3c")
    return scene


def window() -> Scene:
    """Draw a bakery at four."""
    scene = Scene("#0d1430", "#2a2f55", 4)
    scene.stars(190, 520)
    x = 0.0
    for index in range(8):
        width = 200
        height = [560, 610, 520, 590, 545, 625, 530, 580][index]
        scene.box(
            x, HEIGHT - height, width - 4, height, ["#141832", "#181c39", "#12152c"][index % 3]
        )
        gable = [
            (x - 4, HEIGHT - height),
            (x + 98, HEIGHT - height - 92),
            (x + 200, HEIGHT - height),
        ]
        scene.shape(gable, "#0e1124")
        for row in range(4):
            for column in range(2):
                left, top = x + 34 + column * 84, HEIGHT - height + 40 + row * 112
                scene.box(left, top, 48, 66, "#222849", 3)
        x += width
    scene.glow(700, 880, 330, "#c8741f", 0.75)
    scene.box(634, 790, 132, 170, "#ffd98f", 6)
    scene.box(697, 790, 6, 170, "#8a5220")
    scene.box(634, 872, 132, 6, "#8a5220")
    scene.box(0, 1010, WIDTH, 60, "#0a0c1c")
    scene.glow(700, 1036, 210, "#a8611c", 0.5)
    return scene


def contours() -> Scene:
    """Draw a map of two hills."""
    scene = Scene("#f6efdf", "#f1e6cf", 2)
    peaks = [
        (560, 470, 330, 1.0),
        (1120, 640, 280, 0.8),
        (250, 900, 240, 0.45),
        (1420, 180, 240, 0.5),
    ]

    def height(x: float, y: float) -> float:
        wobble = 0.05 * math.sin(x / 83) * math.cos(y / 71) + 0.03 * math.sin((x + y) / 47)
        hills = (h * math.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (r * 0.72) ** 2))
                 for px, py, r, h in peaks)  # fmt: skip
        return sum(hills) + wobble

    step = 8
    for level in range(2, 24):
        value = level * 0.045
        width = 4.2 if level % 5 == 0 else 2.0
        for x in range(0, WIDTH, step):
            for y in range(0, HEIGHT, step):
                for segment in crossings(height, x, y, step, value):
                    scene.line(segment, "#b5623a", width)
    river: list[Point] = [
        (x, 840 + 60 * math.sin(x / 190) - x * 0.12) for x in range(0, WIDTH + 9, 8)
    ]
    scene.line(river, "#f3ead6", 20)
    scene.line(river, "#33677f", 9)
    path = [(430 + t * 7.2, 1067 - t * 6.1 + 40 * math.sin(t / 9)) for t in range(110)]
    for index in range(0, len(path) - 2, 4):
        scene.line(path[index : index + 3], "#33677f", 4)
    return scene


def crossings(
    height: Callable[[float, float], float], x: float, y: float, step: float, value: float
) -> list[list[Point]]:
    """Cut a cell by a contour line (marching squares, with straight pieces)."""
    corners = [(x, y), (x + step, y), (x + step, y + step), (x, y + step)]
    heights = [height(*corner) - value for corner in corners]
    points: list[Point] = []
    for index in range(4):
        a, b = heights[index], heights[(index + 1) % 4]
        if (a < 0) != (b < 0):
            (ax, ay), (bx, by) = corners[index], corners[(index + 1) % 4]
            part = a / (a - b)
            points.append((ax + (bx - ax) * part, ay + (by - ay) * part))
    return [points[index : index + 2] for index in range(0, len(points) - 1, 2)]


PICTURES = {
    "tidewater-harbour.jpg": harbour,
    "tidewater-tides.jpg": tides,
    "paper-trail-shelves.jpg": shelves,
    "paper-trail-village.jpg": village,
    "lantern-night.jpg": lantern,
    "field-notes-birds.jpg": birds,
    "field-notes-reeds.jpg": mist,
    "night-shift-window.jpg": window,
    "plain-maps-contours.jpg": contours,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().save(name)
