"""The tests in ``cases``, for each real host in a process of its own: several packages are called ``sgm``."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from families import FAMILIES
from runs import PROCESSES, RESULTS

HERE = Path(__file__).parent


def passed_on(config):
    """What holds for a host's process as for this one: which marks are asked for, and the order."""
    marks = ["-m", config.option.markexpr] if config.option.markexpr else []
    seed = getattr(config.option, "randomly_seed", None)
    return [*marks, *(["-p", "no:randomly"] if seed is None else [f"--randomly-seed={seed}"])]


def skipped(output):
    """How many tests a process left out, for each reason."""
    found = Counter()
    for count, reason in re.findall(r"(?m)^SKIPPED \[(\d+)\] \S+: (.*)$", output):
        found[reason] += int(count)
    return [f"{count} skipped: {reason}" for reason, count in found.items()]


@pytest.mark.host(*FAMILIES)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.key)
def test_host(family, pytestconfig, tmp_path):
    """All that the host's own process says is what this test fails with."""
    if not family.at_hand:
        pytest.skip(f"{family.name}: {family.get}")
    rows = tmp_path / "rows.json"
    own = ["-q", "-rs", "-p", "no:cacheprovider", "--host", family.key, "--rows", rows, HERE / "cases"]
    command = [sys.executable, "-m", "pytest", *own, *passed_on(pytestconfig)]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    PROCESSES.append((family.name, [*done.stdout.splitlines()[-1:], *skipped(done.stdout)]))
    if done.returncode:
        pytest.fail(f"python {' '.join(map(str, command[1:]))}\n{done.stdout}{done.stderr}", pytrace=False)
    RESULTS.extend(json.loads(rows.read_text()))
