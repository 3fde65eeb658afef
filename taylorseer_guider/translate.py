"""A calibration's rows of one sampler as the rows of another, exactly: floats in, floats out.

All that a row does is affine in x and in the held outputs, and so is what leads from one node to the next. Heun's step, with its
two rows p at x and q at x_e = r x + (1 - r) p, r = end / start, ends at (x + x_e) / 2 + (end - start) / (2 end) (x_e - q): an
answer of Euler's that goes there is one row. But where Heun's corrector calls, the output is that of x_e; so there Euler's path
goes by way of x_e, and x, which the rest of the step needs, is had back from it and from the outputs that led there. One output
more is held for that. The other way, Heun's corrector is answered as its predictor was, so that x stays where it is.

A mean of means is a mean: weights of the means, and those of what means leave out, never mix. Each kind is translated on its own.
"""

from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise


@dataclass(frozen=True)
class Sum:
    """``x`` times an x, and what each output is weighed with, by (number of its call, branch)."""

    x: float
    outputs: dict

    def __add__(self, other):
        outputs = {key: self.outputs.get(key, 0.0) + other.outputs.get(key, 0.0) for key in {**self.outputs, **other.outputs}}
        return Sum(self.x + other.x, outputs)

    def __mul__(self, factor):
        return Sum(self.x * factor, {key: weight * factor for key, weight in self.outputs.items()})

    def of(self, x):
        """This sum, where x is itself a sum."""
        return x * self.x + Sum(0.0, self.outputs)

    def solved(self):
        """The x that this sum was made of, as a sum in which this one is x."""
        return Sum(1.0, {key: -weight for key, weight in self.outputs.items()}) * (1 / self.x)


ITSELF = Sum(1.0, {})


def stepped(x, answer, r):
    """Where Euler's step from ``x`` ends that is answered by ``answer``; ``r`` = end / start."""
    return x * r + answer * (1 - r)


def leading(end, r):
    """The answer that leads Euler's step to ``end``, a sum of the x where it begins; ``r`` = end / start."""
    return (end + ITSELF * -r) * (1 / (1 - r))


def as_euler(budget, sigmas, branches, history):
    """``budget`` (of one scale) of Heun's sampler over ``sigmas``, as one of Euler's that makes the same calls at the same x.

    Its rows weigh up to ``history`` outputs, which must be one more than those of ``budget`` do.
    """
    steps = [list(rows) for _, rows in groupby(budget.rows, lambda row: row.step)]
    by_kind = zip(*sums_of(budget, branches), strict=True)
    paths = [_path(steps, iter(sums), sigmas) for sums in by_kind]
    calls = [step[0].call or (n > 0 and steps[n - 1][-1].call) for n, step in enumerate(steps)]
    rows = []
    for step, call, held, *sums in zip(steps, calls, accumulate(calls), *paths, strict=True):
        made = row_of(step[-1], sums, min(held, history), held, branches)
        rows.append(replace(made, sigma=step[0].sigma, call=call))
    return replace(budget, rows=tuple(rows))


def as_heun(budget, sigmas, branches):
    """``budget`` (of one scale) of Euler's sampler over ``sigmas``, as one of Heun's that makes the same calls at the same x."""
    rows, held = [], accumulate(row.call for row in budget.rows)
    for row, sums, count, (start, end) in zip(budget.rows, sums_of(budget, branches), held, pairwise(sigmas), strict=True):
        rows.append(row)
        if end > 0:
            again = [_again(each, end / start) for each in sums]
            weighed = (len(row.weights) - 1) // branches
            rows.append(replace(row_of(row, again, weighed, count, branches), sigma=end, call=False))
    return replace(budget, rows=tuple(rows))


def _path(steps, sums, sigmas):
    """Euler's answers that go where Heun's ``steps`` do, a Sum each; ``sums`` gives those of all rows in turn."""
    found, x = [], ITSELF  # ``x``: Heun's at the beginning of the step, where x is Euler's
    for (_, *corrector), (start, end) in zip(steps, pairwise(sigmas), strict=True):
        r, predictor = end / start, next(sums)
        ahead, next_x = stepped(x, predictor.of(x), r), ITSELF
        for row in corrector:
            answer = next(sums)
            if row.call:
                next_x = _corrected(stepped(ITSELF, predictor, r).solved(), ITSELF, answer, start, end)
            else:
                ahead = _corrected(x, ahead, answer.of(ahead), start, end)
        found.append(leading(ahead, r))
        x = next_x
    return found


def _corrected(x, ahead, answer, start, end):
    """Where Heun's step from ``x`` ends that is answered by ``answer`` at ``ahead``."""
    return (x + ahead) * 0.5 + (ahead + answer * -1) * ((end - start) / (2 * end))


def _again(predictor, r):
    """The answer p = w x + s of a predictor, as a sum in which x is where it led, r x + (1 - r) p."""
    return predictor.of(stepped(ITSELF, predictor, r).solved())


def sums_of(budget, branches):
    """For each row, a Sum for each kind of weights: of what means leave out and, where means are weighed, of the means."""
    for row, calls in zip(budget.rows, accumulate(row.call for row in budget.rows), strict=True):
        kinds = [row.weights, [a + b for a, b in zip(row.weights, row.low, strict=True)]] if row.low else [row.weights]
        keys = [(calls - 1 - n // branches, n % branches) for n in range(len(row.weights) - 1)]
        yield [Sum(x, dict(zip(keys, outputs, strict=True))) for x, *outputs in kinds]


def row_of(row, sums, weighed, calls, branches):
    """``row`` with the weights that ``sums`` are, of the newest outputs, ``weighed`` of them, after so many ``calls``."""
    keys = [(calls - 1 - n, branch) for n in range(weighed) for branch in range(branches)]
    weights, *whole = [(each.x, *(each.outputs.get(key, 0.0) for key in keys)) for each in sums]
    low = tuple(b - a for a, b in zip(weights, whole[0], strict=True)) if whole else ()
    return replace(row, weights=weights, low=low)
