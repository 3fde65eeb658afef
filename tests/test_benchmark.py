"""scripts/benchmark.py: rows picture by picture, kept and gone on with; tables, intervals and plots that say what rows say."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

import benchmark
from bench import WORKLOADS, ablate, compare, fits, inside, kinds, learnt, measure, methods, options, parts, spread, store, tables
from bench.peers import fitted
from bench.workloads import embedded, mixture
from taylorseer_guider.engines.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:__array")  # NumPy's, about the schedulers of diffusers


@pytest.fixture
def quick(monkeypatch):
    """Small workloads under the names of the real ones, and fits that take little."""

    def coarse(held_out, *arguments, **named):
        workload = held_out(*arguments, **named)
        workload.exact_steps = 30
        return workload

    small = {
        "mixture": kinds.Kind("mixture", partial(coarse, mixture.held_out), mixture.training, (1.0, 2.0)),
        "embedded": kinds.Kind(
            "embedded", partial(coarse, embedded.held_out, size=16), partial(embedded.training, size=16), (1.0,),
            calibrations=kinds.SHIPPED, perceptual=True,
        ),
    }  # fmt: skip
    for module in (compare, options, parts):
        monkeypatch.setattr(module, "KINDS", small)
    monkeypatch.setattr(fitted, "WALKS", 2)
    monkeypatch.setattr(fits, "GRADIENTS", 0)


def run(*arguments):
    return benchmark.main([str(argument) for argument in arguments])


def row(label, dB, budget=5, family="ours", **more):
    """A row as ``measure.row`` makes it."""
    return {
        "label": label, "family": family, "budget": budget, "setting": None, "calls": budget, "branches": budget, "seconds": 1.0,
        "exact_dB": dB, "full_dB": dB, **more,
    }  # fmt: skip


def test_one_bad_picture_decides_the_worst_and_the_pooled_figure():
    mean, worst, pooled = spread.summary([40.0, 40.0, 10.0, 40.0])
    assert (mean, worst) == (32.5, 10.0)
    assert pooled == pytest.approx(10 + 10 * torch.tensor(4.0).log10().item(), abs=0.02)


def test_a_picture_without_error_counts_as_much_as_can_be():
    assert spread.summary([None, 40.0])[:2] == ((spread.MOST + 40) / 2, 40.0)


def test_a_picture_that_ran_away_is_not_taken_for_one_without_error():
    reference, lost = torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), float("nan"))
    assert measure.decibels(reference, reference) is None
    assert measure.decibels(lost, reference) == measure.decibels(reference + 1e30, reference) == measure.LEAST


def test_the_interval_of_a_paired_difference_is_that_of_the_mean():
    """Of a normal sample it is near mean +- 1.96 s / sqrt(n), and pairs that differ alike leave no doubt."""
    rng = torch.Generator().manual_seed(0)
    theirs, gain = (torch.randn(400, generator=rng, dtype=torch.float64) for _ in range(2))
    mean, low, high = spread.difference((theirs * 10 + gain).tolist(), (theirs * 10).tolist())
    half = 1.96 * gain.std().item() / 20
    assert mean == pytest.approx(gain.mean().item()) and high - low == pytest.approx(2 * half, rel=0.15)
    assert spread.difference([3.0, 5.0], [1.0, 3.0]) == (2.0, 2.0, 2.0)


def test_rows_that_are_on_disk_are_found_again(tmp_path):
    path, made = tmp_path / "rows.jsonl", {"pictures": 2}
    store.Store(path, made).add(row("a", [1.0, 2.0]))
    with path.open("a") as file:
        file.write('{"label": "cut o')
    again = store.Store(path, made)
    assert again.find(label="a", budget=5)["exact_dB"] == [1.0, 2.0] and again.find(label="a", budget=6) is None
    again.add(row("b", [3.0, 4.0]))
    assert [found["label"] for found in store.Store(path, made).rows] == ["a", "b"]
    with pytest.raises(UserError, match="'pictures': 3"):
        store.Store(path, {"pictures": 3})


def test_crops_are_the_same_whatever_their_number():
    few, many = embedded.held_out(1.0, 3, 16), embedded.held_out(1.0, 6, 16)
    assert torch.equal(few.noise, many.noise[:3]) and torch.equal(few.cond["concat"], many.cond["concat"][:3])


def test_a_guided_call_is_one_call_and_two_branches():
    for scale, branches in ((1.0, 1), (2.0, 2)):
        workload = mixture.held_out(scale, 3)
        x, calls, counted, _ = measure.timed(workload, partial(methods.host, options={"calls": 5}))
        assert (calls, counted) == (5, 5 * branches) and x.shape == workload.noise.shape


def test_a_part_of_a_workload_is_those_pictures():
    whole = mixture.held_out(2.0, 3)
    part = whole.part(slice(1, 3))
    x = torch.randn(3, 3, 16, 16)
    assert torch.allclose(part.denoise(x[1:], torch.tensor(1.0)), whole.denoise(x, torch.tensor(1.0))[1:], atol=1e-5)


def test_what_decides_its_calls_sees_one_picture_at_a_time():
    workload = mixture.held_out(1.0, 3)
    adaptive = methods.Method(
        "adaptive", methods.OURS, None, partial(methods.host, options={"plan": {"tolerance": 0.2}}), 0.2, True
    )
    x, calls, _, _ = measure.sampled(workload, adaptive)
    alone = [measure.timed(workload.part(slice(n, n + 1)), adaptive.begin) for n in range(3)]
    assert calls == sum(result[1] for result in alone) / 3 and torch.equal(x[2:], alone[2][0])


def test_a_duel_is_with_the_nearest_in_the_mean():
    rows = [
        row("full run", [60.0, 60.0], 39, "full run"),
        row(methods.DEFAULT, [40.0, 30.0]),
        row("Euler", [35.0, 34.0], family=methods.SOLVERS),
        row("Heun", [50.0, 10.0], family=methods.SOLVERS),
        row("L2P", [60.0, 60.0], family=methods.FITTED),
    ]
    text = tables.budget_table("mixture", 1.0, rows)
    assert "TaylorSeerGuider - the best without a fit (5: Euler)" in text  # 34.5 against 30, and fitted ones are no match
    assert "+0.5\n" in text and "[-4.0, +5.0]\n" in text and "-4.0\n" in text + "\n"
    assert "full run, 39 calls, 39 branches: 60.0/60.0/60.0" in text


def test_lower_precision_changes_the_embedded_network_a_little():
    single, low = embedded.held_out(1.0, 1, 16), embedded.held_out(1.0, 1, 16, dtype=torch.bfloat16)
    x, sigma = single.noise, torch.tensor(1.0)
    found, wanted = low.denoise(x, sigma), single.denoise(x, sigma)
    assert 1e-4 < ((found - wanted).norm() / wanted.norm()).item() < 0.05


@pytest.mark.slow
def test_benchmark_writes_tables_and_plots_and_goes_on_where_it_was(quick, tmp_path, capsys, monkeypatch):
    assert run("--quick", "--workloads", "mixture", "embedded", "--out-dir", tmp_path) == 0
    shown = capsys.readouterr().out
    for name in ("mixture", "embedded"):
        head, *rows = map(json.loads, (tmp_path / f"{name}-1.jsonl").read_text().splitlines())
        rows = tables.measured(rows)
        assert head["made"]["pictures"] == 2 and all(len(found["exact_dB"]) == 2 for found in rows)
        assert {found["calls"] for found in rows if found["budget"] == 8} == {7, 8}  # 7: Heun's calls are odd
        assert (tmp_path / f"{name}-1.txt").read_text() in shown
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    assert "embedded, scale 1, 2 pictures" in shown and "TaylorSeerGuider, calibrated - the best of all others" in shown
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    monkeypatch.setattr(compare, "sampled", None)  # nothing is left to be sampled
    assert run("--quick", "--workloads", "mixture", "embedded", "--out-dir", tmp_path) == 0
    assert capsys.readouterr().out == shown and all(path.read_bytes() == held for path, held in before.items())


@pytest.mark.slow
def test_another_number_of_pictures_is_not_mixed_in(quick, tmp_path, capsys):
    (tmp_path / "mixture-1.jsonl").write_text(json.dumps({"made": {"pictures": 3}}) + "\n")
    assert run("--quick", "--workloads", "mixture", "--out-dir", tmp_path) == 2
    assert "name another --out-dir" in capsys.readouterr().err


def test_a_part_that_is_not_there_is_one_line(capsys):
    with pytest.raises(SystemExit):
        run("speed")
    assert "speed: there is methods, learnt" in capsys.readouterr().err


def test_what_measures_nothing_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("--scales", "nan")
    assert run("--workloads", "mixture", "--scales", 3, "--out-dir", tmp_path) == 2
    (tmp_path / "file").touch()
    assert run("page", "--out-dir", tmp_path / "file") == 2
    said = capsys.readouterr().err
    assert "nan: give a number above 0" in said and "these workloads have 1, 1.5, 2.5" in said and "cannot be made" in said


@pytest.mark.slow
def test_options_are_ranked(quick, tmp_path, capsys, monkeypatch):
    named = "rho       newton eps      order 1"
    few = [method for method in options.option_methods() if named in method.label and method.budget == 5]
    monkeypatch.setattr(options, "option_methods", lambda: few)
    assert run("options", "--scales", 1, "--workloads", "mixture", "embedded", "--out-dir", tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.count("<- default") == 1 and all(name in shown for name in ("mixture, 1", "embedded, 1", "loses up to"))


def some_rows():
    """A table's worth, at scale 2, with a method that saves branches."""
    rows = [row("full run", [60.0, 60.0], 39, "full run", branches=78)]
    for budget in (5, 8):
        rows += [
            row(methods.DEFAULT, [40.0, 44.0], budget),
            row("Euler", [35.0, 34.0], budget, methods.SOLVERS),
            row("L2P", [50.0, 45.0], budget, methods.FITTED),
        ]
    rows.append(row("LinearAG", [41.0, 42.0], None, methods.GUIDANCE, setting=16, branches=15.5, calls=10))
    return rows


