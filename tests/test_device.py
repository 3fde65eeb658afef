"""What a GPU does to a run, imitated on a CPU: queued work that nobody should wait for, and buffers that are written again."""

import pytest
import torch

from problems import EXACT, IDENTITY, SAMPLERS, VANILLA, GaussianMixture, sample, sampler
from queued import Queue
from taylorseer_guider.standalone.config import append_dims
from taylorseer_guider.standalone.sampling import to_d

MODES = {
    "off": {"use_cache": False},
    "exact": EXACT,
    "reuse": {"interval": 3},
    "compute": {"interval": 2, "repeat_visits": "compute"},
    "later": {"interval": 2, "repeat_visits": "later"},
}


class Careless:
    """A denoiser that spoils its input once it has used it, gives the same buffer every time, or its input, overwritten."""

    def __init__(self, problem, fault):
        self.problem, self.fault, self.buffers = problem, fault, {}

    def __call__(self, x, sigma, cond):
        output = self.problem(x, sigma, cond)
        if self.fault == "its input":
            return x.copy_(output)
        if self.fault == "spoils":
            x.fill_(torch.nan)
            return output
        return self.buffers.setdefault(output.shape, torch.empty_like(output)).copy_(output)


@pytest.mark.parametrize("fault", ["spoils", "same buffer", "its input"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_denoiser_that_writes_where_it_should_not_changes_nothing(name, scale, mode, fault):
    problem = GaussianMixture()
    careful, _ = sample(name, problem, scale=scale, **MODES[mode])
    found = sampler(name, scale=scale, **MODES[mode])(Careless(problem, fault), *problem.inputs())
    assert torch.equal(found, careful)


@pytest.mark.parametrize("fault", ["spoils", "same buffer", "its input"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_nor_does_it_where_a_guider_of_one_branch_is_wrapped_by_name(name, fault):
    problem, wrapped = GaussianMixture(), {"target": IDENTITY, "params": {}}
    careful, _ = sample(name, problem, guider_config=wrapped)
    found = sampler(name, guider_config=wrapped)(Careless(problem, fault), *problem.inputs())
    assert torch.equal(found, careful)


def visits(built, heun, denoiser, x, s_in, sigmas, cond, uc, moment):
    """Euler's or Heun's loop through the sampler's ``denoise``; asks nothing of the device itself. Returns x."""
    steps = len(sigmas) - 1
    for i in built.get_sigma_gen(steps + 1):
        moment(steps - 1 - i)
        sigma, after = s_in * sigmas[i], s_in * sigmas[i + 1]
        d = to_d(x, sigma, built.denoise(x, denoiser, sigma, cond, uc))
        dt = append_dims(after - sigma, x.ndim)
        if not heun or i == steps - 1:
            x = x + d * dt
        else:
            euler = x + d * dt
            moment(steps - 1 - i)
            x = x + (d + to_d(euler, after, built.denoise(euler, denoiser, after, cond, uc))) / 2 * dt
    return x


def smooth(x, sigma, cond):
    """A denoiser that is one formula, whatever device it is on."""
    share = append_dims(1 / (1 + sigma**2), x.ndim)
    return share * x + (1 - share) * torch.tanh(cond["vector"] + 0.5 * x)


def seeded():
    """``x, cond, uc`` for ``smooth``."""
    rng = torch.Generator().manual_seed(3)
    x, lean = (torch.randn(2, 6, generator=rng) for _ in range(2))
    return x, {"vector": lean}, {"vector": 0 * lean}


def queued_run(name, denoiser, queue, **options):
    """The run of ``visits`` with everything but the schedule in ``queue``. Returns x on the CPU and the guider."""
    built = sampler(name, **options)
    x, s_in, sigmas, _, cond, uc = built.prepare_sampling_loop(*seeded())
    cond, uc = ({"vector": queue.put(c["vector"])} for c in (cond, uc))
    with queue:
        x = visits(built, name.startswith("Heun"), denoiser, queue.put(x), queue.put(s_in), sigmas, cond, uc, queue.visit)
    return queue.get(x), built.guider


@pytest.mark.parametrize("options", [{}, {"interval": 3}, {"calls": 8}, {"repeat_visits": "compute"}, {"max_order": 2}], ids=str)
@pytest.mark.parametrize("scale", [0, 2.0])
@pytest.mark.parametrize("name", SAMPLERS[:2])
def test_a_visit_waits_for_nothing_that_was_queued_within_two_visits(name, scale, options):
    queue = Queue()
    x, guider = queued_run(name, smooth, queue, scale=scale, **options)
    assert 0 < guider.report.calls < guider.report.calls + guider.report.forecasts == queue.visits
    torch.testing.assert_close(x, sampler(name, scale=scale, **options)(smooth, *seeded()))


@pytest.mark.parametrize("bad", [1, 4, 11, 19])
@pytest.mark.parametrize("name", SAMPLERS[:2])
def test_an_output_that_is_not_finite_is_named_at_the_latest_two_visits_later(name, bad):
    def failing(x, sigma, cond):
        if queue.visits < bad:
            return smooth(x, sigma, cond)
        first.append(queue.visits)
        return smooth(x, sigma, cond) * torch.nan

    queue, first = Queue(), []
    with pytest.raises(FloatingPointError, match=r"step \d+, sigma [\d.]+.*not finite"):
        queued_run(name, failing, queue, interval=2)
    assert queue.visits <= first[0] + 2


@pytest.mark.parametrize("denoiser", ["opaque", "traced"])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.slow
def test_a_compiled_denoise_gives_the_same_with_as_many_calls(name, denoiser):
    def counted(*visit):
        counts.append(visit[1])
        return smooth(*visit)

    torch._dynamo.reset()
    counts, inputs = [], seeded()
    full = sampler(name, interval=3, num_steps=12)(smooth, *inputs)
    built = sampler(name, interval=3, num_steps=12)
    built.denoise = torch.compile(built.denoise, backend="eager")
    found = built(torch.compiler.disable(counted) if denoiser == "opaque" else smooth, *inputs)
    torch.testing.assert_close(found, full)
    assert built.guider.report.calls == 4 and (denoiser == "traced" or len(counts) == 4)


class Captured:
    """``smooth`` as a CUDA graph for each shape: its inputs and its output are always the same memory."""

    def __init__(self):
        self.graphs = {}

    def __call__(self, x, sigma, cond):
        inputs = x, sigma, cond["vector"]
        if x.shape not in self.graphs:
            self.graphs[x.shape] = self._capture([tensor.clone() for tensor in inputs])
        graph, held, output = self.graphs[x.shape]
        for place, tensor in zip(held, inputs, strict=True):
            place.copy_(tensor)
        graph.replay()
        return output

    @staticmethod
    def _capture(held):
        x, sigma, vector = held
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            smooth(x, sigma, {"vector": vector})
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = smooth(x, sigma, {"vector": vector})
        return graph, held, output


def on_cuda():
    """``x, cond, uc`` on the GPU."""
    x, *conditionings = seeded()
    return x.cuda(), *({"vector": c["vector"].cuda()} for c in conditionings)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_denoiser_that_is_a_cuda_graph_gives_what_it_gives_uncaptured(name, scale, mode):
    found, plain = (sampler(name, scale=scale, **MODES[mode])(denoiser, *on_cuda()) for denoiser in (Captured(), smooth))
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["off", "exact"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_on_cuda_the_off_modes_are_vanilla_cfg_bit_for_bit(name, mode):
    vanilla = sampler(name, VANILLA, scale=1.0)(smooth, *on_cuda())
    assert torch.equal(sampler(name, scale=1.0, **MODES[mode])(smooth, *on_cuda()), vanilla)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["reuse", "compute"])
@pytest.mark.parametrize("name", SAMPLERS[:2])
def test_on_cuda_no_visit_waits_for_the_queue(name, mode):
    """All steps but the last, in which the run ends and may read what it gathered."""

    def moment(left):
        torch.cuda.set_sync_debug_mode("error" if left else "default")

    built = sampler(name, scale=2.0, **MODES[mode])
    x, s_in, sigmas, _, cond, uc = built.prepare_sampling_loop(*on_cuda())
    try:
        x = visits(built, name.startswith("Heun"), smooth, x, s_in, sigmas, cond, uc, moment)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.isfinite().all() and built.guider.report.forecasts > 0
