"""The parts of a calibration, each on its own: file, solves, stepping, answers, search."""

import itertools
import random

import pytest
import torch
import yaml

from taylorseer_guider.calibration import Calibration
from taylorseer_guider.calibration.answer import answer, pooled, spread
from taylorseer_guider.calibration.file import Budget, Fitted, Row
from taylorseer_guider.calibration.progress import Notes
from taylorseer_guider.calibration.search import anneal, grown, initial_plan, neighbours
from taylorseer_guider.calibration.solve import gram, ridge, solve
from taylorseer_guider.calibration.stepping import Walker, calls_at, stops
from taylorseer_guider.calibration.store import Store

SIGMAS = (4.0, 1.0, 0.1, 0.0)


def example():
    rows = (
        Row(0, 4.0, True, (0.25, 1e-5, 1.0), (), 1.25e-7),
        Row(1, 1.0, False, (0.1, -2.0, 3.0)),
        Row(2, 0.1, True, (0.1, 0.2, 0.3, 0.4, 0.5)),
    )
    fitted = Fitted("EulerEDMSampler", "VanillaCFG", 2.5, SIGMAS)
    return Calibration(fitted, 2, 4, {2: Budget((0, 2), 40.0, rows)}, {"samples": 3, "shapes": [[3, 8, 8]]})


def test_a_file_reads_back_as_what_was_saved_and_is_plain_text(tmp_path):
    example().save(tmp_path / "c.yaml")
    assert Calibration.load(tmp_path / "c.yaml") == example()
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
    text = (tmp_path / "c.yaml").read_text()
    assert "sampler: EulerEDMSampler" in text and "nodes: [0, 2]" in text and "!" not in text


def edited(path, value):
    """The example as data, with the entry at ``path`` replaced (or taken out, for None)."""
    data = yaml.safe_load(example().to_yaml())
    *way, last = path
    inside = data
    for key in way:
        inside = inside[key]
    if value is None:
        del inside[last]
    else:
        inside[last] = value
    return data


ROW = ("budgets", 2, "rows", 0)


@pytest.mark.parametrize(
    "path, value, told",
    [
        (("format",), "taylorseer_guider calibration 2", "this version reads"),
        (("format",), None, "no entry 'format'"),
        (("scale",), "much", "finite number"),
        (("scale",), float("inf"), "finite number"),
        (("sigmas",), [1.0, 4.0, 0.0], "falling"),
        (("branches",), 3, "from 1 to 2"),
        (("budgets",), {}, "with entries"),
        (("budgets",), [1], "not a mapping"),
        (("budgets", 2, "nodes"), [0, 7], "from 0 to 2"),
        (("budgets", 2, "rows"), [], "holds 0 calls"),
        ((*ROW, "weights"), [1.0], "3 belong there"),
        ((*ROW, "weights"), [1.0, float("nan"), 1.0], "finite numbers"),
        ((*ROW, "weights"), [1.0, True, 1.0], "finite numbers"),
        ((*ROW, "weights"), [10**400, 0, 0], "finite numbers"),
        ((*ROW, "low"), [1.0, 1.0, 1.0], "entries `low`"),
        ((*ROW, "call"), 1, "true or false"),
        ((*ROW, "call"), False, "weights"),
        ((*ROW, "step"), 5, "from 0 to 2"),
        ((*ROW, "sigma"), 0.1, "not at step 0"),
        ((*ROW, "extra"), "x", "unknown entry"),
    ],
)
def test_a_malformed_file_gets_one_clear_line(tmp_path, path, value, told):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(edited(path, value)))
    with pytest.raises(ValueError, match=told) as raised:
        Calibration.load(tmp_path / "c.yaml")
    assert "c.yaml" in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    text = example().to_yaml()
    for end in range(0, len(text) - 2, 7):
        (tmp_path / "c.yaml").write_text(text[:end])
        with pytest.raises(ValueError, match="not a whole calibration file"):
            Calibration.load(tmp_path / "c.yaml")


