"""The file of a calibration: it reads back as it was saved, and what is malformed, cut off or hostile is refused in one line."""

import threading
from dataclasses import replace

import pytest
import yaml

from taylorseer_guider.calibration_file import Budget, Calibration, Fitted, Row

SIGMAS = (4.0, 1.0, 0.1, 0.0)


def example():
    rows = (
        Row(0, 4.0, True, (0.25, 1e-5, 1.0), (), 1.25e-7),
        Row(1, 1.0, False, (0.1, -2.0, 3.0)),
        Row(2, 0.1, True, (0.1, 0.2, 0.3, 0.4, 0.5)),
    )
    fitted = Fitted("EulerEDMSampler", "VanillaCFG", (2.5,), SIGMAS)
    return Calibration(fitted, 2, 4, {2: Budget((0, 2), 40.0, rows)}, {"samples": 3, "shapes": [[3, 8, 8]]})


def test_a_file_reads_back_as_what_was_saved_and_is_plain_text(tmp_path):
    example().save(tmp_path / "c.yaml")
    assert Calibration.load(tmp_path / "c.yaml") == example()
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
    text = (tmp_path / "c.yaml").read_text()
    assert "sampler: EulerEDMSampler" in text and "nodes: [0, 2]" in text and "!" not in text


@pytest.mark.parametrize(
    ("calls", "remedy"),
    [(9, "the nearest are 8 and 10"), (4, "the nearest is 5"), (20, "the nearest is 13"), (None, "name one of them")],
)
def test_a_budget_that_is_not_held_is_refused_with_the_nearest(calls, remedy):
    several = replace(example(), budgets=dict.fromkeys((8, 5, 6, 13, 10), example().budgets[2]))
    with pytest.raises(
        ValueError, match=f"^calls={calls}: this calibration holds budgets of 5, 6, 8, 10 and 13 calls; {remedy}$"
    ):
        several.budget(calls)


THREE = tuple(Row(step, sigma, True, (0.1,) * (1 + 2 * (step + 1))) for step, sigma in enumerate(SIGMAS[:3]))


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
    ("path", "value", "told"),
    [
        (("format",), "taylorseer_guider calibration 4", "this version reads"),
        (("format",), None, "no entry 'format'"),
        (("scale",), "much", "finite number"),
        (("scale",), float("inf"), "finite number"),
        (("sigmas",), [1.0, 4.0, 0.0], "falling"),
        (("branches",), 3, "from 1 to 2"),
        (("budgets",), {}, "with entries"),
        (("budgets",), [1], "not a mapping"),
        (("budgets", 2, "nodes"), [0, 7], "from 0 to 2"),
        (("budgets", 2, "nodes"), [0], r"nodes of budget 2 are \[0\], not 2 rising ones"),
        (("budgets", 2, "nodes"), [2, 0], r"nodes of budget 2 are \[2, 0\], not 2 rising ones"),
        (("about",), "hello", "about is not a mapping"),
        (("budgets", 2, "rows"), [], "holds 0 calls"),
        ((*ROW, "weights"), [1.0], "3 belong there"),
        ((*ROW, "weights"), [1.0, float("nan"), 1.0], "finite numbers"),
        ((*ROW, "weights"), [1.0, True, 1.0], "finite numbers"),
        ((*ROW, "weights"), [10**400, 0, 0], "finite numbers"),
        ((*ROW, "weights"), [1e38, 0, 0], "at most 1e"),
        ((*ROW, "low"), [1.0, 1.0, 1.0], "entries `low`"),
        ((*ROW, "call"), 1, "true or false"),
        ((*ROW, "call"), False, "weights"),
        ((*ROW, "step"), 5, "from 0 to 2"),
        ((*ROW, "sigma"), 0.1, "not at step 0"),
        ((*ROW, "extra"), "x", "unknown entry"),
        (("calls",), [1, 2], "says calls: .1, 2. and holds budgets of .2."),
        (("sampler",), "HeunEDMSampler", "3 rows, which are not the 5 visits of HeunEDMSampler"),
    ],
)
def test_a_malformed_file_gets_one_clear_line(tmp_path, path, value, told):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(edited(path, value)))
    with pytest.raises(ValueError, match=told) as raised:
        Calibration.load(tmp_path / "c.yaml")
    assert "c.yaml" in str(raised.value) and len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("scales", [[2.5], [2.5, 1.5], [1.0, 2.0, 3.0, 4.0], 2.5, [1.0, "much"]])
def test_a_range_of_scales_rises_and_has_two_or_three_that_weights_are_told_for(tmp_path, scales):
    data = edited(("format",), "taylorseer_guider calibration 2") | {"scales": scales}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match="'scales' should be a list"):
        Calibration.load(tmp_path / "c.yaml")


