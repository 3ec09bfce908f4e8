"""Budgets are read from text, written back, and counted down."""

import pytest
from exeunt.backends.errors import InputError
from exeunt.studies.config.budget import Budget, parse_budget
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("4m", Budget(seconds=240.0)),
        ("1h30m", Budget(seconds=5400.0)),
        ("0.5s", Budget(seconds=0.5)),
        ("2d", Budget(seconds=172_800.0)),
        ("100-trials", Budget(trials=100)),
        ("20k-images", Budget(images=20_000)),
        ("1.5M-images", Budget(images=1_500_000)),
        ("4m,100-trials, 20k-images", Budget(240.0, 100, 20_000)),
    ],
)
def test_what_a_text_means(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "4", "m4", "4 minutes", "-4m", "0m", "0-trials", "0.1-trials", "100trials", "4m,5m", "4m,", "1e9s", "∞"],
)
def test_refuses_with_examples(text: str) -> None:
    with pytest.raises(InputError, match=r"budget: .*(Write 4m|Omit one)"):
        parse_budget(text)


counts = st.none() | st.integers(1, 10**11)


@given(st.none() | st.integers(1, 10**7).map(float), counts, counts)
def test_a_budget_is_read_back_from_its_text(seconds: float | None, trials: int | None, images: int | None) -> None:
    budget = Budget(seconds, trials, images)
    if budget != Budget():
        assert parse_budget(str(budget)) == budget


def test_the_nearest_limit_decides_what_is_left() -> None:
    budget = parse_budget("100s,10-trials")
    assert budget.left(seconds=50.0, trials=1, images=10**9) == 0.5
    assert budget.left(seconds=50.0, trials=9, images=0) == pytest.approx(0.1)
    assert budget.left(seconds=101.0, trials=0, images=0) == 0.0
    assert Budget().left(seconds=1e9, trials=10**9, images=10**9) == 1.0
