"""The core of the adapters: which visits it asks the model about, what it answers, and where one loop ends and another begins."""

import copy
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from loops import in_a_thread, said
from taylorseer_guider.adapters.core import UNKNOWN, Forecaster
from taylorseer_guider.hosts import Stepping

SIGMAS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.0)
EXACT = {"interval": 1, "repeat_visits": "compute"}
EULER, HEUN = Stepping(method="euler", visits=1, noisy=False), Stepping(method="heun", visits=2, noisy=False)
HEUNS = (8.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5)  # where Heun's method asks


class Line:
    """A model whose output is a line in sigma, and its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma):
        self.calls.append(sigma)
        return x * 0 + 3 + 2 * sigma


def forecaster(sigmas=SIGMAS, **options):
    return Forecaster(torch.tensor(sigmas), **options)


def answers(made, model, sigmas, shape=(2, 3), x=None):
    """The first number of each answer at ``sigmas``, of one loop over them."""
    x = torch.ones(shape) if x is None else x
    return [made.visit(x, torch.full(shape[:1], sigma), lambda *_, sigma=sigma: model(x, sigma)) for sigma in sigmas]


def actions(made):
    return [visit.action for visit in made.report.visits]


def reasons(report):
    return [visit.reason for visit in report.visits]


def test_planned_visits_call_the_model_and_the_others_are_exact_on_a_line():
    made, model = forecaster(stepping=Stepping(), interval=2, forecast={"coordinate": "sigma"}), Line()
    found = answers(made, model, SIGMAS[:-1])
    assert model.calls == [8.0, 2.0, 0.5] and actions(made) == ["call", "forecast", "call", "forecast", "call"]
    expected = [19.0, 19.0, 7.0, 5.0, 4.0]  # the second has one output to go by, the fourth two
    assert [float(answer[0, 0]) for answer in found] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("options", [EXACT, {"use_cache": False}])
def test_off_modes_hand_on_what_the_model_says(options):
    made, model = forecaster(**options), Line()
    found = answers(made, model, SIGMAS[:-1])
    assert model.calls == list(SIGMAS[:-1]) and made.report.forecasts == 0
    assert all(torch.equal(answer, torch.full((2, 3), 3 + 2 * sigma)) for answer, sigma in zip(found, SIGMAS, strict=False))


def test_an_answer_is_not_the_memory_that_the_model_writes_into():
    made, memory = forecaster(**EXACT), torch.ones(2, 3)
    answer = made.visit(torch.ones(2, 3), torch.full((2,), 8.0), lambda *_: memory)
    memory.zero_()
    assert torch.equal(answer, torch.ones(2, 3))


def test_a_loop_whose_stepping_is_known_ends_with_its_last_visit():
    made = forecaster(stepping=Stepping(visits=1, noisy=False))
    answers(made, Line(), SIGMAS[:-2])
    assert not made.report.finished
    answers(made, Line(), SIGMAS[-2:-1])
    assert made.report.finished and len(made.report.visits) == 5


def test_a_sigma_that_rises_begins_another_loop_that_knows_nothing_of_the_first():
    made, model = forecaster(interval=4), Line()
    answers(made, model, SIGMAS[:3])
    first = made.report
    answers(made, model, SIGMAS[1:3])
    assert first.finished and made.report is not first
    assert reasons(first) == ["no history", "skipped", "skipped"]
    assert reasons(made.report) == ["no history", "skipped"]


def test_heuns_second_visits_are_no_tiles_and_begin_no_loop():
    made, model = forecaster(stepping=HEUN), Line()
    answers(made, model, HEUNS)
    assert model.calls == [8.0, 2.0, 0.5] and len(made.report.visits) == 9 and made.report.finished


def test_on_a_sampler_that_is_not_known_second_visits_of_a_called_node_compute_and_half_of_the_nodes_are_called():
    made, model = forecaster(), Line()
    answers(made, model, HEUNS)
    nodes = sorted(set(model.calls), reverse=True)
    assert len(nodes) == 3 and nodes[0] == 8.0
    assert model.calls == [sigma for sigma in HEUNS if sigma in nodes]
    assert {visit.order for visit in made.report.visits if visit.action == "forecast"} == {0}


@pytest.mark.parametrize(
    ("stepping", "sigmas"),
    [
        (EULER, HEUNS),  # another method
        (HEUN, SIGMAS[:-1]),
        (HEUN, (11.0, 4.0, 5.6, 2.0, 2.8, 1.0)),  # churn
        (EULER, (8.0, 5.6, 4.0, 2.8, 2.0)),  # midpoints
    ],
)
def test_a_sampler_that_steps_otherwise_than_it_was_said_to_is_one_that_is_not_known(stepping, sigmas, caplog):
    made, model = forecaster(stepping=stepping), Line()
    answers(made, model, sigmas)
    assert made.stepping == UNKNOWN and len(said(caplog)) == 1
    assert {visit.order for visit in made.report.visits} <= {None, 0}


def test_several_outputs_at_the_first_sigma_are_tiles_and_compute():
    made, model = forecaster(), Line()
    answers(made, model, [8.0, 8.0, 4.0, 4.0])
    assert model.calls == [8.0, 8.0, 4.0, 4.0] and "tiled" in reasons(made.report)


def test_a_batch_at_different_sigmas_computes_and_is_not_remembered():
    made, x = forecaster(interval=4), torch.ones(2, 3)
    made.visit(x, torch.tensor([8.0, 4.0]), lambda *_: x)
    made.visit(x, torch.tensor([4.0, 4.0]), lambda *_: x)
    assert reasons(made.report) == ["no common sigma", "no history"]


def test_x_of_another_shape_computes():
    made, model = forecaster(interval=4), Line()
    answers(made, model, SIGMAS[:2])
    answers(made, model, SIGMAS[2:4], shape=(1, 5))
    assert actions(made) == ["call", "forecast", "call", "forecast"]


def test_gradients_compute():
    made, x = forecaster(interval=4), torch.ones(2, 3, requires_grad=True)
    for sigma in (8.0, 4.0):
        answer = made.visit(x, torch.full((2,), sigma), lambda *_: x * 2)
        assert answer.requires_grad
    assert made.report.calls == 2


def test_a_visit_from_within_the_model_computes():
    made, x = forecaster(interval=4), torch.ones(2, 3)
    at = torch.full((2,), 8.0), torch.full((2,), 4.0)
    made.visit(x, at[0], lambda *_: x)
    answer = made.visit(x, at[0] / 8, lambda *_: made.visit(x, at[1], lambda *_: x + 2))
    assert torch.equal(answer, x)  # a forecast asks nothing
    made = forecaster(interval=4)
    answer = made.visit(x, at[0], lambda *_: made.visit(x, at[1], lambda *_: x + 2))
    assert torch.equal(answer, x + 2) and [visit.sigma for visit in made.report.visits] == [8.0]


def test_a_model_that_raises_leaves_no_visit():
    made, x = forecaster(interval=4), torch.ones(2, 3)

    def fails(*_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        made.visit(x, torch.full((2,), 8.0), fails)
    answers(made, Line(), SIGMAS[:3])
    assert actions(made) == ["call", "forecast", "forecast"]


def test_another_thread_begins_a_loop_of_its_own():
    made = forecaster(interval=4)
    answers(made, Line(), SIGMAS[:2])
    other = threading.Thread(target=answers, args=(made, Line(), SIGMAS[2:4]))
    other.start()
    other.join()
    assert reasons(made.report) == ["no history", "skipped"]


def test_a_loop_that_begins_while_another_thread_begins_one_ends_its_own_alone(monkeypatch):
    made, model = forecaster(), Line()
    answers(made, model, SIGMAS[:2])
    known, theirs = threading.get_ident, []

    def looked():
        """Who is here, after another thread has begun its loop in the meantime."""
        monkeypatch.setattr(threading, "get_ident", known)
        at = torch.ones(2, 3), torch.full((2,), SIGMAS[0])
        in_a_thread(lambda: theirs.append(made.ask(*at).run))
        return known()

    monkeypatch.setattr(threading, "get_ident", looked)
    made.begin(torch.tensor(SIGMAS))
    assert theirs and not theirs[0].ended


def test_a_loop_is_ended_by_its_own_thread_alone_or_when_that_is_gone():
    made, model = forecaster(), Line()

    def ending(x, sigma):
        in_a_thread(made.end)
        return model(x, sigma)

    answers(made, ending, SIGMAS[:3])
    assert len(made.report.visits) == 3 and not made.report.finished
    in_a_thread(lambda: answers(made, model, SIGMAS[:3]))
    assert not made.report.finished
    made.end()
    assert made.report.finished


def test_a_loop_in_a_pools_thread_can_be_ended_from_outside():
    made = forecaster()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(answers, made, Line(), SIGMAS[:3]).result()
        made.end()
        assert made.report.finished


def test_a_model_that_raises_in_one_thread_leaves_another_ones_loop_as_it_is():
    made, begun, goes_on = forecaster(stepping=EULER, calls=3), threading.Event(), threading.Event()

    def broken(*_):
        begun.set()
        goes_on.wait(10)
        raise RuntimeError("out of memory")

    def other():
        with pytest.raises(RuntimeError):
            made.visit(torch.ones(2, 3), torch.full((2,), SIGMAS[0]), broken)

    thread, x = threading.Thread(target=other), torch.ones(2, 3)
    thread.start()
    begun.wait(10)
    answers(made, Line(), SIGMAS[:2], x=x)
    goes_on.set()
    thread.join()
    answers(made, Line(), SIGMAS[2:-1], x=x)
    assert len(made.report.visits) == len(SIGMAS) - 1 and made.report.calls == 3


def test_steps_that_are_told_tell_where_a_loop_begins():
    made, x, calls = forecaster(interval=2), torch.ones(2, 3), []
    for step in (0, 1, 2, 0, 1):
        made.visit(x, torch.full((2,), SIGMAS[step]), lambda *_, step=step: calls.append(step) or x, step=step)
    assert calls == [0, 2, 0] and [visit.step for visit in made.report.visits] == [0, 1]


@pytest.mark.parametrize("following", [2, 0])
def test_a_half_that_was_never_answered_is_given_up_at_the_next_step_and_in_the_next_loop(following):
    made, x = forecaster(interval=2), torch.ones(2, 3)
    for step in (0, 1):
        made.visit(x, torch.full((2,), SIGMAS[step]), lambda *_: x, step=step)
    assert not made.ask(x, torch.full((2,), SIGMAS[2]), step=2).forecast  # whose model raises
    assert made.ask(x, torch.full((2,), SIGMAS[2]), step=2).run is None  # and is tried again: computed
    for step in (following + 1, following + 2) if following else (0, 1):
        made.visit(x, torch.full((2,), SIGMAS[step]), lambda *_: x, step=step)
    assert actions(made) == (["call", "forecast", "forecast", "call"] if following else ["call", "forecast"])


def test_a_visit_has_two_halves_for_a_host_that_runs_its_model_itself():
    made, x = forecaster(interval=2), torch.ones(2, 3)
    asked = made.ask(x, torch.full((2,), 8.0))
    assert not asked.forecast and torch.equal(made.answer(asked, x * 2), x * 2)
    asked = made.ask(x, torch.full((2,), 4.0))
    assert asked.forecast and torch.equal(made.answer(asked), x * 2)


def test_new_sigmas_begin_another_loop():
    made = forecaster(interval=2)
    answers(made, Line(), SIGMAS[:3])
    made.begin(torch.tensor([9.0, 3.0, 0.0]))
    answers(made, Line(), [9.0, 3.0])
    assert actions(made) == ["call", "forecast"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigmas": (1.0, 2.0, 0.0)}, "give falling sigmas"),
        ({"sigmas": (1.0,)}, "are no schedule"),
        ({"sigmas": (math.nan, 1.0, 0.0)}, "give falling sigmas"),
        ({"intervals": 3}, "unknown option intervals"),
        ({"calibration": "mine.yaml"}, "unknown option calibration"),
        ({"calls": 9}, "this schedule has 5 nodes"),
        ({"interval": 0}, "interval=0"),
        ({"sigmas": (math.inf, 1.0, 0.0)}, "sigmas=inf, 1: give falling sigmas"),
        ({"scale": None}, "scale=None: give the guidance scale"),
        ({"scale": "2"}, "scale='2'"),
        ({"scale": math.nan}, "scale=nan"),
    ],
)
def test_what_cannot_be_is_said_at_construction(options, said):
    with pytest.raises(ValueError, match=said):
        forecaster(**options)


@pytest.mark.parametrize("sigmas", ["abc", ["3", "0"], [3.0, None, 0.0], {"a": 1}, torch.ones(3, dtype=torch.complex64)], ids=str)
def test_sigmas_that_are_no_numbers_are_said(sigmas):
    with pytest.raises(ValueError, match="sigmas: not a list of numbers"):
        Forecaster(sigmas)


@pytest.mark.parametrize("wrong", [None, (torch.ones(2, 3),), "image"], ids=str)
def test_a_model_that_returns_no_tensor_is_said(wrong):
    made = forecaster()
    with pytest.raises(TypeError, match=f"the model returned a {type(wrong).__name__}: it is to return"):
        made.visit(torch.ones(2, 3), torch.ones(2), lambda x, sigma: wrong)
    assert made.report is None or not made.report.calls


def test_a_forecaster_can_be_copied_and_pickled():
    for made in (copy.deepcopy(forecaster()), pickle.loads(pickle.dumps(forecaster()))):
        assert torch.equal(answers(made, Line(), SIGMAS)[-1], answers(forecaster(), Line(), SIGMAS)[-1])


def test_loops_of_one_visit_are_loops_of_their_own():
    """Of a sampler that is not known, on a schedule of one step."""
    made, model = forecaster((14.0, 0.0)), Line()
    for n in range(1, 4):
        answers(made, model, [14.0])
        assert made.report.calls == len(made.report.visits) == 1 and len(model.calls) == n
