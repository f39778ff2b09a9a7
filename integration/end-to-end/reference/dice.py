"""Seeded randomness for the data generators.

Everything is derived from Random.random(), the one method whose numbers Python promises not to
change between versions, so a seed gives the same data everywhere.
"""

import math
import random
from bisect import bisect
from itertools import accumulate


class Dice:
    def __init__(self, seed):
        self.random = random.Random(seed).random

    def chance(self, probability):
        return self.random() < probability

    def between(self, low, high):
        return low + (high - low) * self.random()

    def integer(self, low, high):
        """A whole number in low..=high."""
        return low + int(self.random() * (high - low + 1))

    def choice(self, items):
        return items[int(self.random() * len(items))]

    def exponential(self, mean):
        return -mean * math.log(1.0 - self.random())

    def normal(self, mean, deviation):
        radius = math.sqrt(-2.0 * math.log(1.0 - self.random()))
        return mean + deviation * radius * math.cos(2.0 * math.pi * self.random())


class Weighted:
    """Draws items with probabilities in proportion to their weights."""

    def __init__(self, weights):
        self.items = list(weights)
        self.cumulative = list(accumulate(weights.values()))

    def draw(self, dice):
        return self.items[bisect(self.cumulative, dice.random() * self.cumulative[-1])]


def zipf(items, exponent=1.0):
    """Weighted by popularity: the n-th item has weight 1 / n^exponent."""
    return Weighted({item: 1.0 / (rank + 1) ** exponent for rank, item in enumerate(items)})
