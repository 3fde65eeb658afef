"""What every command says at once, without torch: its help, its flags and their completion, and what is missing."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import train_tiny
from taylorseer_guider import tiny
from taylorseer_guider.commands import command
from taylorseer_guider.tiny.photographs import HELD_OUT

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"

COMMANDS = sorted(path.stem for path in SCRIPTS.glob("*.py") if "__main__" in path.read_text())
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None  # importing it fails
sys.argv = [sys.argv[1], *sys.argv[2:]]
sys.path.insert(0, {scripts!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# Every command: its help, its flags.


def without_torch(name, *arguments):
    code = WITHOUT_TORCH.format(scripts=str(SCRIPTS))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, SCRIPTS / f"{name}.py", *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # however busy the machine is


def test_every_command_is_known():
    ours = ["benchmark", "calibrate", "compare", "method", "photographs", "sample", "train_sgm_toy", "train_tiny", "trajectory"]
    assert ours == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.slow
def test_help_needs_no_torch_and_is_there_at_once(name):
    done, seconds = without_torch(name, "--help")
    assert done.returncode == 0 and "options:" in done.stdout and done.stderr == ""
    assert seconds < 2


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_that_is_not_known_is_one_line_without_torch(name):
    done, _ = without_torch(name, "folder", "--quickest")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith(f"{name}.py: ")


def test_a_package_that_is_missing_is_named_with_what_brings_it(capsys):
    def lacking(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert command.exit_code("taylorseer-sample", lambda: lacking("tqdm.auto"), ValueError, "") == 2
    assert capsys.readouterr().err == 'taylorseer-sample: needs the package tqdm.auto: pip install "taylorseer-guider[demo]"\n'
    with pytest.raises(ModuleNotFoundError):
        command.exit_code("taylorseer-sample", lambda: lacking("ours"), ValueError, "")


def completions(name, line):
    """What the shell is offered after ``line``, by ``scripts/NAME.py`` without torch."""
    answer, offered = os.pipe()  # argcomplete answers on descriptor 8
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n", "COMP_TYPE": "9"}
    command = f'"$0" -c "$1" "$2" 8>&{offered} 9>/dev/null'
    code = WITHOUT_TORCH.format(scripts=str(SCRIPTS))
    arguments = ["bash", "-c", command, sys.executable, code, str(SCRIPTS / f"{name}.py")]
    done = subprocess.run(arguments, env={**os.environ, **asked}, pass_fds=[offered], capture_output=True, text=True)
    os.close(offered)
    with os.fdopen(answer) as pipe:
        words = pipe.read().split("\n")
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in words}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["calibrate", "sample", "trajectory"])
def test_the_shell_completes_options_and_their_values(name):
    pytest.importorskip("argcomplete")
    assert completions(name, f"{name}.py --num-st") == {"--num-steps"}
    assert completions(name, f"{name}.py --dtype b") == {"bfloat16"}
    assert "PYTHON_ARGCOMPLETE_OK" in (SCRIPTS / f"{name}.py").read_text()[:1024]
    assert "PYTHON_ARGCOMPLETE_OK" in Path(command.__file__).with_name(f"{name}.py").read_text()[:1024]


def test_constants_of_the_commands_are_those_of_the_package():
    assert command.PHOTOGRAPHS == HELD_OUT
    assert train_tiny.WEIGHTS == tiny.WEIGHTS
