"""The map in words and numbers: the table, the JSON, and the lines of YAML that were chosen."""

import json
import math

import torch

from ...forecast import COORDINATES, QUANTITIES
from .errors import INTERVALS, ORDERS, principal
from .survey import COORDINATE

HELD = (0.9, 0.99, 0.999)
SHOWN = 2  # the interval that the tables are of
NEAR = 6  # dB above the target from which on the full run's own error does not matter


def yaml_lines(options):
    """``options`` of the guider as lines of its ``params``."""
    return [f"{name}: {_flow(value)}" for name, value in options.items()]


def _flow(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def expected(survey, full_calls):
    """One sentence: what to expect of what was chosen, where a full run takes ``full_calls``."""
    choice = survey.choice
    if choice is None:
        return f"Nothing is chosen: {survey.why}."
    near = f"about {choice.middle:.0f} dB to the full run ({choice.low:.0f} to {choice.high:.0f})"
    first = ", after a first picture with all of them" if "learn" in choice.params else ""
    said = f"{near} with {choice.calls} calls instead of {full_calls}{first}"
    if not survey.reached:
        said = f"Any number of calls may miss {survey.target:g} dB to the full run; the nearest: {said}."
    elif choice.calls > min(survey.best):
        said = f"To expect: {said}. Fewer may miss {survey.target:g} dB."
    else:
        said = f"To expect: {said}. Fewer were not looked at."
    if survey.full_db < survey.target + NEAR:
        said += f" The full run itself is {survey.full_db:.0f} dB from what it solves, which `calls` alone and `learn` are after."
    return said


def table(survey, title, full_calls):
    """All of it as aligned lines."""
    parts = [title, components(survey.outputs), by_node(survey.outputs), by_quantity(survey.outputs)]
    if survey.choice is not None:
        parts += [foretold(survey)]
    if survey.measured:
        parts += [checked(survey)]
    return "\n\n".join([*parts, "\n".join([expected(survey, full_calls), *(f"  {line}" for line in chosen_lines(survey))])])


def chosen_lines(survey):
    return [] if survey.choice is None else yaml_lines(survey.choice.options)


def components(outputs):
    """How many principal components hold how much of the movement."""
    lines = [f"{'components that hold':<22}" + "".join(f"{f'{share:.1%}':>8}" for share in HELD)]
    for name, vectors in (("outputs", outputs.denoised), ("first differences", outputs.slopes(COORDINATE))):
        shares = principal(vectors)[1].square()
        shares = (shares / shares.sum()).cumsum(0)
        lines.append(f"{name:<22}" + "".join(f"{int((shares < share).sum()) + 1:>8}" for share in HELD))
    return "\n".join(lines)


def by_node(outputs):
    """Errors of the plugin's own kind of forecast, what the next difference foretells of them, and sums of |weights|."""
    place = INTERVALS.index(SHOWN)
    errors, remainders = (values("denoised", COORDINATE)[:, place] for values in (outputs.errors, outputs.remainders))
    sums = outputs.weights(COORDINATE)[:, place].abs().sum(-1)
    head = "".join(f"{f'order {order}':>10}{'foretold':>9}{'|w|':>6}" for order in ORDERS)
    lines = [
        f"error of the output's forecast at interval {SHOWN} in {COORDINATE}, share of the last output; what the next difference",
        "foretells of it; sum of |weights|",
        f"{'node':>4}{'sigma':>10}{head}",
    ]
    for node, sigma in enumerate(outputs.sigmas):
        cells = "".join(
            f"{_number(errors[i, node], 10)}{_number(remainders[i, node], 9)}{_number(sums[i, node], 6, 1)}" for i in ORDERS
        )
        lines.append(f"{node:>4}{sigma:>10.4g}{cells}".rstrip())
    return "\n".join(lines)


def by_quantity(outputs):
    """Root mean square error over the nodes, by quantity, coordinate, interval and order."""
    intervals = INTERVALS[:2]
    head = "".join(f"{f'{interval}, order {order}':>12}" for interval in intervals for order in ORDERS[:3])
    lines = ["root mean square error over the nodes, by interval and order", f"{'quantity':<10}{'coordinate':<11}{head}"]
    for quantity in QUANTITIES:
        for coordinate in COORDINATES:
            means = outputs.errors(quantity, coordinate).square().nanmean(-1).sqrt()
            cells = "".join(_number(means[order, i], 12) for i in range(len(intervals)) for order in ORDERS[:3])
            lines.append(f"{quantity:<10}{coordinate:<11}{cells}")
    return "\n".join(lines)


def foretold(survey):
    """What is to be expected, by calls."""
    full = f"; the full run itself is {survey.full_db:.1f} dB from what it solves, nearly" if survey.full_db else ""
    lines = [
        f"dB to the full run, foretold without a call{full}",
        f"{'calls':>5}{'`calls` alone':>18}{'learn: true':>18}{'best':>18}  its options",
    ]
    for calls, best in survey.best.items():
        cells = "".join(f"{_range(row):>18}" for row in (survey.default[calls], survey.learnt[calls], best))
        lines.append(f"{calls:>5}{cells}  {', '.join(yaml_lines(best.params)) or 'the default'}")
    return "\n".join(lines)


def checked(survey):
    """What real runs came to, beside what was foretold of them."""
    lines = ["dB to the full run of real runs, with the best options", f"{'calls':>5}{'foretold':>18}{'measured':>10}  options"]
    for calls, db in survey.measured.items():
        told = survey.best.get(calls)
        cells = f"{_range(told) if told else '':>18}{db:>10.1f}"
        lines.append(f"{calls:>5}{cells}  {', '.join(yaml_lines(told.params if told else {})) or 'the default'}")
    return "\n".join(lines)


def as_json(survey, run):
    """All figures, for programs; what is not a number is null. ``run`` says what was followed."""
    outputs = survey.outputs
    names = [(quantity, coordinate) for quantity in QUANTITIES for coordinate in COORDINATES]
    told = lambda row: {**row.options, "low": row.low, "high": row.high}  # noqa: E731
    found = {
        **run, "sigmas": list(outputs.sigmas), "orders": list(ORDERS), "intervals": list(INTERVALS),
        "singular_values": {
            "outputs": principal(outputs.denoised)[1], "first_differences": principal(outputs.slopes(COORDINATE))[1]
        },
        "paths": {"outputs": principal(outputs.denoised)[0], "first_differences": principal(outputs.slopes(COORDINATE))[0]},
        "errors": {" ".join(name): outputs.errors(*name) for name in names},
        "remainders": {" ".join(name): outputs.remainders(*name) for name in names},
        "weight_sums": {name: outputs.weights(name).abs().sum(-1) for name in COORDINATES},
        "foretold": [told(row) for row in (*survey.rows, *survey.learnt.values())], "measured": survey.measured,
        "full_run_db": survey.full_db, "target_db": survey.target, "reached": survey.reached,
        "choice": survey.choice and told(survey.choice), "why": survey.why,
    }  # fmt: skip
    return json.dumps(_plain(found), allow_nan=False)


def _plain(value):
    """``value`` with lists in the place of tensors, five digits of numbers, and None for what is none."""
    if torch.is_tensor(value):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _number(value, width, digits=4):
    return f"{'' if math.isnan(value) else f'{float(value):.{digits}f}':>{width}}"


def _range(row):
    return f"{row.middle:.1f} ({row.low:.0f}..{row.high:.0f})"
