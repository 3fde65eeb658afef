"""Spectrum: what it fits exactly, which nodes it calls, and that it is what its authors published."""

import os
import sys
from pathlib import Path

import pytest
import torch

from bench.peers import forecasts
from bench.peers.fitted import evenly
from bench.peers.spectrum import Spectrum, methods, plan, sequence
from bench.workloads import mixture


def fed(forecaster, nodes, outputs):
    for node in nodes:
        forecaster.update(node, None, outputs(node))
    return forecaster


def drawn(count, seed=0):
    values = torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(seed))
    return values.__getitem__


def test_polynomials_of_its_degree_are_forecast_exactly_where_nothing_is_shrunk():
    cubic = lambda node: torch.tensor([1.0, 2.0]) + 0.1 * node**3 - node  # noqa: E731
    exact = fed(Spectrum(20, degree=3, ridge=1e-12), (0, 2, 3, 7, 9), cubic)
    assert torch.allclose(exact.predict(12, None), cubic(12), rtol=1e-4)
    assert not torch.allclose(
        fed(Spectrum(20, degree=2, ridge=1e-12), (0, 2, 3, 7, 9), cubic).predict(12, None), cubic(12), rtol=0.1
    )


def test_the_ridge_shrinks_towards_zero():
    flat = lambda node: torch.ones(2)  # noqa: E731
    shrunk = [fed(Spectrum(20, ridge=ridge), range(4), flat).predict(4, None)[0] for ridge in (1e-9, 0.1, 10)]
    assert abs(shrunk[0] - 1) < 1e-3 and shrunk[0] > shrunk[1] > shrunk[2] > 0


def test_a_share_of_nothing_is_the_line_through_the_newest_two():
    line = fed(Spectrum(20, share=0.0), (0, 1, 4), lambda node: torch.tensor(float(node == 1) + 5.0 * (node == 4)))
    assert line.predict(7, None) == pytest.approx(9)


def test_one_output_is_enough_to_begin_with():
    assert fed(Spectrum(20, share=0.0), (0,), lambda node: torch.ones(1)).predict(1, None) == 1


def test_it_calls_as_often_as_the_paper_says():
    assert len(sequence(50, 5, 2, 0.75)) == 14
    assert len(sequence(50, 5, 2, 3.0)) == 10


@pytest.mark.parametrize("budget", range(2, 21))
def test_a_plan_has_its_budget_and_grows_its_gaps(budget):
    nodes = plan(budget, 20)
    gaps = [after - before for before, after in zip(nodes, nodes[1:], strict=False)]
    assert len(set(nodes)) == budget and nodes[0] == 0 and nodes[-1] < 20
    assert gaps == sorted(gaps)


def test_a_plan_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="budget is 21"):
        plan(21, 20)


@pytest.mark.parametrize("nodes", [plan(8, 20), evenly(8, 20), range(20)])
def test_it_costs_its_plan_in_a_run(nodes):
    workload = mixture.held_out(2.0, 2)
    x = forecasts.heun(workload.denoise, workload.noise, workload.sigmas(), set(nodes).__contains__, Spectrum(20))
    assert workload.calls == len(nodes) and x.isfinite().all()
    if len(nodes) == 20:
        everything = forecasts.heun(workload.denoise, workload.noise, workload.sigmas(), lambda node: True, forecasts.Reuse())
        assert torch.equal(x, everything)


def test_its_rows_call_their_budget_each_with_a_forecaster_of_its_own():
    rows = methods(8, 20)
    assert len({label for label, _, _ in rows}) == len(rows) == 4
    for _, called, make in rows:
        assert len(called) == 8 and make() is not make() and make().nodes == 20


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_its_numbers_are_those_of_the_published_code(share, monkeypatch):
    """In single precision and at 50 steps, which that code has written into it."""
    if "SPECTRUM_ROOT" not in os.environ:
        pytest.skip("SPECTRUM_ROOT names no checkout of github.com/hanjq17/Spectrum")
    monkeypatch.syspath_prepend(str(Path(os.environ["SPECTRUM_ROOT"], "src", "utils")))
    import basis_utils

    monkeypatch.delitem(sys.modules, "basis_utils")
    monkeypatch.setattr(basis_utils, "DTYPE", torch.float32)
    theirs = basis_utils.Spectrum(basis_utils.ChebyshevForecaster(M=4, K=100, lam=0.1), taylor_order=1, w=share)
    ours, outputs = Spectrum(50, share=share), drawn(50)
    for node in range(50):
        if node in sequence(50):
            theirs.update(torch.tensor(float(node)), outputs(node).flatten())
            ours.update(node, None, outputs(node))
        else:
            assert torch.allclose(theirs.predict(node).reshape(2, 3), ours.predict(node, None), rtol=1e-4, atol=1e-4)
