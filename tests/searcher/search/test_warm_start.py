"""What a search begins with."""

from exeunt.searcher.search.warm_start import spread


def test_the_chosen_ones_are_spread_over_costs():
    assert spread([1.0, 1.1, 1.2, 10.0, 11.0, 100.0], lambda cost: cost, 3) == [1.2, 100.0, 11.0]


def test_no_more_are_taken_than_there_are():
    assert spread([2.0, 1.0], lambda cost: cost, 12) == [1.0, 2.0]
    assert spread([], lambda cost: cost, 12) == []
