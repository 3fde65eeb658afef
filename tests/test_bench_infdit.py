"""scripts/bench/infdit.py: Inf-DiT's network of a checkout named by INFDIT_ROOT, features cached and forecast in it."""

import os
from importlib.util import find_spec

import pytest
import torch

from bench import memory

SMALL = {"layers": 2, "width": 64, "heads": 4, "block": 32, "pixels": 16}
ROOT = os.environ.get("INFDIT_ROOT")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT, reason="no INFDIT_ROOT: a checkout of THUDM/Inf-DiT"),
    pytest.mark.skipif(not find_spec("sat"), reason="Inf-DiT's network: pip install --no-deps SwissArmyTransformer"),
]


def runs(root):
    """For a process of its own, which the host leaves changed: what runs of one engine say."""
    from bench import infdit

    torch.set_num_threads(1)
    engine, config = infdit.build(root, **{name: value for name, value in SMALL.items() if name != "pixels"})
    config.sampler_config.params.num_steps = 4
    small, told = infdit.small_picture(SMALL["pixels"]), {}
    host = infdit.sampler(config, "full run", None)
    full, told["full"] = infdit.sample(engine, host, small)
    before = {name: set(vars(module)) for name, module in engine.net.named_modules()}
    every, told["every"] = infdit.sample(engine, host, small, features_of=(7, 2, "visits"))
    few, told["few"] = infdit.sample(engine, host, small, features_of=(2, 1, "once"))
    again, _ = infdit.sample(engine, host, small)
    before["mixins.adaln_layer"] |= {"cross_attention_forward"}
    told["left"] = [name for name, module in engine.net.named_modules() if set(vars(module)) != before[name]]
    ours = infdit.sampler(config, "outputs", 2)
    _, told["ours"] = infdit.sample(engine, ours, small)
    same = {"every": torch.equal(every, full), "few": torch.equal(few, full), "again": torch.equal(again, full)}
    return {**told, "same": same, "blocks": len(infdit.blocks(engine.net)), "spread": full.std().item()}


@pytest.fixture(scope="module")
def told():
    return memory.in_fresh_process("test_bench_infdit:runs", root=ROOT)


def test_a_run_of_full_passes_alone_is_bit_equal_to_the_hosts_and_hooks_are_gone_afterwards(told):
    assert told["same"] == {"every": True, "few": False, "again": True}
    assert told["left"] == [] and told["spread"] > 0.05


def test_calls_passes_and_bytes_are_told(told):
    counts = {name: (told[name]["calls"], told[name]["passes"]) for name in ("full", "every", "few", "ours")}
    assert counts == {"full": (7, 7), "every": (7, 7), "few": (2, 4), "ours": (2, 2)}
    assert told["blocks"] == 5  # attention and MLP of two layers, and the first one's cross attention
    one = (4 * SMALL["pixels"] // 4) ** 2 * SMALL["width"] * 4 / memory.MIB  # of tokens of 4 x 4 pixels, in float32
    assert told["few"]["held_MiB"] == pytest.approx(5 * 2 * one)
    assert told["every"]["held_MiB"] == pytest.approx(5 * 3 * one)
    assert 0 < told["ours"]["held_MiB"] < told["few"]["held_MiB"] and told["full"]["held_MiB"] == 0