def test_the_short_table_names_whom_ours_is_held_against():
    text = tables.short_table("mixture", 2.0, some_rows())
    assert "42.0/40.0/41.6" in text and "34.5/34.0/34.5" in text
    assert "Euler            Euler" in text and "calibrated: not measured" in text


def test_the_table_by_branches_puts_calls_and_branches_side_by_side():
    line = next(line for line in tables.branch_table("mixture", 2.0, some_rows()).splitlines() if line.startswith("LinearAG"))
    assert line.split() == ["LinearAG", "-", "41.5/41.0/41.5", "(15.5)"]


def test_the_page_gathers_what_is_on_disk(tmp_path, capsys):
    rows = "\n".join(json.dumps(found) for found in ({"made": {}}, *some_rows()))
    (tmp_path / "mixture-2.5.jsonl").write_text(rows + "\n")
    (tmp_path / "mixture-1.jsonl").write_text('{"made": {}}\n')  # begun, and no more
    assert run("page", "--out-dir", tmp_path) == 0
    assert capsys.readouterr().out.count("mixture, scale 2.5, 2 pictures") == 1


def test_features_are_held_against_ours_at_as_many_calls_and_in_as_many_seconds():
    rows = [
        row(methods.DEFAULT, [50.0], 5, seconds=1.0),
        row(methods.DEFAULT, [60.0], 8, seconds=2.0),
        row("TaylorSeer 1, features", [55.0], 5, inside.FEATURES, seconds=2.5),
    ]
    line = next(line for line in inside.quality_table(1.0, rows).splitlines() if line.startswith("TaylorSeer 1"))
    assert line.endswith("50.0 at 5         60.0 at 8")