def test_a_hostile_file_is_refused_and_nothing_in_it_runs(tmp_path):
    trap = tmp_path / "sprung"
    links = zip("abcdefgh", "bcdefghi", strict=True)
    bomb = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in links)
    hostile = [
        f"!!python/object/apply:os.system ['touch {trap}']",
        f"{example().to_yaml()}about2: !!python/object/apply:pathlib.Path.touch [{trap}]",
        "[" * 5000,
        bomb,
        "\x00\x01\xff",
        "",
        "- 1",
    ]
    for text in hostile:
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ValueError) as raised:
            Calibration.load(tmp_path / "c.yaml")
        assert len(str(raised.value).splitlines()) == 1
    assert not trap.exists()
    with pytest.raises(ValueError, match="cannot be read"):
        Calibration.load(tmp_path)


def test_solving_finds_the_weights_that_made_the_target():
    rng = torch.Generator().manual_seed(0)
    regressors = [torch.randn(3, 50, generator=rng, dtype=torch.float64) for _ in range(4)]
    regressors[0] *= 40  # x at the first sigma
    made = [0.3, -1.5, 2.0, 0.2]
    target = sum(weight * regressor for weight, regressor in zip(made, regressors, strict=True))
    weights, mean_square = solve(gram([*regressors, target]))
    assert weights == pytest.approx(made, rel=1e-6)
    assert mean_square < 1e-12 * float(target.square().mean())


