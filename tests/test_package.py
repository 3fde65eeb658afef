"""What is installed: the wheel's contents, and a plugin that needs torch and omegaconf alone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, cwd=folder)
    return next(folder.glob("taylorseer_guider-*.whl"))


def test_the_wheel_holds_weights_and_configs_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "taylorseer_guider/tiny/weights.safetensors" in names
    configs = {Path(name).name for name in names if name.startswith("taylorseer_guider/configs/")}
    assert configs == {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert len(configs) >= 3
    assert not any("tests/" in name or "scripts/" in name for name in names)


def test_the_plugin_imports_torch_and_omegaconf_alone(wheel, tmp_path):
    installed = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", installed, wheel]
    subprocess.run(command, check=True)
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{ONLY_CORE}\nprint(taylorseer_guider.__file__)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert shown.stdout.strip().startswith(str(installed))


def test_the_version_is_stated_once(wheel):
    import taylorseer_guider

    assert taylorseer_guider.__version__ in wheel.name
