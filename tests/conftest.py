"""What every test shares: exact arithmetic on one thread, the same random numbers in any order, and one host a process."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from families import FAMILIES

CASES = Path(__file__).parent / "hosts" / "cases"
torch.set_num_threads(1)
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_addoption(parser):
    group = parser.getgroup("hosts")
    names = [family.key for family in FAMILIES]
    group.addoption("--host", choices=names, help="run the tests of this real host, in this process, and no others")
    group.addoption("--rows", type=Path, metavar="FILE", help="with --host: write what was measured there, as JSON")


def pytest_configure(config):
    config.option.randomly_reset_seed = False  # of pytest-randomly: the order is drawn, the numbers are not


def pytest_ignore_collect(collection_path, config):
    """``--host`` runs the tests in hosts/cases, which hosts/test_hosts.py does for each host in turn; no other run has them."""
    if collection_path == CASES or collection_path.suffix == ".py":
        in_cases = collection_path.is_relative_to(CASES)
        return True if in_cases != bool(config.getoption("host")) else None
    return None


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    """Said at once, too: a run that crashes has no end."""
    reporter, seed = session.config.pluginmanager.get_plugin("terminalreporter"), session.config.getoption("randomly_seed", None)
    if reporter and seed is not None:
        reporter.write_line(f"the order of the tests: --randomly-seed={seed}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    torch.manual_seed(0)
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """How to have the same order again, where something failed."""
    seed = getattr(config.option, "randomly_seed", None)
    if exitstatus and seed is not None:
        terminalreporter.write_line(f"the same order again: --randomly-seed={seed}")


@pytest.fixture
def coarsely(monkeypatch):
    """``coarsely(part, steps)``: that part of the benchmark takes a Heun run of ``steps`` steps for the exact solution."""

    def coarse(part, steps):
        def references(workload, path, found=part.references):
            workload.exact_steps = steps
            return found(workload, path)

        monkeypatch.setattr(part, "references", references)

    return coarse
