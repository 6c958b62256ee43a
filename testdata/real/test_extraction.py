"""python -m unittest discover testdata/real"""
import itertools
import random
import unittest

import extraction


def best(layers, budget):
    """What the best of all choices saves."""
    sums = ([sum(column) for column in zip(*choice)] for choice in itertools.product(*([(0, 0), *a.values()] for a in layers)))
    return max(saved for error, saved in sums if error <= budget)


class Choices(unittest.TestCase):
    def setUp(self):
        rng = random.Random(7)
        offers = lambda layer: {3 * layer + i: (rng.uniform(0.1, 1), rng.uniform(1, 9)) for i in range(3)}
        self.layers = [offers(layer) for layer in range(5)]

    def test_the_bound_is_above_every_choice_and_near_the_best(self):
        for budget in (0.05, 0.2, 0.5, 1.0, 2.0, 10.0):
            ideal, found = extraction.bound(self.layers, budget), best(self.layers, budget)
            self.assertGreaterEqual(ideal, found - 1e-12)
            # The relaxation takes a part of one alternative at most.
            self.assertLessEqual(ideal, found + 9)
        self.assertAlmostEqual(extraction.bound(self.layers, 10), sum(max(s for _, s in a.values()) for a in self.layers))

    def test_the_bound_by_hand(self):
        # Steps 4 for 1, 2 for 1 and 3 for 2; (1.5, 4.5) is below the line from (1, 4) to (2, 6).
        layers = [{0: (1.0, 4.0), 1: (1.5, 4.5), 2: (2.0, 6.0)}, {3: (2.0, 3.0)}]
        for budget, saved in [(0.5, 2.0), (1.0, 4.0), (1.5, 5.0), (2.0, 6.0), (3.0, 7.5), (9.0, 9.0)]:
            self.assertAlmostEqual(extraction.bound(layers, budget), saved)

    def test_random_choices_keep_the_budget_and_find_the_best_of_few(self):
        rng = random.Random(1)
        for budget in (0.05, 0.5, 1.0, 2.0):
            found = [extraction.random_choice(self.layers, budget, rng) for _ in range(3000)]
            self.assertLessEqual(max(found), best(self.layers, budget) + 1e-12)
            self.assertGreater(max(found), 0.9 * best(self.layers, budget) - 1e-12)

    def test_a_graph_that_costs_more_is_found(self):
        offer = lambda id_, error, ns: {"id": id_, "estimate": {"error": error, "saves": {"ns": ns, "bytes": 0}}}
        layers = [{"alternatives": [offer(0, 1.0, 10.0), offer(1, 1.0, 50.0)]}, {"alternatives": [{"id": None}]}]
        both = {"objective": "latency", "kinds": ["low-rank", "sparse"], "error": 1.0}
        rounds = [{**both, "alternatives": [id_]} for id_ in (0, 1)]
        others = [{**both, "kinds": ["sparse"]}, {**both, "objective": "bytes"}]
        report = {"layers": layers, "rounds": rounds + others, "latency_ns": {"exact": 100.0}}
        costs = [(g["cost"], g["random"], g["bound"]) for g in extraction.judge(report, "latency", 1)]
        self.assertEqual(costs, [(90.0, 50.0, 50.0), (50.0, 50.0, 50.0)])


if __name__ == "__main__":
    unittest.main()
