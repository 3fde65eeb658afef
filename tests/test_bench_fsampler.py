"""FSampler: how often it calls, that it changes nothing where it skips nothing, and that it is the published code."""

import math
import os
import sys

import pytest
import torch

from bench.peers import fsampler, solvers
from bench.workloads import mixture

EULER = solvers.standalone("EulerEDMSampler")
OPTIONS = [
    {},
    {"sigma_aware": False},
    {"denoised": False},
    {"sigma_aware": False, "denoised": False, "smoothing": 0.9},
    {"anchor": 0},
    {"learning": False, "first": 3, "last": 1, "streak": 2},
]


@pytest.fixture
def workload():
    return mixture.held_out(2.5, 2)


def run(workload, solve, *mode, **settings):
    workload.calls = 0
    return solve(workload.denoise, workload.noise, workload.sigmas(), *mode, **settings), workload.calls


@pytest.mark.parametrize(("mode", "calls"), [("h4/s4", 18), ("h3/s3", 17), ("h2/s2", 15), ("h2/s5", 18)])
def test_a_cadence_skips_one_node_after_so_many(mode, calls, workload):
    for solve in (EULER, fsampler.heun, solvers.standalone("DPMPP2MSampler")):
        assert run(workload, fsampler.on(solve), mode)[1] == calls


@pytest.mark.parametrize("solve", [EULER, fsampler.heun])
def test_nothing_changes_where_all_nodes_are_protected(solve, workload):
    plain, _ = run(workload, solve)
    guarded, calls = run(workload, fsampler.on(solve), "adaptive", first=20)
    assert calls == 20 and torch.equal(plain, guarded)


@pytest.mark.parametrize(("spread", "calls"), [(0, 8), (100, 20)])
def test_the_gate_lets_through_what_agrees_and_stops_what_does_not(spread, calls):
    """Where all outputs are one, every node is foretold that may be; where they are noise, none is."""
    sigmas, asked = torch.cat([torch.linspace(10, 1, 20), torch.zeros(1)]), []
    outputs = spread * torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    skipping = fsampler.FSampler(lambda x, sigma: asked.append(sigma) or outputs[len(asked) - 1], sigmas, "adaptive", anchor=0)
    for sigma in sigmas[:-1]:
        skipping(torch.ones(4), sigma)
    assert len(asked) == calls


@pytest.mark.parametrize("order", [2, 3, 4])
def test_extrapolation_is_exact_on_polynomials_of_sigma(order):
    sigmas = torch.tensor([9.0, 5.0, 4.0, 2.0, 1.0, 0.0])
    polynomial = lambda sigma: torch.ones(2) * (sigma ** (order - 1) - 3 * sigma)  # noqa: E731
    skipping = fsampler.FSampler(lambda x, sigma: polynomial(sigma), sigmas, f"h{order}/s{order}", first=9)
    for sigma in sigmas[:4]:
        skipping(torch.ones(2), sigma)
    assert torch.allclose(skipping.extrapolate(order, torch.ones(2)) + 1, polynomial(1.0), atol=1e-4)


def test_even_weights_are_binomial():
    assert fsampler.lagrange(range(4), 4) == [-math.comb(4, 0), math.comb(4, 1), -math.comb(4, 2), math.comb(4, 3)]


def test_its_settings_cover_eight_calls_to_eighteen(workload):
    calls = [run(workload, solve)[1] for label, _, solve in fsampler.methods() if label == "FSampler"]
    assert min(calls) <= 9 and max(calls) == 18 and len(set(calls)) >= 5


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", ["h2/s2", "h3/s3", "h4/s4", "adaptive"])
def test_it_is_the_published_code(mode, options, workload):
    """Under its Euler, where both integrate alike."""
    if "FSAMPLER_ROOT" not in os.environ:
        pytest.skip("FSAMPLER_ROOT names no checkout of github.com/obisin/ComfyUI-FSampler")
    theirs, their_calls = run(workload, fsampler.published(os.environ["FSAMPLER_ROOT"]), mode, **options)
    ours, calls = run(workload, fsampler.on(EULER), mode, **options)
    assert calls == their_calls
    assert (ours - theirs).norm() < 1e-6 * theirs.norm()
    assert "comfy" not in sys.modules
