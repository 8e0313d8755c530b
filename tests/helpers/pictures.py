"""Made-up pictures and small sets of them on disk."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_noise(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    """A picture that is no near-duplicate of another seed's: smooth noise of random colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + rng.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8))


def make_kaggle_dir(root: Path, per_source: int = 4, first_seed: int = 0) -> Path:
    """Write a small set: `per_source` pictures for each split, class and source."""
    seed = first_seed
    for split in ("train", "test"):
        for label, sources in (("real", ("camera", "phone")), ("fake", ("gan", "diffusion"))):
            for source in sources:
                folder = root / split / label / source
                folder.mkdir(parents=True)
                for number in range(per_source):
                    seed += 1
                    picture = draw_noise(seed, width=36 + seed % 3 * 4)
                    if number % 2:
                        picture.save(folder / f"{number}.png")
                    else:
                        picture.save(folder / f"{number}.jpg", quality=80 + number)
    return root