@pytest.mark.slow
def test_ablations_are_told_on_what_they_saw_and_on_what_they_did_not(quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablate, "KINDS", compare.KINDS)
    monkeypatch.setattr(ablate, "GRADIENTS", 2)
    assert run("ablations", "--workloads", "mixture", "--scales", 2, "--pictures", 2, "--training", 2, "--out-dir", tmp_path) == 0
    assert capsys.readouterr().out == ""  # that scale is none of them
    monkeypatch.setitem(parts.ABLATED, "mixture", (2.0,))
    assert run("ablations", "--workloads", "mixture", "--scales", 2, "--pictures", 2, "--training", 2, "--out-dir", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "trained on, 2" in shown and "held-out, 2" in shown and all(label in shown for label in ablate.KINDS_OF.values())


def test_what_one_picture_teaches_is_told_beside_what_it_cost(quick, tmp_path, capsys):
    for _ in range(2):  # the second time from the rows on disk
        arguments = ("learnt", "--workloads", "mixture", "--scales", 2, "--pictures", 2, "--budgets", 5, "--out-dir", tmp_path)
        assert run(*arguments) == 0
    shown = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "learnt-mixture-2.jsonl").read_text().splitlines()[1:]]
    assert [row["calls"] for row in rows] == [5, 5] and len(rows[1]["exact_dB"]) == 2
    assert 39 < rows[1]["cost"] <= 78 and str(rows[1]["cost"]) in shown.split("dB, mean/worst")[-2].splitlines()[-2]
    assert "mixture, 2" in shown.splitlines()[-2]


