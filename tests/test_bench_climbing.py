"""The searches of a peer that plans by annealing and hill climbing."""

import itertools
import random

from bench.peers.climbing import anneal, neighbours


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
