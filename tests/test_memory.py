"""Memory of an answer is used again, and never while anybody can still see it."""

import copy
import threading
import weakref

import pytest
import torch

from problems import GaussianMixture, answered, begun, sample, sampler
from taylorseer_guider import history
from taylorseer_guider.memory import MOST, Memory

SHAPE = (2, 3, 4, 8)

HOLDS = {
    "itself": lambda answer: answer,
    "a view": lambda answer: answer[1:, :2],
    "a view of another dtype": lambda answer: answer.view(torch.int32),
    "detached": lambda answer: answer.detach(),
    "data": lambda answer: answer.data,
    "a numpy array": lambda answer: answer.numpy(),
    "a slice of a numpy array": lambda answer: answer.numpy()[:1],
    "a buffer": lambda answer: memoryview(answer.numpy()),
    "a DLPack capsule": torch.utils.dlpack.to_dlpack,
    "what came out of a DLPack capsule": lambda answer: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(answer)),
    "its storage": lambda answer: answer.untyped_storage(),
    "a weak reference to its storage": lambda answer: weakref.ref(answer.untyped_storage()),
    "another tensor set to its storage": lambda answer: torch.empty(0).set_(answer.untyped_storage()),
    "a parameter": torch.nn.Parameter,
    "a graph that saved it": lambda answer: answer * torch.ones((), requires_grad=True),
    "a generator": lambda answer: (row for row in [answer]),
    "a closure": lambda answer: lambda: answer,
    "a cycle": lambda answer: [ring := [answer], ring.append(ring)],
}


def address_after(hold):
    """Whether memory is another's, asked for once more while what ``hold`` made of it is held."""
    memory = Memory()
    answer = memory.empty(SHAPE, torch.float32)
    address, held = answer.data_ptr(), hold(answer)
    del answer
    again = memory.empty(SHAPE, torch.float32)
    kept = held is not None
    return kept, again.data_ptr() == address


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_memory_that_something_holds_is_left_alone(hold):
    assert address_after(hold) == (True, False)


@pytest.mark.parametrize("use", [lambda a: None, lambda a: a.sum() and None, lambda a: a.numpy().sum() and None])
def test_memory_that_nothing_holds_is_used_again(use):
    assert address_after(use) == (False, True)


def test_a_copy_made_lazily_keeps_what_it_was_made_of():
    memory = Memory()
    answer = memory.empty(SHAPE, torch.float32).fill_(1)
    copied = answer._lazy_clone()
    del answer
    memory.empty(SHAPE, torch.float32).fill_(2)
    assert torch.equal(copied, torch.ones(SHAPE))


def test_memory_that_other_processes_may_see_is_left_alone():
    memory = Memory()
    memory.empty(SHAPE, torch.float32).share_memory_()
    assert not memory.empty(SHAPE, torch.float32).is_shared()


@pytest.mark.parametrize("size", [1, 1000])
def test_memory_whose_size_was_changed_is_not_used_again(size):
    memory = Memory()
    answer = memory.empty(SHAPE, torch.float32)
    answer.untyped_storage().resize_(4 * size)
    del answer
    again = memory.empty(SHAPE, torch.float32)
    assert again.untyped_storage().nbytes() == again.numel() * 4


def test_a_run_keeps_two_storages_at_most_and_none_when_it_is_cleared():
    memory = Memory()
    answers = [memory.empty(SHAPE, torch.float32) for _ in range(5)]
    gone = [weakref.ref(answer.untyped_storage()) for answer in answers]
    assert len({answer.data_ptr() for answer in answers}) == 5
    del answers
    assert sum(ref() is not None for ref in gone) <= MOST
    memory.clear()
    assert not any(ref() is not None for ref in gone)


def test_what_was_made_in_inference_mode_serves_outside_of_it_and_back():
    memory = Memory()
    for inside in (True, False, True):
        with torch.inference_mode(inside):
            answer = memory.empty(SHAPE, torch.float32)
            assert answer.is_inference() is inside
            answer.fill_(1)
        del answer


def test_threads_that_ask_at_once_get_memory_of_their_own():
    memory, wrong, start = Memory(), [], threading.Barrier(4)

    def ask(number):
        start.wait()
        for _ in range(300):
            answer = memory.empty((64,), torch.float32).fill_(number)
            if not bool((answer == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ["EulerEDMSampler", "HeunEDMSampler", "DPMPP2MSampler"])
@pytest.mark.parametrize("keep", [lambda a: a, lambda a: a.numpy(), lambda a: a[:, :1]], ids=["tensor", "numpy", "view"])
def test_answers_that_a_host_keeps_stay_as_they_were(name, keep, monkeypatch):
    monkeypatch.setattr(history, "LARGE", 1)
    built, kept = sampler(name), []
    denoise = built.denoise

    def watched(*args):
        answer = denoise(*args)
        kept.append((keep(answer), copy.deepcopy(keep(answer))))
        return answer

    built.denoise = watched
    problem = GaussianMixture()
    found = built(problem, *problem.inputs())
    assert len(kept) >= 20 and all((torch.as_tensor(a) == torch.as_tensor(b)).all() for a, b in kept)
    assert torch.equal(found, sample(name, GaussianMixture())[0])


def test_a_run_is_the_same_bit_for_bit_without_memory_that_is_used_again(monkeypatch):
    monkeypatch.setattr(history, "LARGE", 1)
    used, _ = sample("HeunEDMSampler", GaussianMixture())
    monkeypatch.setattr(history.Memory, "empty", lambda self, shape, dtype: torch.empty(shape, dtype=dtype))
    assert torch.equal(used, sample("HeunEDMSampler", GaussianMixture())[0])


def test_forecasts_that_are_dropped_share_one_memory_and_the_end_of_the_run_frees_it():
    guider = sampler("EulerEDMSampler", scale=0, interval=4, forecast={"quantity": "denoised"}).guider
    run = begun(guider, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 0.0)
    x, addresses = torch.randn(1, 3, 160, 160), []
    for sigma in (8.0, 7.0, 6.0, 5.0):
        answer = answered(guider, x, sigma)
        addresses.append(answer.data_ptr())
    assert [visit.action for visit in run.report.visits] == ["call", "forecast", "forecast", "forecast"]
    assert addresses[1] == addresses[3] != addresses[2]  # the one before was still there when the next was made
    del answer
    run.end()
    assert not run.history._memory._kept
