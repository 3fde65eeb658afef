"""What is installed: the wheel's contents, and a plugin that needs torch and omegaconf alone."""

import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import taylorseer_guider

ROOT = Path(__file__).parents[1]

ONLY_CORE = """
import sys, sysconfig
site = sysconfig.get_paths()["purelib"]
import torch, omegaconf  # and whatever they need themselves
known = set(sys.modules)
import taylorseer_guider
taylorseer_guider.TaylorSeerGuider(scale=3.0)
extra = {name.partition(".")[0] for name in set(sys.modules) - known} - set(sys.stdlib_module_names) - {"taylorseer_guider"}
extra = {name for name in extra if not name.startswith("_")}
assert not extra - {"torch", "omegaconf"}, extra
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("taylorseer_guider.")}
assert not rooms & {"calibration", "commands", "engines", "tiny"}, rooms
"""

SAMPLED_ELSEWHERE = """
import sys
from importlib.abc import MetaPathFinder

class OnlyDemo(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others!r}:
            raise ModuleNotFoundError(f"{{name}} is not of the extra demo", name=name)

sys.meta_path.insert(0, OnlyDemo())
sys.path.insert(0, {installed!r})
import numpy as np
import taylorseer_guider
from pathlib import Path
from taylorseer_guider.engines import build_engine, build_sampler, load_config
config = load_config(Path(taylorseer_guider.__file__).parent / "configs" / "tiny_calibrated.yaml")
engine, sampler = build_engine(config), build_sampler(config)
((name, small, _),) = engine.inputs([("grey", np.full((4, 4, 3), 128, np.uint8))])
picture = engine.picture(sampler(engine.denoiser, **engine.arguments(small, seed=0)), small)
assert picture.shape == (1, 3, 16, 16) and picture.isfinite().all() and sampler.guider.report.calls == 8
print(taylorseer_guider.__file__)
"""


COMMAND_ELSEWHERE = """
import sys
sys.path.insert(0, {installed!r})
from importlib.metadata import entry_points
(entry,) = entry_points(group="console_scripts", name=sys.argv[0])
sys.exit(entry.load()())
"""


def distributions_of_the_demo():
    """The distributions that ``pip install taylorseer_guider[demo]`` brings, by canonical name."""
    known, todo = set(), [("taylorseer-guider", "demo")]
    while todo:
        name, extra = todo.pop()
        if name in known:
            continue
        known.add(name)
        try:
            found = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            continue
        found = [each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})]
        todo += [(canonicalize_name(each.name), "") for each in found]
    return known


def modules_of_no_demo():
    """The installed packages that only other extras bring."""
    demo = distributions_of_the_demo()
    assert {"torch", "omegaconf", "pillow", "numpy", "matplotlib"} <= demo and "pytest" not in demo
    return sorted(
        module for module, owners in packages_distributions().items() if not demo & {canonicalize_name(owner) for owner in owners}
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, cwd=folder)
    return next(folder.glob("taylorseer_guider-*.whl"))


def test_the_wheel_holds_weights_and_configs_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "taylorseer_guider/tiny/weights.safetensors" in names
    assert {f"taylorseer_guider/commands/page/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    configs = {Path(name).name for name in names if name.startswith("taylorseer_guider/configs/")}
    assert configs == {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert len(configs) >= 3
    assert not any("tests/" in name or "scripts/" in name for name in names)


def test_the_wheel_holds_the_node_for_comfyui_whole_and_at_this_version(wheel):
    folder = ROOT / "taylorseer_guider" / "adapters" / "comfyui"
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"taylorseer_guider/adapters/comfyui/{path.name}" for path in folder.glob("*.*")} <= set(names)
    registered = tomllib.loads((folder / "pyproject.toml").read_text())
    assert registered["project"]["version"] == taylorseer_guider.__version__ and registered["tool"]["comfy"]["DisplayName"]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An empty folder that the wheel was installed into."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel], check=True)
    return folder


@pytest.mark.slow
def test_the_plugin_imports_torch_and_omegaconf_alone(installed, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{ONLY_CORE}\nprint(taylorseer_guider.__file__)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert shown.stdout.strip().startswith(str(installed))


def test_a_run_of_the_standalone_host_needs_no_more():
    code = (
        "import sys; sys.modules.update(tqdm=None, numpy=None, einops=None)\n"
        "import torch; from taylorseer_guider.standalone.config import instantiate_from_config\n"
        "from problems import sampler, GaussianMixture; p = GaussianMixture()\n"
        "print(sampler('HeunEDMSampler', calls=4)(p, *p.inputs()).shape)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert "torch.Size" in shown.stdout, shown.stderr


@pytest.mark.slow
def test_a_config_of_the_wheel_is_built_and_sampled_from_another_folder(installed, tmp_path):
    code = SAMPLED_ELSEWHERE.format(others=modules_of_no_demo(), installed=str(installed))
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip().startswith(str(installed))


def command(installed, folder, *words):
    """What an installed command says in ``folder``, outside of the checkout."""
    code = f"import sys; sys.argv = {[str(word) for word in words]!r}\n{COMMAND_ELSEWHERE.format(installed=str(installed))}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["taylorseer-sample", "taylorseer-calibrate", "taylorseer-compare", "taylorseer-trajectory"])
def test_a_command_of_the_wheel_answers_help_by_its_name(name, installed, tmp_path):
    shown = command(installed, tmp_path, name, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith(f"usage: {name} ") and shown.stderr == ""


@pytest.mark.slow
def test_a_command_of_the_wheel_enlarges_a_picture_with_the_calibration_of_the_wheel(installed, tmp_path):
    Image.new("RGB", (4, 4), "teal").save(tmp_path / "teal.png")
    shown = command(installed, tmp_path, "taylorseer-sample", "--input-path", "teal.png", "--out-dir", "made")
    assert shown.returncode == 0, shown.stderr
    config = next((tmp_path / "made").glob("*.yaml")).read_text()
    assert f"{installed}/taylorseer_guider/configs/tiny_calibration.yaml" in config
    assert Image.open(next((tmp_path / "made").glob("teal_x4_heun20-taylorseer-calibrated8-s1_seed0.png"))).size == (16, 16)


def test_the_version_is_stated_once(wheel):
    assert taylorseer_guider.__version__ in wheel.name
