"""GS and BNS as peers: exact calls, nothing learnt is the base solver, training brings runs nearer, and files hold all of it."""

import pytest
import torch

from bench.peers import gs
from bench.peers.training import Recipe
from bench.workloads import mixture

QUICK = (Recipe("adam", 0.01),)


@pytest.fixture(scope="module")
def workload():
    return mixture.training(2.5, 4)


@pytest.fixture(scope="module")
def target(workload):
    return ended(gs.untrained(workload, 60), workload)


def ended(fitted, workload):
    return gs.solve(fitted)(workload.denoise, workload.noise, workload.sigmas())


@pytest.mark.parametrize("budget", [5, 6, 8])
def test_gs_makes_exactly_its_budget_of_calls(workload, budget):
    workload = workload.part(slice(None))
    ended(gs.untrained(workload, budget), workload)
    assert workload.calls == budget


def test_an_untrained_gs_is_a_multistep_solver_of_order_three(workload, target):
    """Halving its steps brings the end nearer by a power of them, which a wrong coefficient would not."""
    misses = [float((ended(gs.untrained(workload, budget), workload) - target).norm()) for budget in (15, 30)]
    assert misses[0] / misses[1] > 4


def test_gs_can_begin_on_the_nodes_of_edm(workload):
    asked = []
    solved = gs.solve(gs.untrained(workload, 6, "edm"))
    solved(lambda x, sigma: asked.append(float(sigma)) or workload.denoise(x, sigma), workload.noise, workload.sigmas())
    assert asked == pytest.approx(workload.sigmas(7)[:6].tolist(), rel=1e-4)


def test_an_untrained_gs_takes_the_denoised_output_for_what_it_is(workload):
    """DPM-Solver++ is exact, whatever the nodes, where the output never changes; so are its first two orders."""
    still = torch.randn(4, 3, 2, 2)
    for budget in (1, 2, 3, 5):
        end = gs.solve(gs.untrained(workload, budget))(lambda x, sigma: still, torch.randn(4, 3, 2, 2), workload.sigmas())
        assert torch.allclose(end, still, atol=0.02)


@pytest.mark.parametrize("loss", ["psnr", "own"])
def test_training_gs_lowers_its_loss_where_the_run_ends(workload, target, loss):
    fitted = gs.fit(workload, 5, 12, loss=loss, target=target, recipes=QUICK)
    assert fitted.about["after"] < fitted.about["before"]
    measured = {"psnr": lambda miss: miss.square().flatten(1).mean(1).log().mean(), "own": lambda miss: miss.abs().mean()}[loss]
    assert float(measured(ended(fitted, workload) - target)) == pytest.approx(fitted.about["after"], rel=1e-4)
    assert fitted.about["gradients"] == 12 and fitted.about["calls"] == 12 * 5 * 4


@pytest.mark.parametrize(("name", "tensors"), [("steps", {"logits"}), ("times", {"shift"}), ("coefficients", {"x", "outputs"})])
def test_training_moves_what_it_is_asked_to_and_nothing_else(workload, target, name, tensors):
    before, fitted = gs.untrained(workload, 4), gs.fit(workload, 4, 3, train=(name,), target=target, recipes=QUICK)
    moved = {key for key, tensor in fitted.tensors.items() if not torch.equal(tensor, before.tensors[key])}
    assert moved == tensors


def test_the_recipe_of_the_code_draws_batches_and_is_the_same_each_time(workload, target):
    recipes = (Recipe("adam", 1e-3, batch=2, average=0.999, clip=1.0),)
    once, twice = (gs.fit(workload, 4, 4, loss="own", target=target, recipes=recipes).tensors for _ in range(2))
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_of_several_recipes_the_best_is_taken_and_all_are_paid_for(workload, target):
    bad, good = Recipe("adam", 1e-9), QUICK[0]
    fitted = gs.fit(workload, 4, 3, target=target, recipes=(bad, good, bad))
    assert fitted.about["optimizer"] == "adam 0.01" and fitted.about["calls"] == 3 * 3 * 4 * 4


def test_training_stops_when_its_time_is_over(workload, target):
    assert gs.fit(workload, 4, 10**6, seconds=0.2, target=target, recipes=QUICK).about["gradients"] < 10**4


def test_a_saved_gs_is_the_same_when_loaded(workload, target, tmp_path):
    fitted = gs.fit(workload, 4, 2, target=target, recipes=QUICK)
    fitted.save(tmp_path / "gs.safetensors")
    loaded = gs.GS.load(tmp_path / "gs.safetensors")
    assert torch.equal(ended(loaded, workload), ended(fitted, workload))
    assert loaded.about["gradients"] == "2"


def test_gs_says_what_it_cannot_train_and_on_which_schedule_it_cannot_run(workload, target):
    with pytest.raises(ValueError, match="train=\\['step'\\]: give some of steps, times, coefficients"):
        gs.fit(workload, 4, 1, train=("step",), target=target)
    with pytest.raises(ValueError, match="sigma 80: it was trained from 40 on"):
        gs.solve(gs.untrained(workload, 4))(workload.denoise, workload.noise, 2 * workload.sigmas())
