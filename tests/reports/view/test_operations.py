"""Operations that are counted by kinds of calls are those that are counted call by call, and stay with the study."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exeunt.backends.errors import StorageError
from exeunt.backends.network import Network
from exeunt.backends.networks.registry import load_network
from exeunt.backends.timing.throughput import flops
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.operations import KEPT, keep_operations, with_flops
from exeunt.reports.view.view import StudyView
from exeunt.searcher.search.proposer import optuna_study
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.store.store import Store, open_store

NAME = "fashion-dit-exits"


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(NAME)


@pytest.fixture
def store(recorded: str, tmp_path: Path) -> Iterator[Store]:
    """A copy of the recorded study, with Optuna's beside it."""
    (tmp_path / "exeunt.db").write_bytes(Path(recorded.removeprefix("sqlite:///")).read_bytes())
    with open_store(f"sqlite:///{tmp_path / 'exeunt.db'}") as opened:
        optuna_study(optuna_storage(opened.engine), "fashion")
        yield opened


def test_every_point_has_the_operations_of_its_schedule(view: StudyView, network: Network) -> None:
    counted = with_flops(view, {NAME: [network]})
    assert {point.weights for point in counted.points} == {"fashion-dit", NAME}
    for point, before in zip(counted.points, view.points, strict=True):
        known = point.weights == NAME
        assert point.flops == (flops([network], point.schedule) if known else before.flops)


def test_what_a_study_kept_is_there_without_its_network(store: Store, network: Network) -> None:
    before = load_view(store, "fashion")
    assert {point.flops for point in before.points} == {None}
    keep_operations(store, before, {NAME: [network]})
    after = load_view(store, "fashion")
    assert [point.flops for point in after.points] == [p.flops for p in with_flops(before, {NAME: [network]}).points]
    assert {point.flops is None for point in after.points if point.weights == NAME} == {False}


def test_points_with_calls_that_nobody_counted_have_no_operations(store: Store, network: Network) -> None:
    view = load_view(store, "fashion")
    first = next(point for point in view.points if point.weights == NAME)
    keep_operations(store, replace(view, points=(first,)), {NAME: [network]})
    found = load_view(store, "fashion").points
    assert {point.flops for point in found if point.key == first.key} == {flops([network], first.schedule)}
    assert None in {point.flops for point in found if point.weights == NAME}


@pytest.mark.parametrize("decoding", ["many", 1e999, 2**63, -(2**63), None])
def test_operations_that_are_none_are_refused(store: Store, network: Network, decoding: Any) -> None:
    keep_operations(store, load_view(store, "fashion"), {NAME: [network]})
    storage = optuna_storage(store.engine)
    study = storage.get_study_id_from_name("fashion")
    kept = storage.get_study_system_attrs(study)[KEPT]
    storage.set_study_system_attr(study, KEPT, {NAME: kept[NAME] | {"decoding": decoding}})
    with pytest.raises(StorageError, match="holds something that Exeunt did not write"):
        load_view(store, "fashion")
