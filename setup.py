import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
demo = ["argcomplete", "einops", "matplotlib", "numpy", "pillow", "safetensors"]
demo += ["scikit-image", "scikit-learn", "torchmetrics", "tqdm"]
judges = ["flip-evaluator", "scipy", "ssimulacra2"]
bench = [*demo, *judges, "diffusers", "hicache-pp", "torchdiffeq", "torchsde"]
train = [*demo, "pytorch-lightning>=2.6"]

setup(
    name="taylorseer-guider",
    version=re.search(r'__version__ = "(.+)"', (here / "taylorseer_guider/__init__.py").read_text())[1],
    description="Sample with sgm-family diffusion code several times cheaper, by changing one line of YAML",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    keywords=["diffusion", "sampling", "sgm", "guider", "classifier-free guidance", "TaylorSeer", "forecast", "cache"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    license="MIT",
    python_requires=">=3.10",
    install_requires=["torch>=2.1", "omegaconf>=2.3"],
    extras_require={
        "bench": bench,  # what benchmark.py compares with; each may be missing. benchmark.sh adds more
        "demo": demo,
        "diffusers": ["diffusers>=0.42"],
        "judges": judges,  # FLIP and SSIMULACRA2, on the page of compare.py
        "train": train,
        "test": [*train, *judges, "diffusers", "hypothesis", "pytest", "pytest-randomly", "selenium"],
    },
    entry_points={
        "console_scripts": [
            f"taylorseer-{name} = taylorseer_guider.commands.{name}:main"
            for name in ("sample", "calibrate", "compare", "trajectory")
        ]
    },
    packages=[*find_packages(include=["taylorseer_guider*"]), "taylorseer_guider.configs"],
    package_dir={"taylorseer_guider.configs": "configs"},
    package_data={
        "taylorseer_guider": ["py.typed"],
        "taylorseer_guider.adapters.comfyui": ["pyproject.toml"],
        "taylorseer_guider.tiny": ["*.safetensors"],
        "taylorseer_guider.commands.page": ["page.*"],
        "taylorseer_guider.configs": ["*.yaml"],
    },
)
