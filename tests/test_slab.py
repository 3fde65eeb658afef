"""Large outputs on a CPU lie side by side, and nobody sees that but the clock."""

import copy
from types import SimpleNamespace

import pytest
import torch

from problems import GaussianMixture, answered, begun, sampler
from taylorseer_guider import forecast, history
from taylorseer_guider.forecast import Weights, block_means, filled, weigh, weighted_sum
from taylorseer_guider.history import History
from taylorseer_guider.memory import Memory
from taylorseer_guider.policy import Keep

SHAPE = (1, 4, 128, 128)
ONE_SIGMA = SimpleNamespace(unscale=lambda sigma: 1.0)


def take(held, keep, sigma, *branches, node=None):
    visit = SimpleNamespace(sigma=sigma, asked=None, step=None, node=node)
    held.take(visit, torch.zeros(SHAPE), branches, keep, ONE_SIGMA)


def outputs(count, **kind):
    return [torch.full(SHAPE, float(n), **kind) for n in range(count)]


@pytest.mark.parametrize("branches", [1, 2])
def test_the_newest_outputs_are_held_newest_first_however_often_the_slab_has_gone_round(branches):
    held, keep = History(3), Keep(count=3, branches=branches)
    for n in range(8):
        take(held, keep, 10.0 - n, *(torch.full(SHAPE, n + b / 2) for b in range(branches)))
        expected = [m + b / 2 for m in range(n, max(n - 3, -1), -1) for b in range(branches)]
        assert [float(tensor.mean()) for tensor in held.branches] == expected
        assert len({tensor.untyped_storage().data_ptr() for tensor in held.branches}) == 1
        weights = Weights(0.5, tuple(range(1, len(expected) + 1)), (), 0, 1.0)
        wanted = 0.5 + sum(weight * value for weight, value in zip(weights.outputs, expected, strict=True))
        assert torch.allclose(held.weighted(weights, torch.ones(SHAPE)), torch.full(SHAPE, wanted))


def test_a_newer_output_of_a_node_takes_the_place_of_the_older_and_of_no_other():
    held, keep = History(3), Keep(count=3)
    for node, output in zip((0, 1, 2, 2, 1, 3), outputs(6), strict=True):
        take(held, keep, 10.0 - node, output, node=node)
    assert [(one.node, float(one.branches[0].mean())) for one in held] == [(3, 5.0), (1, 4.0), (2, 3.0)]


def test_what_compares_a_new_output_sees_all_of_the_history_before_it():
    seen = []

    def compare(sigma, value, output, past):
        seen.append([float(tensor.mean()) for tensor in (value, *past.branches)])

    held = History(2)
    for n, output in enumerate(outputs(5)):
        take(held, Keep(count=2, compare=compare), 10.0 - n, output)
    assert seen == [[0], [1, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2]]


@pytest.mark.parametrize(
    ("shape", "dtype", "keep"),
    [
        ((1, 4, 8, 8), torch.float32, Keep(count=2)),  # small
        (SHAPE, torch.bfloat16, Keep(count=2)),
        (SHAPE, torch.float32, Keep(count=2, dtype=torch.float16)),
    ],
)
def test_what_a_product_would_not_serve_is_held_apart(shape, dtype, keep):
    held = History(2)
    for n in range(3):
        visit = SimpleNamespace(sigma=9.0 - n, asked=None, step=None, node=None)
        held.take(visit, torch.zeros(shape), [torch.full(shape, float(n), dtype=dtype)], keep, ONE_SIGMA)
    assert held._slab is None and [float(tensor.mean()) for tensor in held.branches] == [2.0, 1.0]
    assert len({tensor.untyped_storage().data_ptr() for tensor in held.branches}) == 2


def test_an_output_of_another_dtype_in_mid_run_leaves_the_others_as_they_are():
    held, keep = History(2), Keep(count=2)
    take(held, keep, 3.0, torch.full(SHAPE, 1.0))
    take(held, keep, 2.0, torch.full(SHAPE, 2.0, dtype=torch.float64))
    assert [float(tensor.mean()) for tensor in held.branches] == [2.0, 1.0]
    answer = held.weighted(Weights(0.0, (2.0, -1.0), (), 1, 3.0), torch.ones(SHAPE))
    assert answer.dtype == torch.float64 and torch.equal(answer, torch.full(SHAPE, 3.0, dtype=torch.float64))


def test_a_slab_serves_visits_inside_and_outside_of_inference_mode():
    held = History(2)
    for n, output in enumerate(outputs(4)):
        with torch.inference_mode(n % 2 == 0):
            take(held, Keep(count=2), 9.0 - n, output)
    assert [float(tensor.mean()) for tensor in held.branches] == [3.0, 2.0]