def test_a_range_has_weights_for_each_of_its_scales(tmp_path):
    data = edited(("format",), "taylorseer_guider calibration 2") | {"scales": [1.5, 2.5]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match="row 0 of budget 2 has 3 weights, 6 belong there"):
        Calibration.load(tmp_path / "c.yaml")


def free():
    """The example, whose calls are at sigmas of their own."""
    sigmas = (4.0, 0.7, 0.0)
    rows = tuple(Row(step, sigma, True, (0.1,) * (1 + 2 * (step + 1))) for step, sigma in enumerate(sigmas[:2]))
    return replace(example(), budgets={2: Budget((0, 1), 40.0, rows, sigmas)})


def test_a_budget_may_have_sigmas_of_its_own(tmp_path):
    free().save(tmp_path / "c.yaml")
    assert Calibration.load(tmp_path / "c.yaml") == free()
    assert "format: taylorseer_guider calibration 3" in (tmp_path / "c.yaml").read_text()


@pytest.mark.parametrize(
    ("sigmas", "told"),
    [
        ([4.0, 0.7, 0.1], "end at 0.1, not at 0"),
        ([4.0, 0.8, 0.0], "at sigma 0.7, which is not at step 1"),
        ([4.0, 0.7, 0.3, 0.0], "2 rows, which are not the 3 visits"),
        ([0.7, 4.0, 0.0], "falling"),
    ],
)
def test_sigmas_of_a_budget_are_those_of_its_rows(tmp_path, sigmas, told):
    data = yaml.safe_load(free().to_yaml())
    data["budgets"][2]["sigmas"] = sigmas
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match=told):
        Calibration.load(tmp_path / "c.yaml")


@pytest.mark.slow
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    longer = replace(example(), budgets={**example().budgets, 3: Budget((0, 1, 2), 50.0, THREE)})
    text = longer.to_yaml()
    for end in range(len(text) - 1):
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
        "- " * 100_000,
        "[[]," * 100_000,
        "".join(f"{' ' * depth}a:\n" for depth in range(900)),
    ]
    for text in [*hostile, *(f"{text}\n...\n" for text in hostile)]:  # the mark of a whole file does not help
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ValueError, match="not a whole calibration file") as raised:
            Calibration.load(tmp_path / "c.yaml")
        assert len(str(raised.value).splitlines()) == 1
    assert not trap.exists()
    with pytest.raises(ValueError, match="cannot be read"):
        Calibration.load(tmp_path)


DEEP = "? " * 100_000  # on which a parser ends the process


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{DEEP}".encode(), f"a: 1\n\ufeff{DEEP}".encode(), f"a: 1\r{DEEP}".encode(), f"a: 1\x85{DEEP}".encode(),
        f"a: 1\u2028{DEEP}".encode(), f"a: 1\u2029{DEEP}".encode(), DEEP.encode("utf-16"), DEEP.encode("utf-32"),
    ],
    ids=lambda text: str(text[:12]),
)  # fmt: skip
def test_a_hostile_file_is_refused_however_it_is_encoded(text, tmp_path):
    (tmp_path / "c.yaml").write_bytes(text)
    with pytest.raises(ValueError, match="not a whole calibration file"):
        Calibration.load(tmp_path / "c.yaml")


def test_a_file_may_have_a_byte_order_mark_and_other_lines(tmp_path):
    text = example().to_yaml()
    for written in (f"\ufeff{text}", text.replace("\n", "\r\n")):
        (tmp_path / "c.yaml").write_bytes(written.encode())
        assert Calibration.load(tmp_path / "c.yaml") == example()


def test_no_file_calls_twice_at_one_sigma(tmp_path):
    """Of two outputs at one sigma one is held, and the weights would be those of others."""
    data = edited(("sampler",), "HeunEDMSampler")
    visits = [(0, 4.0, True), (0, 1.0, True), (1, 1.0, True), (1, 0.1, False), (2, 0.1, False)]
    data["budgets"] = {3: data["budgets"][2] | {"nodes": [0, 1], "rows": []}}
    data["calls"], held = [3], 0
    for step, sigma, call in visits:
        held += call
        row = {"step": step, "sigma": sigma, "call": call, "weights": [0.1] * (1 + 2 * held), "low": [], "residual": 0.0}
        data["budgets"][3]["rows"].append(row)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match="row 2 of budget 3 calls at sigma 1.0, as one before it does"):
        Calibration.load(tmp_path / "c.yaml")


def test_threads_may_save_to_one_path(tmp_path):
    faults = []

    def save():
        try:
            for _ in range(20):
                example().save(tmp_path / "c.yaml")
        except OSError as error:
            faults.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
    assert Calibration.load(tmp_path / "c.yaml") == example()