def test_a_regressor_given_twice_or_of_zeros_is_no_trouble():
    v = torch.randn(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights, _ = solve(gram([v, v, torch.zeros_like(v), 3 * v]))
    assert sum(weights[:2]) == pytest.approx(3, rel=1e-4)


def test_a_stronger_ridge_is_chosen_where_samples_are_few_and_noisy():
    rng = torch.Generator().manual_seed(1)
    base = torch.randn(8, 6, generator=rng, dtype=torch.float64)
    near = [base + 1e-4 * torch.randn(8, 6, generator=rng, dtype=torch.float64) for _ in range(4)]
    target = base + 0.05 * torch.randn(8, 6, generator=rng, dtype=torch.float64)
    grams = gram([*near, target])
    weights, _ = solve(grams)
    assert max(map(abs, weights)) < float(ridge(grams.sum(0), 1e-9).abs().max())


@pytest.mark.parametrize("method, visits", [("euler", 3), ("heun", 5)])
def test_answering_with_the_target_lands_on_the_reference(method, visits):
    rng = torch.Generator().manual_seed(0)
    x, references = torch.randn(2, 5, generator=rng), torch.randn(3, 2, 5, generator=rng)
    walk = stops(method, SIGMAS)
    assert len(walk) == visits
    walker = Walker(x, x)
    for stop in walk:
        walker.advance(stop, walker.target(stop, references[stop.step]))
        assert torch.allclose(walker.at, references[stop.step], atol=1e-4)


def test_a_node_is_called_at_its_first_visit():
    walk = stops("heun", SIGMAS)
    called = [(stop.step, stop.corrector) for stop, call in zip(walk, calls_at(walk, {0, 2}), strict=True) if call]
    assert called == [(0, False), (1, True)]


SHAPES = [(2, 3, 8, 8), (1, 2, 6, 9), (1, 1, 3, 4), (2, 4, 3), (1, 2, 2), (1, 2, 3, 17, 4), (1, 1, 1604, 600)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_answer_weighs_details_and_means_apart(shape):
    rng = torch.Generator().manual_seed(0)
    x, newest, older = torch.randn(3, *shape, generator=rng)
    row = Row(0, 4.0, True, (0.1, 2.0, -1.0), (0.5, -0.3, 0.7))
    lows = [pooled(newest), pooled(older)]
    got = answer(row, x, [newest, older], lows, torch.float32)
    wide = [spread(pooled(v), v.shape) for v in (x, newest, older)]
    expected = 0.1 * x + 2 * newest - older + 0.5 * wide[0] - 0.3 * wide[1] + 0.7 * wide[2]
    assert torch.allclose(got, expected, atol=1e-5)
    narrow = answer(row, x.bfloat16(), [newest.bfloat16(), older.bfloat16()], lows, torch.bfloat16)
    assert narrow.dtype == torch.bfloat16 and torch.allclose(narrow.float(), expected, rtol=0.01, atol=0.1)
    block = wide[0][..., :4, :4]
    assert torch.allclose(block, x[..., :4, :4].mean((-1, -2), keepdim=True).expand_as(block), atol=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_store_gives_back_what_it_was_given(tmp_path, on_disk):
    store = Store(tmp_path if on_disk else None)
    store.put("a", {"x": torch.arange(3), "held": [[torch.ones(2)]], "d": None})
    assert "a" in store and "b" not in store
    back = store.get("a", "cpu")
    assert back["x"].tolist() == [0, 1, 2] and back["held"][0][0].tolist() == [1, 1] and back["d"] is None


def test_annealing_finds_the_best_of_all_plans():
    def error(nodes):
        return 1 + abs(nodes[1] - 6) * (1 + nodes[2] % 3) + (nodes[2] - 9) ** 2 + 5 * (nodes[1] % 2)

    best = min(((0, *rest) for rest in itertools.combinations(range(1, 15), 2)), key=error)
    seen = {}
    anneal(lambda nodes: seen.setdefault(nodes, error(nodes)), (0, 1, 2), 15, random.Random(0))
    assert min(seen, key=seen.get) == best
    assert all(nodes[0] == 0 and len(nodes) == 3 for nodes in seen)


def test_hill_climbing_ends_at_the_number_of_walks_or_when_nothing_is_left():
    tried = {(0, 3): 1.0}
    for plan in neighbours(tried, 20, 6, lambda nodes: nodes[1], 0):
        assert plan not in tried
        tried[plan] = float(plan[1])
    assert len(tried) == 6
    few = {(0, 1): 1.0}
    for plan in neighbours(few, 3, 50, sum, 0):
        few[plan] = 0.0
    assert set(few) == {(0, 1), (0, 2)}


@pytest.mark.parametrize("calls", range(1, 21))
def test_a_first_plan_has_as_many_calls_as_were_asked_for(calls):
    first, last = 40 ** (1 / 7), 0.002 ** (1 / 7)
    sigmas = [*((first + (last - first) * i / 19) ** 7 for i in range(20)), 0.0]
    plan = initial_plan(sigmas, calls)
    assert len(plan) == calls and plan[0] == 0 and list(plan) == sorted(set(plan)) and plan[-1] < 20


def test_notes_know_the_plans_of_their_own_options_and_length(tmp_path):
    job = {"sampler": "Heun"}
    Notes(tmp_path, job, {"history": 4}).put((0, 3, 11), 41.5)
    Notes(tmp_path, job, {"history": 2}).put((0, 3, 12), 40.0)
    again = Notes(tmp_path, job, {"history": 4})
    again.put((0, 7), 30.0)
    assert again.known(3) == {(0, 3, 11): 41.5} and again.known(2) == {(0, 7): 30.0} and again.known(4) == {}
    with pytest.raises(ValueError, match="another calibration"):
        Notes(tmp_path, {"sampler": "Euler"}, {"history": 4})


def test_a_grown_plan_keeps_its_nodes_and_the_best_come_first():
    best = grown((0, 4, 9), calls=5, count=12, guess=lambda plan: sum(abs(node - 6) for node in plan), keep=3)
    assert best[0] == (0, 4, 5, 6, 9) or best[0] == (0, 4, 6, 7, 9)
    assert len(best) == 3 and all({0, 4, 9} < set(plan) and len(plan) == 5 for plan in best)
    assert len(grown((0,), calls=6, count=12, guess=sum, keep=1)[0]) == 6