@pytest.mark.parametrize("device", ["cuda"])
def test_an_accelerator_that_is_not_there_is_one_line(device, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert run("--device", device, "--out-dir", tmp_path) == 2
    assert "finds no CUDA device" in capsys.readouterr().err


def test_rows_of_one_network_are_not_added_to_those_of_another_and_are_titled(tmp_path, monkeypatch):
    kind = replace(kinds.KINDS["embedded"], network=tmp_path / "weights")
    monkeypatch.setattr(parts, "KINDS", {"embedded": kind})

    def rows():
        return store.Store(tmp_path / "embedded-1.jsonl", kind.made(1.0, pictures=2))

    def title():
        (table,) = parts.in_short(tmp_path, ["embedded"])
        return table.splitlines()[0]

    kind.network.write_bytes(b"some")
    for label, budget in (("full run", 39), ("TaylorSeerGuider", 5), ("DPM++2M", 5)):
        rows().add(row(label, [40.0, 50.0], budget, "full run" if budget == 39 else "ours"))
    assert title().startswith("embedded, scale 1, 2 pictures")
    kind.network.write_bytes(b"others")
    with pytest.raises(UserError, match="made with .* now it is .*; name another --out-dir"):
        rows()
    assert title().startswith("embedded, earlier weights, scale 1, 2 pictures")


def test_the_page_shows_what_its_rows_say():
    """The short tables of scripts/bench/README.md are those of the rows beside it."""
    folder = kinds.CONFIGS.parent / "scripts" / "bench"
    page, found = (folder / "README.md").read_text(), list(parts.in_short(folder / "results", WORKLOADS))
    known = [(name, scale) for name in WORKLOADS for scale in kinds.KINDS[name].scales if name != "embedded-96"]
    found.append(learnt.summary(folder / "results", known))
    assert len(found) >= 7 and all(line.rstrip() in page for table in found for line in table.splitlines())


def test_the_readme_shows_what_the_rows_say():
    """Each row of its results: ours, learnt, and calibrated, the best of others, and the full run, mean/worst at 8 calls."""
    results = kinds.CONFIGS.parent / "scripts" / "bench" / "results"
    lines = (kinds.CONFIGS.parent / "README.md").read_text().partition("## Results")[2].partition("\n## ")[0].splitlines()
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert len(shown) >= 10
    for title, *cells in shown:
        name = title.replace(", ", "-")
        rows, taught = (learnt.rows_in(results / f"{each}.jsonl") for each in (name, f"learnt-{name}"))
        nearest = [tables.best(rows, 8, families) for families in (methods.UNFITTED, tables.ALL_OTHERS)]
        said = [f"{tables.two(row, 0)}, {row['label'].split(' (')[0]}" for row in nearest]
        ours = [tables.two(tables.at(rows, label, 8), 0) for label in tables.DUELS]
        learned = tables.two(tables.at(taught, learnt.LEARNT, 8), 0)
        assert cells == [ours[0], learned, said[0], ours[1], said[1], tables.two(tables.full_run(rows), 0)], title


def test_a_store_that_was_stopped_in_its_first_line_begins_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    for torn in ("", '{"made": {"workl'):
        path.write_text(torn)
        store.Store(path, {"workload": "mixture"}).add(row("DPM++2M", [40.0], 5))
        assert len(store.Store(path, {"workload": "mixture"}).rows) == 1


def test_the_exact_solution_of_one_network_is_not_taken_for_that_of_another(tmp_path):
    first = replace(mixture.held_out(1.0, 1), exact_steps=4, weights="one")
    path = tmp_path / "references.safetensors"
    known, _ = compare.references(first, path)
    before = first.calls
    assert torch.equal(compare.references(first, path)[0], known) and first.calls == before > 0
    other = replace(first, denoiser=lambda x, sigma, cond: 0 * x, weights="two")
    assert not torch.equal(compare.references(other, path)[0], known)
