"""The benchmark on a device: rows that say whose they are, denoisers of every kind, and a plain no where there is no device."""

from functools import partial

import pytest
import torch

from bench import accelerator, clock, methods
from bench.workloads import mixture

FEW = {"options": {"calls": 8}}
OURS = methods.Method(methods.DEFAULT, methods.OURS, 8, partial(methods.host, **FEW))


@pytest.fixture
def workload():
    return mixture.held_out(2.0, 2)


def test_rows_of_a_cpu_say_so_and_count_no_memory_and_the_calls_are_those_made(workload):
    rows = list(accelerator.measured(workload, [OURS], repeats=1, backend=None))
    assert [row["calls"] for row in rows] == [39, 8]
    assert all(row["device"].startswith("CPU") and row["peak_bytes"] is None for row in rows)
    assert rows[0]["full_dB"] is None and 20 < rows[1]["full_dB"] < 100
    assert rows[0]["speed_up"] == rows[0]["faster"] == 1 and rows[0]["of_ideal"] == 1
    shown = accelerator.table(rows)
    assert shown.startswith("CPU") and len(shown.splitlines()) == 4


@pytest.mark.slow
def test_a_compiled_denoiser_gives_the_same_pictures(workload):
    """With a backend that compiles nothing, so that only the tracing is tested."""
    rows = list(accelerator.measured(workload, [OURS], repeats=1, backend="eager"))
    assert [row["denoiser"] for row in rows] == ["as it is"] * 2 + ["compiled"] * 2
    assert rows[3]["calls"] == 8
    assert rows[2]["full_dB"] is None or rows[2]["full_dB"] > 80
    assert rows[3]["full_dB"] == pytest.approx(rows[1]["full_dB"], abs=0.1)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_that_is_not_there_is_refused_in_one_line(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"--device {device}: .*no CUDA device"):
        accelerator.clock_of(device)


def test_no_other_device_is_taken_for_one_of_the_two():
    with pytest.raises(ValueError, match="--device meta"):
        accelerator.clock_of("meta")


class Held:
    """A denoiser that holds its network as an attribute."""

    def __init__(self, network):
        self.network = network

    def call(self, x, sigma, cond):
        return self.network(x)


@pytest.mark.parametrize(
    "held",
    [
        lambda net: net,
        lambda net: partial(lambda network, x: network(x), net),
        lambda net: partial(lambda x, network: network(x), network=net),
        lambda net: lambda x, sigma, cond: net(x),
        lambda net: Held(net),
        lambda net: Held(net).call,
        lambda net: Held([{"no": 1}, net]),
    ],
    ids=["itself", "argument", "keyword", "closure", "attribute", "method", "list"],
)
def test_the_network_of_a_denoiser_moves_with_its_workload(held, workload):
    network = torch.nn.Linear(2, 2)
    workload.denoiser = held(network)
    moved = accelerator.moved(workload, torch.device("meta"))
    assert network.weight.is_meta and moved.noise.is_meta and moved.cond["vector"].is_meta
    assert not workload.noise.is_meta


def test_side_by_side_tells_time_calls_and_the_share_outside(workload):
    full, ours = clock.side_by_side(workload, [OURS], repeats=2)
    assert (full["calls"], ours["calls"]) == (39, 8) and full["speed_up"] == 1
    assert ours["of_ideal"] == pytest.approx(ours["speed_up"] * 8 / 39) and 0 < ours["outside"] < 1


def test_a_forecast_is_timed_beside_a_pass(tmp_path):
    made = clock.calibrated_for_nothing(tmp_path / "calibration.yaml")
    rows = clock.forecast_cost({"calibrated": made}, (1, 3, 16, 16), repeats=1)
    assert [row["reads"] for row in rows] == [2, 4, 4, 6]
    assert all(row["ratio"] == pytest.approx(row["visit_ms"] / row["pass_ms"]) and row["pass_ms"] > 0 for row in rows)


@pytest.mark.cuda
def test_on_cuda_every_kind_of_denoiser_gives_the_same_pictures_and_memory_is_counted(workload):
    def smooth(x, sigma, cond):
        return torch.tanh(x) / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    workload.denoiser = smooth
    rows = list(accelerator.measured(workload, [OURS], "cuda", repeats=1, backend="eager"))
    assert [row["denoiser"] for row in rows[::2]] == ["as it is", "compiled", "CUDA graph"]
    assert all(row["peak_bytes"] > 0 and "CPU" not in row["device"] and row["outside"] is None for row in rows)
    assert all(row["full_dB"] is None or row["full_dB"] > 60 for row in rows[2::2])
