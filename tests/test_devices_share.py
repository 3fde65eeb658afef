"""``--devices``: a folder's pictures shared out among processes, killed on the way, and gone on with."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from taylorseer_guider.commands import sample
from taylorseer_guider.commands.results import read_folder
from taylorseer_guider.tiny.photographs import photograph

SCRIPT = Path(__file__).parents[1] / "scripts" / "sample.py"
STEPS = ["--num-steps", "6"]


def launched(*words, out, devices=2, told=()):
    """The command, started in a process group of its own, on one thread a process; variables are ``told`` it."""
    command = [sys.executable, SCRIPT, *words, *STEPS, "--out-dir", out, "--devices", devices]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **dict(told)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in command], env=env, start_new_session=True, **pipes)


def records(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}


def wait_for(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def commands_on(out):
    """Processes whose command names ``out``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        found += [path.parent.name] if str(out).encode() in words else []
    return found


@pytest.fixture
def forty(tmp_path):
    """A folder of 40 pictures: three broken, two of one name."""
    folder, image = tmp_path / "forty", photograph("chelsea")
    folder.mkdir()
    for n in range(35):
        Image.fromarray(image[5 * n : 5 * n + 8 + n % 5, 100:116]).save(folder / f"p{n:02}.png")
    for suffix in ("png", "jpg"):
        Image.fromarray(image[200:212, 150:158]).save(folder / f"twice.{suffix}")
    whole = (folder / "p00.png").read_bytes()
    for name, content in {"empty": b"", "garbage": b"no picture", "short": whole[: len(whole) // 2]}.items():
        (folder / f"{name}.png").write_bytes(content)
    assert len(list(folder.iterdir())) == 40
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_two_processes_that_are_killed_twice_make_every_good_picture_once_and_as_one_alone_does(forty, tmp_path):
    pytest.importorskip("pytorch_lightning")
    out, alone = tmp_path / "shared", tmp_path / "alone"
    first = launched("--input-path", forty, out=out)
    wait_for(lambda: len(records(out)) >= 4)
    first.kill()  # the first process alone: the other one sees that, and ends
    first.communicate()
    wait_for(lambda: not commands_on(out))
    once = records(out)
    second = launched("--input-path", forty, out=out)
    wait_for(lambda: len(records(out)) >= len(once) + 4)
    os.killpg(second.pid, signal.SIGKILL)
    second.communicate()
    twice = records(out)
    assert 4 <= len(once) < len(twice) < 37 and once.items() <= twice.items()
    third = launched("--input-path", forty, out=out)
    said, errors = third.communicate(timeout=300)
    assert third.returncode == 1, errors
    assert f"there already, skipped: {len(twice)} " in said
    assert errors.strip().splitlines()[-4] == "3 could not be made:"
    assert all(f"{name}.png: " in errors.rpartition("could not be made:")[2] for name in ("empty", "garbage"))
    assert "short_x4" in errors.rpartition("could not be made:")[2]
    assert len(read_folder(out)) == len(records(out)) == 37 and twice.items() <= records(out).items()
    assert sample.main(["--input-path", str(forty), *STEPS, "--out-dir", str(alone)]) == 1
    names = {path.name for path in alone.iterdir()}
    assert {path.name for path in out.iterdir()} == names and len(names) == 3 * 37 + 1  # and nothing half written
    for path in alone.glob("*_seed0.png"):
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(out / path.name)))


@pytest.mark.slow
def test_processes_that_torchrun_starts_share_a_folder_too(forty, tmp_path):
    pytest.importorskip("pytorch_lightning")
    for path in [*sorted(forty.glob("p*.png"))[3:], forty / "empty.png", forty / "short.png"]:
        path.unlink()
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, SCRIPT, "--input-path", forty, *STEPS, "--out-dir", tmp_path / "out", "--devices", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True)
    assert len(read_folder(tmp_path / "out")) == 5 and done.stdout.count("_seed0.png\n") == 5
    assert done.stderr.count("1 could not be made:") == 1 and "garbage.png" in done.stderr


