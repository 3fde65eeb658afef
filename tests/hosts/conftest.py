"""Prints what the host tests measured, in this process or in those of the hosts."""

import json

from families import FAMILIES
from runs import PLANS, PROCESSES, RESULTS

ORDER = [family.name for family in FAMILIES]


def pytest_sessionfinish(session):
    """Hands the rows over to the process that asked for them."""
    if rows := session.config.getoption("rows"):
        rows.write_text(json.dumps(RESULTS))


def pytest_terminal_summary(terminalreporter):
    """How each host's process ended; then one line a host and sampler: calls and the relative error to the full run."""
    write = terminalreporter.write_line
    if PROCESSES:
        terminalreporter.section("real hosts, each in a process of its own")
    for host, lines in sorted(PROCESSES, key=lambda process: ORDER.index(process[0])):
        for line in lines:
            write(f"{host:<11} {line}")
    if not RESULTS:
        return
    terminalreporter.section("forecasts against the full run: calls, relative error")
    columns = "".join(f"  {plan:>16}" for plan in PLANS)
    write(f"{'host':<11} {'sampler':<44} {'full':>4}{columns}")
    for host, sampler, full, found in sorted(RESULTS, key=lambda row: (ORDER.index(row[0]), row[1].lower())):
        cells = "".join(f"  {calls:>7} {error:>8.4f}" for calls, error in found)
        write(f"{host:<11} {sampler:<44} {full:>4}{cells}")
