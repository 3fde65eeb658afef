"""Every method of the benchmark with its tensors on a device beside the CPU."""

from dataclasses import replace

import pytest
import torch

import benchmark
from apart import Apart, There
from bench import devices, fits, measure, methods, store
from bench.kinds import KINDS
from bench.peers import bns, branches, features, fitted, gs
from bench.workloads import mixture

BUDGET = 5
CUDA = ["--quick", "--device", "cuda"]


def there(workload):
    """``workload`` on the imitated device."""
    cond, uc = ({key: There(value) for key, value in side.items()} for side in (workload.cond, workload.uc))
    return replace(workload, noise=There(workload.noise), cond=cond, uc=uc)


@pytest.fixture
def anywhere(monkeypatch):
    """The clock of the CPU for every device."""
    for module in (measure, features):
        monkeypatch.setattr(module, "clock_of", lambda device: devices.Processor())


@pytest.mark.slow
def test_every_method_without_gradients_runs_beside_the_cpu_and_ends_where_it_does_there(anywhere, tmp_path):
    kind = replace(KINDS["mixture"], trained=())
    known = fits.Fits(tmp_path, kind, kind.training(2.5, 1), plans={BUDGET: [0, 5, 9, 13, 17]})
    workload = mixture.held_out(2.5, 1)
    todo, _ = methods.methods([BUDGET], known, KINDS["embedded"].wants)
    for method in todo:
        if not method.alone and "hicache-pp" not in method.label:  # whose torch.tensor(..., device=) the imitation has not
            plain = measure.timed(workload, method.begin)[0]
            with Apart():
                found = measure.timed(there(workload), method.begin)[0]
            assert isinstance(found, There), method
            torch.testing.assert_close(found.value, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_what_is_fitted_without_gradients_is_fitted_beside_the_cpu():
    batch = mixture.held_out(2.5, 1)
    with Apart():
        recorded = fitted.record(there(batch))
        found = fitted.l2p(recorded, fitted.evenly(BUDGET, 20))
        plans = branches.methods([10], there(batch))
    assert not isinstance(recorded.gram, There)
    torch.testing.assert_close(recorded.gram, fitted.record(batch).gram)
    assert found.keys() == set(range(20)) - set(fitted.evenly(BUDGET, 20)) and plans


@pytest.mark.parametrize("solver", [bns.untrained(mixture.held_out(1.0, 1), 4), gs.untrained(mixture.held_out(1.0, 1), 4)])
def test_a_trained_solver_walks_beside_the_cpu(solver):
    workload = mixture.held_out(1.0, 2)
    with torch.no_grad(), Apart():
        found = solver.walk(solver.asks(there(workload)), There(workload.noise))
    torch.testing.assert_close(found.value, solver.walk(workload.denoise, workload.noise))


def test_tf32_is_off_and_no_other_precision_is_left_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        assert devices.ready("cuda") == torch.device("cuda")
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_a_row_has_its_device_and_a_table_says_of_rows_elsewhere(tmp_path, monkeypatch):
    made = {"pictures": 1}
    store.Store(tmp_path / "rows.jsonl", made).add({"label": "a"})
    with monkeypatch.context() as imitated:
        imitated.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
        store.Store(tmp_path / "rows.jsonl", made, device="cuda").add({"label": "b"})
    rows = store.Store(tmp_path / "rows.jsonl", made).rows
    assert rows[0]["device"].startswith("CPU") and rows[1]["device"] == "Some GPU"
    assert devices.whereabouts([{"label": "old"}, rows[0]]) is None
    assert "Some GPU: 1 row" in devices.whereabouts([{"label": "old"}, *rows])


@pytest.mark.parametrize(("given", "parts"), [([], ["methods"]), (["--device", "cuda"], ["methods", "accelerator"])])
def test_without_a_part_the_methods_are_compared_and_on_cuda_the_accelerator_watched(given, parts):
    assert benchmark.parse(given).parts == parts
    assert benchmark.parse([*given, "clock"]).parts == ["clock"]


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.parametrize("workload", ["mixture", "hsc64", "fashion", "embedded"])
def test_on_cuda_every_row_is_as_near_as_on_the_cpu(workload, tmp_path):
    """Fits but for gradients' are the same; solvers that leave rounding to grow are let off by half a dB."""
    found = {}
    for device in ("cpu", "cuda"):
        argv = ["methods", "--quick", "--workloads", workload, "--device", device, "--out-dir", str(tmp_path / device)]
        assert benchmark.main(argv) == 0
        found[device] = store.contents(tmp_path / device / f"{workload}-1.jsonl")[0][1:]
    assert len(found["cpu"]) == len(found["cuda"]) > 10
    for here, away in zip(*found.values(), strict=True):
        assert here["label"] == away["label"] and not away["device"].startswith("CPU")
        fixed = here.get("family") in (methods.OURS, methods.SOLVERS, methods.FORECASTS) and here["setting"] is None
        if fixed and "exact_dB" in here:
            assert away["exact_dB"] == pytest.approx(here["exact_dB"], abs=0.5), here["label"]


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.parametrize("part", ["features", "ablations", "quality", "clock", "options"])
def test_on_cuda_every_part_runs(part, tmp_path):
    workloads = ["--workloads", "mixture"] if part in ("ablations", "options") else []
    assert benchmark.main([part, *CUDA, *workloads, "--out-dir", str(tmp_path)]) == 0
    assert list(tmp_path.glob("*.txt")) or part == "ablations"


@pytest.mark.cuda
def test_on_cuda_ablations_and_solvers_are_trained():
    batch = devices.moved(mixture.held_out(1.0, 2), torch.device("cuda"))
    target = methods.reference(batch, 20)
    for module in (gs, bns):
        about = module.fit(batch, 4, 3, target=target).about
        assert about["gradients"] >= 3 and about["after"] <= about["before"]