def test_a_run_holds_what_its_report_says_hands_out_none_of_it_and_gives_it_back():
    guider = sampler("EulerEDMSampler", scale=0, interval=2, forecast={"quantity": "denoised"}).guider
    run = begun(guider, *[float(sigma) for sigma in range(9, -1, -1)])
    x, kept = torch.randn(SHAPE), []
    for sigma in range(9, 0, -1):
        answer = answered(guider, x, float(sigma))
        kept.append((answer, copy.deepcopy(answer)))
    slab = run.history._slab.untyped_storage().data_ptr()
    assert all(torch.equal(answer, before) and answer.untyped_storage().data_ptr() != slab for answer, before in kept)
    assert run.report.peak_bytes == run.history._slab.numel() * 4 == 2 * x.numel() * 4
    run.end()
    assert run.history._slab is None and not len(run.history)


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_x", [True, False])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [2, 0, 1], [4, 2, 0], [4, 1, 0]])
def test_the_product_and_the_chain_of_additions_give_one_sum(rows, with_x, dtype, precision, monkeypatch):
    """Whatever precision a host allows matrix products, which is for its network."""
    slab, x = torch.randn(5, 300, 1000, dtype=dtype), torch.randn(300, 1000, dtype=dtype)
    tensors = [x] * with_x + [slab[row] for row in rows]
    weights = [0.5, 1.5, -2.0, 0.25, 0.125][: len(tensors)]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = weighted_sum(weights, tensors)
    finally:
        torch.set_float32_matmul_precision(before)
    monkeypatch.setattr(forecast, "LARGE", 1 << 40)
    torch.testing.assert_close(found, weighted_sum(weights, tensors), rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def test_tensors_of_other_memory_or_overlapping_ones_are_no_columns_of_a_matrix():
    slab = torch.randn(3, 1 << 17)
    assert forecast._matrix(list(slab.bfloat16()), torch.bfloat16) is None
    assert forecast._matrix([slab[0], slab[1]], torch.float32)[1] == [0, 1]
    assert forecast._matrix([slab[0], slab[1].clone()], torch.float32) is None
    assert forecast._matrix([slab[0], slab[0]], torch.float32) is None
    assert forecast._matrix([slab[0], slab.view(-1)[5 : 5 + (1 << 17)]], torch.float32) is None
    assert forecast._matrix(list(slab.T.reshape(2, -1, 3).transpose(0, 2)[:, 0, :]), torch.float32) is None


@pytest.mark.parametrize("shape", [(2, 3, 520, 516), (3, 1, 400, 1026), (1, 3, 602, 700), (1, 3, 1024, 500)])
@pytest.mark.parametrize("together", [True, False])
def test_an_answer_with_block_means_is_the_whole_sum_whether_or_not_outputs_lie_side_by_side(shape, together):
    x, *held = torch.randn(4, *shape)
    held = held if together else [value.clone() for value in held]
    weights, totals = Weights(0.5, (1.5, -2.0, 0.25), (0.1, -0.3, 0.7, 0.2), 2, 3.75), []
    means = [block_means(value) for value in held]
    found = weigh(weights, x.transpose(-1, -2).contiguous().transpose(-1, -2), held, means, torch.float32, None, totals)
    wide = [filled(block_means(value), shape) for value in (x, *held)]
    terms = zip((0.5, *weights.outputs, *weights.means), (x, *held, *wide), strict=True)
    torch.testing.assert_close(found, sum(weight * term for weight, term in terms), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sum(totals), found.sum(), rtol=1e-3, atol=1e-1)


def test_runs_with_a_slab_and_without_one_agree(monkeypatch):
    def sampled():
        problem = GaussianMixture()
        x, cond, uc = problem.inputs()
        built = sampler("HeunEDMSampler", interval=3)
        return built(problem, x, cond, uc)

    monkeypatch.setattr(history, "LARGE", 1)
    monkeypatch.setattr(forecast, "LARGE", 1)
    used = sampled()
    monkeypatch.undo()
    torch.testing.assert_close(used, sampled(), rtol=1e-5, atol=1e-5)


def test_memory_for_an_answer_is_never_that_of_a_slab():
    held = History(1)
    take(held, Keep(count=1), 2.0, torch.ones(SHAPE))
    answer = held.weighted(Weights(0.0, (1.0,), (), 0, 1.0), torch.ones(SHAPE))
    answer.fill_(7)
    assert torch.equal(held.branches[0], torch.ones(SHAPE)) and isinstance(held._memory, Memory)
