"""scripts/bench: features inside a network, cached and forecast, are what TaylorSeer says they are, and leave nothing behind."""

from functools import partial

import pytest
import torch

from bench import costs, memory
from bench.peers import features, hooks
from bench.peers.solvers import standalone
from bench.workloads import embedded

KINDS = [hooks.OwnHooks, hooks.DiffusersHooks]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.package)
def kind(request):
    if request.param is hooks.DiffusersHooks:
        pytest.importorskip("diffusers.hooks.taylorseer_cache")
    return request.param


class Scaled(torch.nn.Module):
    """x times a weight: with x = step^n its output is that power of the step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0, -3.0], dtype=torch.float64), requires_grad=False)

    def forward(self, x):
        return x * self.weight


def short(workload, steps=3):
    """The workload on few nodes, so that a run takes no time."""
    workload.sigmas = lambda count=steps: type(workload).sigmas(workload, count)
    return workload


def tiny(scale=1.0):
    workload = embedded.held_out(scale, 1, 16)
    return workload, embedded.tiny.load_network()


def run_on(workload, network, budget, order=1, **options):
    """(x, Run) with features of ``network``, which samples ``workload``."""
    denoiser = partial(embedded.edm_denoiser(), network)
    run = features.on_modules(workload, denoiser, features.blocks(network), budget, order, **options)
    return run(), run


@pytest.mark.parametrize("order", [1, 2])
def test_a_feature_that_is_linear_in_the_step_is_forecast_exactly(kind, order):
    module, steps = Scaled(), {1: (0, 3), 2: (0, 1, 2)}[order]
    with kind([module], order) as held:
        for step in steps:
            held.at(step, full=True)
            module(torch.tensor(5.0 + step, dtype=torch.float64))
        held.at(7, full=False)
        assert torch.allclose(module(torch.tensor(float("nan"))), 12.0 * module.weight, atol=1e-12)
        assert len(held.factors()) == order + 1
        assert held.bytes() == (order + 1) * 2 * 8


def test_both_hooks_are_one_recurrence_on_uneven_gaps():
    pytest.importorskip("diffusers.hooks.taylorseer_cache")
    answers = []
    for kind in KINDS:
        module = Scaled()
        with kind([module], 2) as held:
            for step in (0, 1, 4, 9):
                held.at(step, full=True)
                module(torch.tensor(float(step**3), dtype=torch.float64))
            held.at(11, full=False)
            answers.append(module(torch.tensor(0.0)))
    assert torch.allclose(*answers, atol=1e-10)
    d = [(729 - 64) / 5, (64 - 1) / 3]  # differences, each over the newest gap
    assert answers[0][0] == pytest.approx(2 * (729 + 2 * d[0] + 2**2 / 2 * (d[0] - d[1]) / 5))


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_run_of_full_passes_alone_is_bit_equal_to_the_plain_one(kind, scale):
    workload, network = tiny(scale)
    with torch.no_grad():
        plain = standalone("HeunEDMSampler")(workload.denoise, workload.noise, short(workload).sigmas())
    made, run = run_on(workload, network, 5, reading="visits", hooks=kind)
    assert torch.equal(made, plain) and (run.full, run.passes) == (5, 5)


def test_nothing_is_left_in_the_network_after_a_run(kind):
    workload, network = tiny()
    modules = {name: set(vars(module)) for name, module in network.named_modules()}
    x, sigma = workload.noise, torch.ones(1)
    with torch.no_grad():
        before = network(x, sigma, workload.cond)
        run_on(short(workload), network, 2, hooks=kind)
        assert torch.equal(network(x, sigma, workload.cond), before)
    assert {name: set(vars(module)) for name, module in network.named_modules()} == modules


def test_nothing_is_left_where_a_run_ends_in_an_error(kind):
    module = Scaled()
    with pytest.raises(KeyError), kind([module], 1):
        raise KeyError
    assert not {"forward", "_diffusers_hook"} & vars(module).keys()
    assert torch.equal(module(torch.tensor(2.0)), 2 * module.weight)


@pytest.mark.parametrize(
    ("solver", "reading", "budget", "passes"),
    [
        ("Heun", "once", 2, 4),
        ("Heun", "nodes", 2, 7),
        ("Heun", "visits", 3, 7),
        ("Euler", "once", 2, 4),
        ("DPM++2M", "once", 3, 4),
    ],
)
def test_full_passes_are_counted_apart_from_all_passes(solver, reading, budget, passes):
    workload, network = tiny()
    forwards = []
    network.middle[3].feed_forward.register_forward_pre_hook(lambda *given: forwards.append("asked"))
    network.middle[3].feed_forward.up.register_forward_pre_hook(lambda *given: forwards.append("ran"))
    _, run = run_on(short(workload, 4), network, budget, solver=solver, reading=reading)
    assert (run.full, run.passes) == (budget, passes)
    assert forwards.count("asked") == passes and forwards.count("ran") == budget
    assert workload.calls == workload.branches == budget


def test_a_run_begun_on_the_embedded_workload_has_a_network_of_its_own_and_counts_full_passes():
    workload, _ = tiny(2.5)
    denoiser = workload.denoiser
    run = features.begin(short(workload, 4), 2, 2)
    x = run()
    assert torch.equal(run(), x)
    workload.calls, workload.branches = workload.calls / 2, workload.branches / 2  # of two runs
    assert x.shape == workload.noise.shape and x.isfinite().all()
    assert workload.calls == run.full == 2 and workload.branches == 4 and workload.seconds > 0
    assert workload.denoiser is denoiser is not run.denoiser


def test_a_higher_order_holds_more():
    workload, network = tiny()
    held = [run_on(short(workload, 4), network, 3, order=order)[1].peak_bytes for order in (1, 2)]
    pixels = 16 * 16
    outputs = 8 * 64 * pixels // 4 + 12 * 192 * pixels // 16  # values that mixers and feed-forwards give
    assert held[0] > 2 * 4 * outputs  # an attention's output is a part of whole blocks, which stay in memory with it
    assert held[1] - held[0] == 4 * outputs


def test_another_reading_is_refused():
    with pytest.raises(ValueError, match="reading='twice': choose one of once, nodes, visits"):
        features.Passes(None, [], [0], "twice")


def test_beside_a_run_stand_the_best_of_as_many_calls_and_of_no_more_seconds():
    ours = [
        dict(zip(("calls", "seconds", "dB"), row, strict=True)) for row in ((5, 1, 30), (5, 1.2, 31), (8, 2, 40), (13, 4, 50))
    ]
    rows = [{"calls": 5, "seconds": 2.0, "dB": 35}, {"calls": 8, "seconds": 0.5, "dB": 36}, {"calls": 6, "seconds": 9, "dB": 1}]
    found = costs.beside(rows, ours)
    assert [row for row, _, _ in found] == rows
    assert [same for _, same, _ in found] == [ours[1], ours[2], None]
    assert [quick for _, _, quick in found] == [ours[2], None, ours[3]]


def hold(mebibytes):
    """For a process of its own: what it takes to hold ``mebibytes`` and to give them back."""
    with memory.high_water() as found:
        torch.ones(mebibytes * memory.MIB // 4).sum()
    return found


@pytest.mark.slow
def test_a_fresh_process_tells_what_a_run_has_held_at_most():
    large, small = (memory.in_fresh_process("test_bench_features:hold", mebibytes=size) for size in (200, 1))
    assert large["peak_MiB"] - large["before_MiB"] == pytest.approx(200, abs=20)
    assert small["peak_MiB"] - small["before_MiB"] < 20


@pytest.mark.slow
def test_what_went_wrong_in_a_fresh_process_is_said():
    with pytest.raises(RuntimeError, match=r"test_bench_features:hold: its process ended with 1 \(.*mebibyte"):
        memory.in_fresh_process("test_bench_features:hold")


def test_what_is_measured_is_the_full_run_and_both_forms_at_each_budget():
    assert [tuple(form.values()) for form in costs.forms([5, 8])] == [
        ("full run",), ("outputs", 5), ("features", 5, 1), ("features", 5, 2),
        ("outputs", 8), ("features", 8, 1), ("features", 8, 2),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_row_of_memory_tells_calls_passes_and_bytes_held():
    batch = {"scale": 1.0, "count": 1, "size": 16}
    outputs = costs.measure_one("outputs", 2, **batch)
    held = costs.measure_one("features", 2, 1, **batch)
    assert (outputs["calls"], outputs["passes"]) == (2, 2) and (held["calls"], held["passes"]) == (2, 20)
    assert 0 < outputs["held_MiB"] < held["held_MiB"] < 2
    assert all(row["peak_MiB"] >= row["before_MiB"] > 50 and row["seconds"] > 0 for row in (outputs, held))
