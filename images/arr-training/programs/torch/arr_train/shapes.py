"""What is learned from: images of four shapes, in random colours, places and sizes, on a noisy ground."""

import numpy
import torch
from PIL import Image, ImageDraw
from torchvision.transforms import v2

CLASSES = ("circle", "square", "triangle", "cross")
#: Pixels on a side.
SIZE = 32


class Shapes(torch.utils.data.Dataset):
    """Image number `index` depends on the seed and the index alone, whichever process draws it."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._transform = v2.Compose(
            [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
        )

    def __len__(self) -> int:
        """As many as were asked for."""
        return self._count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """The image, normalised, and the number of its class."""
        random = numpy.random.default_rng((self._seed, index))
        label = int(random.integers(len(CLASSES)))
        return self._transform(draw(label, random)), label


def draw(label: int, random: numpy.random.Generator) -> Image.Image:
    """One shape."""
    image = Image.fromarray(random.integers(0, 120, (SIZE, SIZE, 3), dtype=numpy.uint8))
    pen = ImageDraw.Draw(image)
    colour = tuple(int(c) for c in random.integers(120, 256, 3))
    radius = int(random.integers(6, 12))
    x, y = (int(c) for c in random.integers(radius, SIZE - radius, 2))
    box = (x - radius, y - radius, x + radius, y + radius)
    match CLASSES[label]:
        case "circle":
            pen.ellipse(box, fill=colour)
        case "square":
            pen.rectangle(box, fill=colour)
        case "triangle":
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
        case "cross":
            arm = radius // 3
            pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=colour)
            pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=colour)
    return image
