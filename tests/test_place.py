"""Where a sampler is on its schedule, with and without steps that it announces."""

import math

import pytest
import torch

from taylorseer_guider.place import Place
from taylorseer_guider.schedule import Schedule

KEYS = torch.tensor([4.0, 3.0, 2.0, 0.0], dtype=torch.float64)
HEUN, EULER, UNKNOWN = 2, 1, None


def place(visits, keys=KEYS):
    return Place(Schedule(keys), visits)


@pytest.mark.parametrize(("step", "visits"), [(0, 2), (1, 2), (2, 1)])
def test_a_step_of_heuns_has_two_visits_and_the_one_that_ends_at_0_has_one(step, visits):
    heun = place(HEUN)
    heun.announce(step)
    for n in range(visits):
        assert heun.expects_more() and not heun.is_through()
        heun.visited.append(4.0 - step - n)
    assert heun.is_through() and not heun.expects_more()


def test_of_a_step_whose_visits_are_not_known_nothing_is_expected_and_it_is_never_through():
    unknown = place(UNKNOWN)
    unknown.announce(0)
    assert not unknown.expects_more() and not unknown.is_through()


@pytest.mark.parametrize(("visits", "last", "all_of_them"), [(EULER, 0.0, 3), (HEUN, 0.0, 5), (EULER, 1.0, 3), (HEUN, 1.0, 6)])
def test_a_loop_without_steps_is_over_with_its_last_visit(visits, last, all_of_them):
    walked = place(visits, torch.tensor([4.0, 3.0, 2.0, last]))
    assert [walked.is_over(made) for made in (all_of_them - 1, all_of_them)] == [False, True]
    assert not place(UNKNOWN).is_over(100)
    walked.announce(0)
    assert not walked.is_over(all_of_them)  # its steps say when it ends


def test_a_loop_over_a_part_takes_the_step_of_its_first_visit():
    part = place(HEUN)
    part.leave_steps()
    part.announce(0)  # of the part, not of the schedule
    assert (part.node(3.0, torch.float64), part.step) == (1, 1)
    part.visited.append(3.0)
    assert (part.node(2.0, torch.float64), part.step) == (2, 1)


def test_samples_at_different_sigmas_are_at_no_node():
    euler = place(EULER)
    assert euler.key(torch.tensor([3.0, 3.0])) == 3.0
    assert math.isnan(euler.key(torch.tensor([3.0, 2.0]))) and euler.node(math.nan, torch.float64) is None
