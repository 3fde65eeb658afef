"""scripts/method.py: errors grow as the remainder term says, where it holds; the pictures show real outputs."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import method
from explain import runs, slopes

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def errors():
    return slopes.measure(runs.mixture())


@pytest.fixture(scope="module")
def crop():
    return runs.embedded(size=24)


@pytest.fixture(scope="module")
def run(crop):
    return runs.foretold(crop, {"interval": 3, "forecast": {"quantity": "denoised", "coordinate": "rho"}})


@pytest.mark.parametrize("order", slopes.ORDERS)
def test_the_error_grows_with_the_power_that_the_remainder_term_names(errors, order):
    assert errors[order].slope(*slopes.SMALL) == pytest.approx(order + 1, abs=0.1)


def test_the_remainder_term_names_the_error_itself_at_small_gaps(errors):
    for row in errors:
        for gap, error in zip(row.gaps, row.errors, strict=True):
            assert gap > slopes.SMALL[1] or error == pytest.approx(row.remainder(gap), rel=0.1)


def test_a_higher_order_is_nearer_at_small_gaps_and_further_at_large_ones(errors):
    smallest, largest = ([row.errors[i] for row in errors] for i in (0, -1))
    assert smallest == sorted(smallest, reverse=True)
    assert largest[1:] == sorted(largest[1:])


def test_a_slope_is_that_of_a_power():
    gaps = (0.5, 1.0, 2.0, 4.0)
    row = slopes.Errors(2, gaps, tuple(3 * gap**2.5 for gap in gaps))
    assert row.slope(0.5, 4) == pytest.approx(2.5) and row.remainder(1.0) == pytest.approx(8 * row.errors[0])


def test_a_run_shows_what_the_network_says_where_it_is_called_and_would_say_elsewhere(run):
    nodes, report = run
    assert (report.calls, report.forecasts) == (7, 13) and [n.called for n in nodes] == [i % 3 == 0 for i in range(20)]
    for node in nodes:
        miss = float((node.got - node.truth).norm() / node.truth.norm())
        assert miss < 1e-3 if node.called else miss > 1e-3


def test_a_forecast_goes_on_in_a_straight_line_along_sigma_to_the_seventh_root(run):
    nodes, _ = run
    a, b, called = ((nodes[i].sigma ** (1 / 7), nodes[i].got) for i in (10, 11, 9))
    slope, before = (b[1] - a[1]) / (b[0] - a[0]), (a[1] - called[1]) / (a[0] - called[0])
    assert float((slope - before).norm() / before.norm()) < 1e-3


def test_pixels_are_those_that_change_and_end_apart(crop, run):
    values = runs.pixels(crop, run[0], count=2)
    ends = [truth[-1] for _, truth in values]
    assert len(ends) == 2 and abs(ends[0] - ends[1]) > runs.APART
    assert all(len(got) == len(truth) == 20 and min(truth) >= 0 and max(truth) <= 255 for got, truth in values)


@pytest.mark.slow
def test_the_command_writes_two_small_pictures_and_says_the_slopes(tmp_path, capsys):
    assert method.main(["--forecast", str(tmp_path / "f.png"), "--error", str(tmp_path / "new" / "e.png"), "--size", "24"]) == 0
    said = capsys.readouterr().out
    assert "7 calls, 13 forecasts" in said and "embedded model" in said
    for name in ("f.png", "new/e.png"):
        assert (tmp_path / name).stat().st_size < 120_000 and Image.open(tmp_path / name).width >= 1600


def test_help_does_not_load_torch():
    code = "import sys, method; method.parse([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS).returncode == 0


def test_euler_with_held_outputs_is_euler_on_the_called_nodes_alone():
    subject, held = runs.mixture(), runs.euler(20, {"interval": 4, "max_order": 0, "quantity": "denoised"})
    fewer = runs.euler(20, runs.EXACT)
    sigmas = fewer.discretization(20)
    fewer.discretization = lambda n, device: sigmas[::4]
    ends = [sampler(subject.denoiser, subject.noise.clone(), subject.cond) for sampler in (held, fewer)]
    assert held.guider.report.calls == fewer.guider.report.calls == 5
    assert float((ends[0] - ends[1]).norm() / ends[1].norm()) < 1e-12
