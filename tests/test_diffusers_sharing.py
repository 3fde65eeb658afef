"""Pipelines of diffusers that share a network, and runs of one pipeline in several threads."""

import pytest
import torch

from loops import in_a_thread

pytest.importorskip("diffusers")

from taylorseer_guider.adapters.diffusers import enable
from tiny_diffusers import Pipeline, mixture, sample

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def sharing(name, *others):
    """Pipelines, each with a scheduler of its own, whose network is the first one's."""
    first, *rest = (Pipeline(mixture(), each) for each in (name, *others))
    for each in rest:
        each.unet = first.unet
    return first, *rest


@pytest.mark.parametrize("name", ["flow", "dpm", "euler"])
def test_a_pipeline_whose_network_follows_a_scheduler_that_is_not_begun_is_as_it_was(name, caplog):
    first, second = sharing(name, name)
    full = sample(first, 10)
    enable(second, calls=4)
    assert torch.equal(sample(first, 10), full)


def test_that_another_pipelines_network_is_taken_over_is_said(caplog):
    first, second = sharing("euler", "euler karras")
    enable(first, calls=4)
    enable(first, calls=5)
    second.scheduler, own = first.scheduler, second.scheduler
    enable(second, calls=5)
    assert not caplog.records
    second.scheduler = own
    enable(first, calls=5)
    assert "another pipeline that shares a network with this one was enabled" in caplog.text


@pytest.mark.parametrize("name", ["ddim", "euler", "flow"])
def test_where_another_thread_runs_the_network_in_the_middle_all_computes_and_the_log_says_so(name, caplog):
    first, second = sharing(name, name)
    full, begun = sample(second, 10), []
    enable(first, calls=4)

    def beside(outputs, i):
        if i == 4:
            in_a_thread(lambda: begun.append(sample(second, 10)))
        return outputs[0]

    sample(first, 10, combine=beside)
    assert torch.equal(begun[0], full) and "another thread runs the network in the middle of a run" in caplog.text
    runs, streams = first.unet.runs, enable(first, calls=4)
    sample(first, 10)
    assert first.unet.runs - runs == streams.report.calls == 4  # the next run forecasts again


def test_a_run_that_was_left_in_a_thread_that_is_gone_is_nobodys():
    """Where a loop sets timesteps once and for all."""
    pipe = Pipeline(mixture(), "ddim")
    streams = enable(pipe, calls=4)
    sample(pipe, 10)

    def left():
        pipe.unet.breaks = 3
        with pytest.raises(RuntimeError, match="broken"):
            sample(pipe, 10, begun=True)

    in_a_thread(left)
    sample(pipe, 10, begun=True)
    assert streams.report.calls == 4
