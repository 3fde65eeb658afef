"""What commands say to the person who runs them. Nothing here imports torch: ``--help`` and mistakes are answered at once."""

import argparse
import math
import os
import sys
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent  # of a checkout
CONFIGS = next(folder for folder in (PACKAGE / "configs", ROOT / "configs") if folder.is_dir())  # of a wheel, of a checkout
OURS = "taylorseer_guider.TaylorSeerGuider"
GUIDERS = {"taylorseer": OURS, "vanilla": "VanillaCFG", "identity": "IdentityGuider"}
PHOTOGRAPHS = ("chelsea", "coffee")  # that the embedded model was not trained on
DEMO = "einops", "matplotlib", "numpy", "PIL", "safetensors", "skimage", "sklearn", "torchmetrics", "tqdm"  # of the extra
PATHS = {  # flags that name what an engine is built from: its parameters of the same name
    "infdit_root": "a checkout of Inf-DiT (git clone https://github.com/THUDM/Inf-DiT)",
    "network": "Inf-DiT's checkpoint (mp_rank_00_model_states.pt; the checkout's README links it)",
    "sgm_root": "a checkout of sgm (git clone https://github.com/Stability-AI/generative-models)",
    "ckpt": "an sgm model's weights (.safetensors or .ckpt)",
}


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults that say something, as a person would type them."""

    def _get_help_string(self, action):
        default = action.default
        if not action.option_strings or action.help is None or default in (None, False, [], argparse.SUPPRESS):
            return action.help
        words = map(_typed, default if isinstance(default, (list, tuple)) else [default])
        return f"{action.help} (default: {' '.join(words).replace('%', '%%')})"


def _typed(value):
    """``value`` as a person in the project's folder types it."""
    inside = isinstance(value, Path) and value.is_relative_to(ROOT)
    return str(value.relative_to(ROOT) if inside else value)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line, and help shows defaults as they are typed."""

    def __init__(self, **options):
        super().__init__(**{"formatter_class": Defaults, **options})

    def error(self, message):
        unknown = message.rpartition("unrecognized arguments: ")[2].split()
        names = [name for name in self._option_string_actions if name.startswith("--")]
        hint = near(unknown[0], names) if unknown != message.split() else None
        self.exit(2, f"{self.prog}: {message}{f'; did you mean {hint}?' if hint else ''} (--help lists the options)\n")


def near(word, words):
    """The one of ``words`` that ``word`` was probably meant to be, or None."""
    return next(iter(get_close_matches(word, list(words), n=1, cutoff=0.7)), None)


def complete(parser):
    """Answer a shell that asks how a word could go on (and leave), where argcomplete is there to do so."""
    if "_ARGCOMPLETE" in os.environ:
        try:
            import argcomplete
        except ImportError:
            return
        argcomplete.autocomplete(parser)


def parsed(parser, argv):
    """What ``argv`` says to ``parser``, with overrides of the config wherever they stand among the flags."""
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="anything else in the config")
    complete(parser)
    return parser.parse_intermixed_args(argv)


def flag(name):
    return "--" + name.replace("_", "-")


def add_model_options(add):
    """The options of every script that builds an engine; ``add`` is a parser's."""
    for name, meaning in PATHS.items():
        add(flag(name), type=Path, metavar="PATH", help=meaning)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    dtypes = ("auto", "float32", "bfloat16", "float16")
    add("--dtype", choices=dtypes, default="auto", help="auto: on a GPU the model's own, else float32")


def whole(least, most):
    """The type of an option: a whole number from ``least`` to ``most``."""

    def convert(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: give a whole number from {least} to {most}")
        return value

    return convert


def above(least):
    """The type of an option: a finite number above ``least``."""

    def convert(text):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text}: give a number above {least:g}")
        return value

    return convert


def exit_code(name, work, mistakes, kept):
    """Run ``work()``. Its code, or 0; 2 after one line on one of ``mistakes``; 130 where it was stopped, saying what is kept."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that it cannot encode ends no work
    try:
        return work() or 0
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DEMO:
            raise
        print(f'{name}: needs the package {error.name}: pip install "taylorseer-guider[demo]"', file=sys.stderr)
        return 2
    except mistakes as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; {kept}", file=sys.stderr)
        return 130
