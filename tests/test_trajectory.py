"""scripts/trajectory.py: what one full run tells of forecasts is what forecasts then do."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from problems import GaussianMixture, sampler
from taylorseer_guider import TaylorSeerGuider
from taylorseer_guider.calibration.host import Probe
from taylorseer_guider.commands import trajectory
from taylorseer_guider.commands.map import choose, errors, record, say
from taylorseer_guider.commands.map.choose import Foresight, Foretold
from taylorseer_guider.commands.map.errors import INTERVALS, ORDERS, Outputs
from taylorseer_guider.commands.map.recall import Recall
from taylorseer_guider.commands.map.survey import survey
from taylorseer_guider.forecast import COORDINATES, QUANTITIES

SCRIPTS = Path(__file__).parents[1] / "scripts"
CONFIGS = SCRIPTS.parent / "configs"
SIGMAS = (40.0, 22.0, 14.0, 6.0, 3.1, 1.2, 0.7, 0.2, 0.05, 0.01, 0.002)  # uneven on every axis
NEAR = 3  # dB outside of what is foretold that a real run may end


def polynomial(degree, coordinate="asinh"):
    """Outputs that are a polynomial of ``degree`` in ``coordinate``, and an x that has nothing to do with them."""
    rng = torch.Generator().manual_seed(1)
    u = torch.tensor([COORDINATES[coordinate](sigma) for sigma in SIGMAS], dtype=torch.float64)
    powers = torch.stack([u**power for power in range(degree + 1)], 1)
    x, factors = (torch.randn(count, 6, generator=rng, dtype=torch.float64) for count in (len(SIGMAS), degree + 1))
    return Outputs(SIGMAS, x, powers @ factors)


def followed(name="HeunEDMSampler", problem=None, scale=1.0, **options):
    """(the Course of a full run, x at its end, what takes what of it is recorded, the problem)."""
    problem = problem or GaussianMixture()
    x, cond, uc = problem.inputs()
    made = sampler(name, use_cache=False, scale=scale, **options)
    return *record.followed(made, problem, {"x": x, "cond": cond, "uc": uc}), problem


def real(name, problem, some, course, scale=1.0, **options):
    """dB to the full run of a run with ``options``."""
    return choose.decibels(
        some(sampler(name, scale=scale, **options)(problem, *problem.inputs())), course.end, course.elements, 2.0
    )


# How outputs move.


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_outputs_on_a_line_are_forecast_without_error_from_order_1_on(coordinate):
    found = polynomial(1, coordinate).errors("denoised", coordinate)
    known = ~found.isnan()
    assert (found[1:][known[1:]] < 1e-9).all() and (found[0][known[0]] > 1e-3).all()


def test_a_node_has_an_error_where_there_are_outputs_enough_before_it():
    known = ~polynomial(1).errors("denoised", "asinh").isnan()
    for i, order in enumerate(ORDERS):
        for j, interval in enumerate(INTERVALS):
            first = interval - 1 + interval * order
            assert known[i, j].tolist() == [node >= first for node in range(len(SIGMAS))]


@pytest.mark.parametrize("order", ORDERS[:3])
@pytest.mark.parametrize("quantity", ["denoised", "eps"])
def test_the_next_difference_foretells_the_error_of_a_polynomial_of_one_degree_more(order, quantity):
    outputs = polynomial(order + 1)
    if quantity == "eps":  # the polynomial is eps, and the output what follows from it
        outputs = Outputs(SIGMAS, outputs.x, outputs.x - torch.tensor(SIGMAS, dtype=torch.float64)[:, None] * outputs.denoised)
    measured, foretold = (values(quantity, "asinh")[order] for values in (outputs.errors, outputs.remainders))
    both = ~foretold.isnan()
    assert both.any() and torch.allclose(foretold[both], measured[both], rtol=1e-6, atol=1e-12)


def test_an_error_counts_as_it_does_in_the_output():
    outputs = polynomial(2)
    for quantity in QUANTITIES:
        values, counts = outputs.quantity(quantity)
        off = torch.zeros_like(values)
        off[4] = 0.01
        skip, out = QUANTITIES[quantity](SIGMAS[4]) if QUANTITIES[quantity] else (0.0, -1.0)
        made = skip * outputs.x[4] - out * (values + off)[4]
        assert torch.allclose((made - outputs.denoised[4]).norm(), off[4].norm() * counts[4])


def test_outputs_in_a_plane_have_two_singular_values():
    rng = torch.Generator().manual_seed(2)
    plane, places = torch.randn(2, 30, generator=rng).double(), torch.randn(len(SIGMAS), 2, generator=rng).double()
    points, singular = errors.principal(places @ plane + 5.0)
    assert (singular[:2] > 0.1).all() and (singular[2:] < 1e-9).all()
    apart = torch.cdist(places @ plane, places @ plane)
    assert torch.allclose(torch.cdist(points, points), apart)


def test_weights_add_up_to_one():
    weights = polynomial(1).weights("rho")
    sums = weights.sum(-1)
    assert torch.allclose(sums[~sums.isnan()], torch.ones(()).double())


# The run that is followed.


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler"])
def test_the_run_that_is_followed_is_the_full_run(name):
    course, x, some, problem = followed(name)
    assert torch.equal(x, sampler(name, use_cache=False, scale=1.0)(GaussianMixture(), *problem.inputs()))
    assert problem.calls == course.calls == (39 if name == "HeunEDMSampler" else 20)
    assert list(course.along) == list(range(20)) and torch.equal(course.end, some(x))


def test_heuns_second_x_at_a_node_is_the_runs_own():
    course, *_ = followed()
    by_hand = [visit for n, visit in enumerate(course.visits) if n % 2 == 0]  # predictors
    assert all(torch.equal(a.x, b.x) for a, b in zip(course.along.values(), by_hand, strict=True))


def test_a_reduced_course_keeps_every_distance():
    course, *_ = followed()
    reduced = course.reduced()
    assert reduced.end.shape[1] == min(48, 2 * 39 + 1) and reduced.elements == 48
    tensors = [[t for visit in one.visits for t in (visit.x, visit.output)] + [one.end] for one in (course, reduced)]
    before, after = (torch.stack(found, 1).double() for found in tensors)
    assert torch.allclose(before @ before.mT, after @ after.mT, rtol=1e-10, atol=1e-10)


def test_halves_are_what_is_above_the_middle_and_what_is_below():
    course, *_ = followed()
    upper, lower = course.halves()
    image = course.end.reshape(2, 3, 4, 4)
    assert upper.elements == lower.elements == 24
    for half, rows in ((upper, image[:, :, :2]), (lower, image[:, :, 2:])):
        assert torch.allclose(half.end.norm(dim=1), rows.flatten(1).norm(dim=1))


# What is foretold.


@pytest.mark.parametrize("options", [{}, {"max_order": 1}, {"max_order": 2, "forecast": {"quantity": "eps"}}])
@pytest.mark.parametrize("calls", [5, 8, 13])
def test_where_outputs_follow_x_as_a_line_a_run_is_foretold(calls, options):
    course, _, some, problem = followed(problem=GaussianMixture(components=1))
    found = Foresight(course.reduced()).of(calls, **options)
    assert found.high - found.low < 1e-3
    between_nodes = 0.0 if "forecast" in options else 0.5  # where the solver calls, outputs are interpolated
    measured = real("HeunEDMSampler", problem, some, course, calls=calls, **options)
    assert found.middle == pytest.approx(measured, abs=1e-2 + between_nodes)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler"])
def test_a_run_of_the_mixture_is_foretold_without_a_call(name, scale):
    course, _, some, problem = followed(name, scale=scale)
    if name == "EulerEDMSampler":
        arguments = dict(zip(("x", "cond", "uc"), problem.inputs(), strict=True))
        course = choose.scouted(course, Probe(sampler(name, use_cache=False, scale=scale), problem, arguments, 0), some)
    before, foresight = problem.calls, Foresight(course.reduced())
    found = {calls: foresight.of(calls) for calls in (6, 8, 10)}
    assert problem.calls == before
    for calls, foretold in found.items():
        measured = real(name, problem, some, course, scale, calls=calls)
        assert foretold.low - NEAR < measured < foretold.high + NEAR


def test_eulers_method_is_scouted_with_eight_calls():
    course, _, some, problem = followed("EulerEDMSampler")
    arguments = dict(zip(("x", "cond", "uc"), problem.inputs(), strict=True))
    scouted = choose.scouted(course, Probe(sampler("EulerEDMSampler", use_cache=False, scale=1.0), problem, arguments, 0), some)
    assert problem.calls == 20 + 8 and len(scouted.scouted) == 8
    assert any(Recall(scouted.reduced(), drawn=False).shifts) and not any(Recall(course.reduced(), drawn=False).shifts)


def test_a_recall_says_what_was_said_where_it_was_asked():
    course = followed()[0].reduced()
    for drawn in (False, True):
        recall = Recall(course, drawn)
        for stop, visit in zip(recall.stops, course.visits, strict=True):
            answer = recall.denoise(choose.widened(visit.x), stop.sigma, 1)[0]
            off = float((answer - choose.widened(visit.output)).norm() / visit.output.norm())
            assert off < (0.03 if stop.corrector else 1e-12)


def test_nothing_is_foretold_of_a_multistep_sampler():
    course, *_ = followed("DPMPP2MSampler")
    found = survey(course, 2.0, 45.0)
    assert found.choice is None and "Euler's and Heun's samplers alone" in found.why and found.rows == []
    assert "Nothing is chosen" in say.table(found, "a run", course.calls)
    assert json.loads(say.as_json(found, {}))["choice"] is None


# What is chosen.


def test_the_default_stays_unless_another_is_clearly_better_at_its_low_end():
    rows = [Foretold(8, {}, 40.0, 50.0), Foretold(8, {"max_order": 1}, 40.9, 60.0), Foretold(8, {"max_order": 3}, 30.0, 70.0)]
    assert choose.best_of(rows, {})[8].params == {}
    better = [*rows, Foretold(8, {"max_order": 2}, 41.0, 42.0)]
    assert choose.best_of(better, {})[8].params == {"max_order": 2}
    learnt = {8: Foretold(8, {"learn": True}, 41.5, 42.0)}
    assert choose.best_of(better, learnt)[8].params == {"max_order": 2}
    assert choose.best_of(rows, learnt)[8].params == {"learn": True}


def test_the_fewest_calls_that_are_sure_to_be_near_enough_are_chosen():
    best = {calls: Foretold(calls, {}, low, low + 9) for calls, low in ((5, 30.0), (8, 44.0), (10, 46.0), (13, 50.0))}
    assert choose.chosen(best, 45) == (best[10], True)
    assert choose.chosen(best, 60) == (best[13], False)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_lines_that_are_chosen_make_a_guider_whose_run_is_as_near_as_foretold(scale):
    course, _, some, problem = followed(scale=scale)
    found = survey(course, 2.0, 45.0)
    options = yaml.safe_load("\n".join(say.chosen_lines(found)))
    assert options == found.choice.options and found.reached
    made = sampler("HeunEDMSampler", scale=scale, **options)
    assert isinstance(made.guider, TaylorSeerGuider)
    for _ in range(2 if options.get("learn") else 1):
        x = made(problem, *problem.inputs())
    assert made.guider.report.calls == found.choice.calls
    measured = choose.decibels(some(x), course.end, course.elements, 2.0)
    assert found.choice.low - NEAR < measured < found.choice.high + NEAR


@pytest.mark.slow
def test_the_json_holds_every_figure_and_nothing_that_is_not_json():
    course, *_ = followed()
    found = survey(course, 2.0, 45.0)
    read = json.loads(say.as_json(found, {"title": "a run"}), parse_constant=pytest.fail)
    assert len(read["errors"]) == len(QUANTITIES) * len(COORDINATES)
    assert all(len(orders) == len(ORDERS) and len(orders[0]) == len(INTERVALS) for orders in read["errors"].values())
    assert read["errors"]["eps rho"][1][0][:3] == [None] * 3 and read["errors"]["eps rho"][1][0][3] > 0
    assert read["choice"]["calls"] == found.choice.calls and len(read["foretold"]) == 16 * (
        len(choose.candidates(found.outputs)) + 1
    )


# The command.


@pytest.mark.slow
def test_the_command_maps_the_mixture_and_holds_it_against_real_runs(tmp_path, capsys):
    words = ["--config", CONFIGS / "mixture.yaml", "engine.params.count=2", "--out-dir", tmp_path, "--check", 6, 10]
    assert trajectory.main([str(word) for word in words]) == 0
    said, stem = capsys.readouterr().out, "mixture_heun20-s1_seed0_trajectory"
    assert (tmp_path / f"{stem}.txt").read_text() == said.rpartition("\n" + str(tmp_path))[0] + "\n"
    read = json.loads((tmp_path / f"{stem}.json").read_text())
    assert read["calls"] == 39 and set(read["measured"]) == {"6", "10"}
    assert {row["calls"] for row in read["foretold"]} == set(range(5, 21))
    with Image.open(tmp_path / f"{stem}.png") as drawn:
        assert drawn.width > 1500 and len(drawn.convert("RGB").getcolors(1 << 20)) > 50
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".png", ".txt"]


@pytest.mark.slow
def test_the_command_maps_the_embedded_model(tmp_path, capsys):
    Image.new("RGB", (12, 9), (90, 40, 200)).save(tmp_path / "small.png")
    words = ["--input-path", tmp_path / "small.png", "--out-dir", tmp_path / "out", "--num-steps", 8, "--scale", 1.5]
    assert trajectory.main([str(word) for word in words]) == 0
    read = json.loads((tmp_path / "out" / "small_x4_heun8-s1.5_seed0_trajectory.json").read_text())
    assert read["calls"] == 15 and read["shape"] == [1, 3, 36, 48] and len(read["sigmas"]) == 8
    assert {row["calls"] for row in read["foretold"]} == {5, 6, 7, 8}
    assert f"calls: {read['choice']['calls']}" in capsys.readouterr().out


def test_the_configs_own_options_are_left_out_and_its_wrapped_guider_stays(tmp_path):
    from taylorseer_guider.commands.job import Job
    from taylorseer_guider.commands.map.command import bare

    config = yaml.safe_load((CONFIGS / "mixture.yaml").read_text())
    guider = config["sampler_config"]["params"]["guider_config"]
    guider["params"] |= {"interval": 3, "plan": {"tail": 2}, "warmup": 2, "quantity": "eps", "scale": 2.0}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    job = bare(Job.of(trajectory.parse(["--config", str(tmp_path / "own.yaml")])))
    assert job.config.sampler_config.params.guider_config.params == {"scale": 2.0}


def test_a_picture_that_cannot_be_mapped_stops_no_other(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, size in (("a", (1, 1)), ("b", (48, 48))):
        Image.new("RGB", size).save(folder / f"{name}.png")
    (folder / "c.png").write_text("torn")
    words = ["--input-path", folder, "--shrink-first", "--num-steps", 2, "--out-dir", tmp_path / "out"]
    assert trajectory.main([str(word) for word in words]) == 1
    assert [path.name[:2] for path in (tmp_path / "out").glob("*.png")] == ["b_"]


MISTAKES = [
    (["--check", "0"], "give a whole number from 1"),
    (["--check", "30"], "30"),
    (["--num-steps", "1"], "--num-steps 1: a map shows"),
    (["--db", "nan"], "nan: give a number above 0"),
    (["--db", "-5"], "-5: give a number above 0"),
    (["--input-path", "/nowhere.png"], "/nowhere.png"),
    (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: str(value))
def test_a_mistake_is_one_line(words, message, tmp_path, capsys):
    try:
        code = trajectory.main([*words, "--out-dir", str(tmp_path / "out")])
    except SystemExit as stopped:
        code = stopped.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and message in error and not list(tmp_path.glob("out/*.png"))
