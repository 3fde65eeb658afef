"""The one host of this process, that ``--host`` names: what the tests in this folder run on."""

import sys

import pytest

from families import FAMILIES, loaded


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked for other hosts. UsageError without a host that is at hand."""
    family = config.getoption("host")
    if family is None:
        raise pytest.UsageError(f"tests/hosts/cases runs on one host: add --host {{{','.join(f.key for f in FAMILIES)}}}")
    family = named(family)
    if not family.at_hand:
        raise pytest.UsageError(f"--host {family.key}: not at hand; {family.get}")
    if family.root and not (family.root / family.top).is_dir():
        raise pytest.UsageError(f"{family.root_variable}={family.root}: no package {family.top} there; {family.get}")
    marks = [item.get_closest_marker("host") for item in items]
    items[:] = [item for item, mark in zip(items, marks, strict=True) if mark is None or family in mark.args]


def named(key):
    """The family that ``--host`` calls ``key``."""
    return next(family for family in FAMILIES if family.key == key)


@pytest.fixture(scope="session")
def family(pytestconfig):
    """Where this process's host is from, and how its samplers are built."""
    return named(pytestconfig.getoption("host"))


@pytest.fixture(scope="session", autouse=True)
def host(family):
    """Its modules, by name."""
    yield loaded(family)
    found = {other.top for other in FAMILIES} & set(sys.modules)
    assert found == {family.top}, f"these tests have one host, and loaded {found}"
