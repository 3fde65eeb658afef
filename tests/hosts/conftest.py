"""Prints what the host tests measured."""

from runs import INTERVALS, RESULTS


def pytest_terminal_summary(terminalreporter):
    """One line a host and sampler: calls and the relative error to the full run."""
    if not RESULTS:
        return
    terminalreporter.section("forecasts against the full run: calls, relative error")
    columns = "".join(f"  {'interval ' + str(interval):>16}" for interval in INTERVALS)
    terminalreporter.write_line(f"{'host':<11} {'sampler':<44} {'full':>4}{columns}")
    for host, sampler, full, found in RESULTS:
        cells = "".join(f"  {calls:>7} {error:>8.4f}" for calls, error in found.values())
        terminalreporter.write_line(f"{host:<11} {sampler:<44} {full:>4}{cells}")
