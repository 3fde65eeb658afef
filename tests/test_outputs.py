"""The outputs of a run, visit by visit, against those of the full run."""

from types import SimpleNamespace

import pytest
import torch

from problems import SAMPLERS, GaussianMixture, sampler
from taylorseer_guider.commands.outputs import ELEMENTS, recorded, some, visit_errors


def run(built, problem):
    with recorded(built) as (outputs,):
        x = built(problem, *problem.inputs())
    return x, outputs


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_visit_is_recorded_and_the_run_is_what_it_would_be(name):
    problem, built = GaussianMixture(), sampler(name, scale=2.0, interval=2)
    x, outputs = run(built, problem)
    assert len(outputs) == len(built.guider.report.visits)
    assert torch.equal(x, sampler(name, scale=2.0, interval=2)(problem, *problem.inputs()))
    assert "denoise" not in vars(built)


def test_a_full_run_is_off_by_nothing_and_forecasts_by_more_the_fewer_calls_there_are():
    problem = GaussianMixture()
    outputs = {calls: run(sampler("HeunEDMSampler", scale=1.0, calls=calls), problem)[1] for calls in (5, 10)}
    _, full = run(sampler("HeunEDMSampler", scale=1.0, use_cache=False), problem)
    assert visit_errors(full, full, 2.0) == [0.0] * 39
    errors = {calls: visit_errors(found, full, 2.0) for calls, found in outputs.items()}
    assert errors[5][0] == errors[10][0] == 0 and sum(errors[5]) > sum(errors[10]) > 0


def test_an_error_is_a_root_mean_square_in_fractions_of_the_range():
    outputs = [torch.tensor([1.0, 1.0, 1.0, 5.0])]
    assert visit_errors(outputs, [torch.ones(4)], peak=8.0) == [0.25]
    assert visit_errors(outputs, outputs * 2, peak=8.0) is None


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 3, 300, 500)])
def test_a_large_output_is_recorded_in_part_spread_over_all_of_it(shape):
    output = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    chosen = some(output)
    assert len(chosen) == output.numel() if output.numel() <= ELEMENTS else ELEMENTS / 2 < len(chosen) <= ELEMENTS
    assert chosen[0] == 0 and chosen[-1] > 0.99 * (output.numel() - 1) and (chosen.diff() == chosen[1]).all()


def test_nothing_is_recorded_of_a_sampler_that_asks_in_its_own_way_or_where_nobody_wants_it():
    problem, built = GaussianMixture(), sampler("EulerEDMSampler")
    with recorded(SimpleNamespace()) as (outputs,), recorded(built, when=False) as (others,):
        built(problem, *problem.inputs())
    assert outputs == others == [] and visit_errors(outputs, others, 2.0) is None