def variables(way, rank):
    """What a cluster tells the process ``rank`` of two: one on each of two machines, or two tasks of SLURM's on one."""
    if way == "two machines":
        return {"NODE_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2}
    told = {"JOB_ID": 7, "JOB_NAME": "some", "NTASKS": 2, "NTASKS_PER_NODE": 2, "PROCID": rank, "LOCALID": rank, "NODEID": 0}
    return {f"SLURM_{name}": value for name, value in {**told, "NNODES": 1, "NODELIST": "127.0.0.1"}.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("way", "shared"), [("two machines", [1, 2]), ("SLURM", [2, 1])])
def test_processes_that_a_cluster_starts_share_a_folder_too(way, shared, forty, tmp_path):
    pytest.importorskip("pytorch_lightning")
    for path in [*sorted(forty.glob("p*.png"))[3:], *(forty / f"{name}.png" for name in ("empty", "short", "garbage"))]:
        path.unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    devices, nodes = shared
    words = ("--input-path", forty, "--num-nodes", nodes, "--device", "cpu")
    told = [{name: str(value) for name, value in {**meeting, **variables(way, rank)}.items()} for rank in range(2)]
    started = [launched(*words, out=tmp_path / "out", devices=devices, told=each) for each in told]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    made = [text.count("_seed0.png\n") for text in said]
    assert len(read_folder(tmp_path / "out")) == sum(made) == 5 and min(made) == 2
    assert sum("5 made, 0 there already" in text for text in said) == 1


FULL = """
import errno, os, sys
from PIL import Image
from taylorseer_guider.commands.sample import main
save = Image.Image.save

def filling(image, file, **options):
    if os.environ.get("LOCAL_RANK") == "1":
        raise OSError(errno.ENOSPC, "No space left on device")
    save(image, file, **options)

Image.Image.save = filling
sys.exit(main())
"""


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_process_is_one_line_of_the_first_and_the_other_finishes(forty, tmp_path):
    pytest.importorskip("pytorch_lightning")
    for path in sorted(forty.glob("p*.png"))[3:]:
        path.unlink()
    (tmp_path / "full.py").write_text(FULL)
    command = [sys.executable, tmp_path / "full.py", "--input-path", forty, *STEPS, "--out-dir", tmp_path / "out", "--devices", 2]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 2 and len(read_folder(tmp_path / "out")) == 3
    assert done.stderr.count("No space left on device") == 1 and "taylorseer-sample: --out-dir" in done.stderr


@pytest.mark.slow
def test_one_device_does_not_import_lightning_and_two_say_where_it_lacks(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    without = "import sys; sys.modules['pytorch_lightning'] = None"
    code = f"{without}; from taylorseer_guider.commands.sample import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--input-path", tmp_path / "small.png", *STEPS, "--out-dir", tmp_path / "out"]
    assert subprocess.run([str(word) for word in command]).returncode == 0
    lacking = subprocess.run([str(word) for word in [*command, "--devices", 2]], capture_output=True, text=True)
    assert lacking.returncode == 2 and lacking.stderr.count("\n") == 1
    assert "pip install 'pytorch-lightning>=2.6'" in lacking.stderr


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8])
def test_every_task_is_dealt_once_and_the_large_ones_first(count):
    pytest.importorskip("pytorch_lightning")
    from taylorseer_guider.commands.devices import Sampling

    work = SimpleNamespace(todo=[SimpleNamespace(pixels=n % 3, name=str(n)) for n in range(count)])
    dealt = []
    for rank in range(3):
        module = Sampling(None, None, object(), work)
        strategy = SimpleNamespace(broadcast=lambda work: work)
        module._trainer = SimpleNamespace(strategy=strategy, world_size=3, global_rank=rank, is_global_zero=rank == 0)
        module._fabric = None
        module.setup("predict")
        numbers = list(module.predict_dataloader())
        assert numbers
        dealt += [module.tasks[number] for number in numbers if number < count]
        sizes = [module.tasks[number].pixels for number in numbers if number < count]
        assert sizes == sorted(sizes, reverse=True)
    assert sorted(task.name for task in dealt) == sorted(task.name for task in work.todo)


def test_a_process_that_died_is_one_line(capsys):
    """Which Lightning tells its log, at a level that is not shown, before it kills the others."""
    from taylorseer_guider.commands.devices import Died

    said = "Child process with PID 7 terminated with code -9. Forcefully terminating all other processes to avoid zombies"
    Died().emit(logging.LogRecord("lightning", logging.INFO, "", 0, said, None, None))
    line = capsys.readouterr().err.strip()
    assert "a process died with code -9 (killed, perhaps for want of memory)" in line and "run the same command again" in line
