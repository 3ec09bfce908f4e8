"""What every store promises, on whichever database. A store of another database is one more subclass."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Schedule
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.tables import STUDIES
from exeunt.studies.database.transactions import writing
from exeunt.studies.maintenance.delete import delete_study
from exeunt.studies.store.evaluations import DamagedFeatures, FailedEvaluation, UnusableFeatures
from exeunt.studies.store.leases import StaleClaim
from exeunt.studies.store.records import Claim, EvaluationKey, Member, QualityRecord, ThroughputRecord, TimingKey
from exeunt.studies.store.store import Store, open_store
from exeunt.studies.workers.shared_state import images_spent
from numpy.typing import NDArray
from sqlalchemy import event, text
from stored import put_schedule, renew

MakeKey = Callable[..., EvaluationKey]
TIMING = TimingKey("cpu", 64, "eager", "float32", "w" * 64, "torch 2.15, 2 threads")


def features(images: range, width: int = 8) -> NDArray[np.float32]:
    """Features that tell their image, exact in half precision."""
    return np.array([[image + 0.25 * column for column in range(width)] for image in images], dtype=np.float32)


def claimed(
    store: Store, key: EvaluationKey, owner: str = "ada", seconds: float = 60.0, study: str | None = None
) -> Claim:
    claim = store.evaluations.claim(key, owner, seconds, study)
    assert claim is not None
    return claim


def commit(store: Store, claim: Claim, images: range, seconds: float = 1.0) -> None:
    store.evaluations.commit_chunk(claim, images.start, features(images), seconds)


def quality(evaluation: str, value: float = 40.0, num_images: int = 8) -> QualityRecord:
    return QualityRecord(evaluation, "fd-x", "reference", 0, num_images, value, 38.0, 42.0, 1.0, 0.9, 12.0, (0.5, -0.5))


class StoreConformance:
    """The contract. Subclasses give `store`, an open empty database with the schedules of depths 1 to 4."""

    def test_schedules_come_back_by_digest(self, store: Store, make_schedule: Callable[[int], Schedule]) -> None:
        named = [make_schedule(depth) for depth in (1, 2)]
        assert [put_schedule(store, each) for each in named] == [each.digest for each in named]
        found = store.evaluations.held([named[0].digest, named[1].digest, "0" * 64])
        assert {digest: each.schedule for digest, each in found.items()} == {each.digest: each for each in named}

    def test_one_owner_at_a_time(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key(1))
        assert store.evaluations.claim(make_key(1), "bob", 60.0) is None
        assert claimed(store, make_key(2), "bob").token == 1
        store.evaluations.release(claim)
        assert claimed(store, make_key(1), "bob").token == claim.token + 1

    def test_a_lease_ends_on_the_databases_clock(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key(), seconds=0.05)
        time.sleep(0.1)
        assert claimed(store, make_key(), "bob").token == claim.token + 1

    def test_renewing_keeps_the_others_out(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key(), seconds=1.0)
        for _ in range(2):
            time.sleep(0.6)
            renew(store, claim)
            assert store.evaluations.claim(make_key(), "bob", 60.0) is None

    def test_a_stale_claim_can_do_nothing(self, store: Store, make_key: MakeKey) -> None:
        stale = claimed(store, make_key(), seconds=0.01)
        time.sleep(0.05)
        fresh = claimed(store, make_key(), "bob")
        for attempt in (
            lambda: commit(store, stale, range(8)),
            lambda: renew(store, stale),
            lambda: store.evaluations.fail(stale, "out of memory"),
        ):
            with pytest.raises(StaleClaim, match="taken it over from ada"):
                attempt()
        store.evaluations.release(stale)
        commit(store, fresh, range(8))
        assert store.evaluations.chunks()[0].owner == "bob"
        assert len(store.evaluations.chunks()) == 1

    def test_an_expired_claim_that_nobody_took_still_counts(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key(), seconds=0.2)
        time.sleep(0.25)
        commit(store, claim, range(8))
        assert store.evaluations.claim(make_key(), "bob", 60.0) is None

    def test_claiming_again_makes_the_owners_first_claim_stale(self, store: Store, make_key: MakeKey) -> None:
        first, second = claimed(store, make_key()), claimed(store, make_key())
        with pytest.raises(StaleClaim):
            commit(store, first, range(8))
        commit(store, second, range(8))

    def test_features_come_back_in_order(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key())
        for images in (range(16, 24), range(8), range(8, 16)):
            commit(store, claim, images)
        for images in (range(24), range(8), range(5, 19), range(23, 24)):
            found = store.evaluations.features(make_key(), images)
            assert found is not None
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, features(images))

    def test_half_precision_is_all_that_is_lost(self, store: Store, make_key: MakeKey) -> None:
        exact = np.random.default_rng(0).lognormal(size=(64, 32)).astype(np.float32)
        store.evaluations.commit_chunk(claimed(store, make_key()), 0, exact, 1.0)
        found = store.evaluations.features(make_key(), range(64))
        assert found is not None
        np.testing.assert_allclose(found, exact, rtol=2**-11)

    def test_missing_images_are_named(self, store: Store, make_key: MakeKey) -> None:
        missing = store.evaluations.missing
        assert missing(make_key(), range(24)) == [range(24)]
        claim = claimed(store, make_key())
        commit(store, claim, range(4, 8))
        commit(store, claim, range(12, 16))
        assert missing(make_key(), range(24)) == [range(4), range(8, 12), range(16, 24)]
        assert missing(make_key(), range(6, 14)) == [range(8, 12)]
        assert missing(make_key(), range(5, 8)) == []
        assert missing(make_key(), range(3, 3)) == []
        assert missing(make_key(2), range(2)) == [range(2)]
        assert store.evaluations.features(make_key(), range(4, 16)) is None
        assert store.evaluations.features(make_key(2), range(2)) is None

    def test_another_worker_goes_on_from_the_last_chunk(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key(), seconds=0.01)
        commit(store, claim, range(8))
        store.evaluations.release(claim)
        other = claimed(store, make_key(), "bob")
        for part in store.evaluations.missing(make_key(), range(16)):
            commit(store, other, part)
        found = store.evaluations.features(make_key(), range(16))
        assert found is not None
        np.testing.assert_array_equal(found, features(range(16)))
        assert [each.owner for each in store.evaluations.chunks()] == ["ada", "bob"]

    def test_the_same_chunk_again_is_no_second_one(self, store: Store, make_key: MakeKey) -> None:
        claim = claimed(store, make_key())
        for _ in range(2):
            commit(store, claim, range(8))
        assert len(store.evaluations.chunks()) == 1

    @pytest.mark.parametrize("images", [range(8), range(4), range(7, 9), range(-4, 1)])
    def test_an_image_is_never_committed_twice(self, store: Store, make_key: MakeKey, images: range) -> None:
        claim = claimed(store, make_key())
        commit(store, claim, range(8))
        with pytest.raises(AssertionError, match="committed already"):
            store.evaluations.commit_chunk(claim, images.start, features(images) + 1, 1.0)
        assert len(store.evaluations.chunks()) == 1

    @pytest.mark.parametrize("value", [np.nan, np.inf, 7e4])
    def test_images_that_broke_are_refused(self, store: Store, make_key: MakeKey, value: float) -> None:
        broken = features(range(8, 16))
        broken[3, 3] = value
        with pytest.raises(UnusableFeatures, match="images 8 to 15 must be finite and at most 65504"):
            store.evaluations.commit_chunk(claimed(store, make_key()), 8, broken, 1.0)
        assert store.evaluations.chunks() == []

    def test_features_that_changed_are_noticed(self, store: Store, make_key: MakeKey) -> None:
        commit(store, claimed(store, make_key()), range(8))
        with writing(store.engine) as connection:
            connection.execute(
                text("UPDATE exeunt_chunks SET features = :data"), {"data": features(range(8, 16)).tobytes()}
            )
        with pytest.raises(DamagedFeatures, match=r"from image 0 of evaluation \S+ have changed"):
            store.evaluations.features(make_key(), range(8))

    def test_failed_evaluations_stay_with_their_reasons(self, store: Store, make_key: MakeKey) -> None:
        store.evaluations.fail(claimed(store, make_key()), "out of memory at batch 64", final=False)
        again = claimed(store, make_key())
        commit(store, again, range(8))
        store.evaluations.fail(again, "images are not finite")
        with pytest.raises(FailedEvaluation, match="images are not finite"):
            store.evaluations.claim(make_key(), "bob", 60.0)
        (record,) = store.evaluations.evaluations()
        assert record.key == make_key()
        assert record.failed
        assert record.failures == ("out of memory at batch 64", "images are not finite")
        assert record.num_images == 8

    def test_evaluations_say_what_they_are_and_cost(self, store: Store, make_key: MakeKey) -> None:
        assert store.evaluations.evaluations() == []
        claim = claimed(store, make_key())
        commit(store, claim, range(8), seconds=1.5)
        commit(store, claim, range(8, 12), seconds=0.5)
        claimed(store, make_key(seed=1))
        first, second = store.evaluations.evaluations()
        assert (first.key, first.digest, first.num_images, first.seconds) == (make_key(), make_key().digest, 12, 2.0)
        assert (second.key.seed, second.num_images, second.seconds, second.failures) == (1, 0, 0.0, ())

    def test_every_part_of_a_key_makes_another_question(self, make_key: MakeKey) -> None:
        key = make_key()
        others = [key.__class__(**{**vars(key), name: 7 if name == "seed" else "other"}) for name in vars(key)]
        assert len({key.digest, *(each.digest for each in others)}) == len(vars(key)) + 1

    def test_search_and_final_noises_are_apart(self, store: Store, make_key: MakeKey) -> None:
        commit(store, claimed(store, make_key(seed=0)), range(8))
        assert store.evaluations.features(make_key(seed=1), range(8)) is None

    def test_a_question_is_not_asked_again_by_another_study(self, store: Store, make_key: MakeKey) -> None:
        for name in ("one", "two"):
            store.studies.put_config(StudyConfig(name=name))
            store.studies.add_member(
                name, Member("full", "baseline", "full", make_key().schedule_digest, "w" * 64, "w")
            )
        commit(store, claimed(store, make_key(), study="one"), range(8))
        assert store.evaluations.missing(make_key(), range(8)) == []
        assert [len(store.evaluations.evaluations(name)) for name in ("one", "two")] == [1, 1]
        assert [len(store.evaluations.chunks(name)) for name in ("one", "two")] == [1, 0]
        assert [store.studies.progress(name).images for name in ("one", "two")] == [8, 0]
        assert [store.studies.progress(name).schedules_measured for name in ("one", "two")] == [1, 1]

    def test_qualities_come_back_in_the_order_of_finishing(self, store: Store, make_key: MakeKey) -> None:
        for depth in (2, 1):
            claim = claimed(store, make_key(depth))
            store.measurements.put_qualities(quality(claim.evaluation, depth))
        found = store.measurements.qualities()
        assert [each.value for each in found] == [2.0, 1.0]
        assert found[0].excess == -10.0
        assert found[0].influence == (0.5, -0.5)
        assert found[0].finished is not None

    def test_a_quality_at_the_same_count_replaces_the_one_before(self, store: Store, make_key: MakeKey) -> None:
        evaluation = claimed(store, make_key()).evaluation
        for value, count in ((1.0, 8), (2.0, 8), (3.0, 16)):
            store.measurements.put_qualities(quality(evaluation, value, count))
        assert [(each.value, each.num_images) for each in store.measurements.qualities()] == [(2.0, 8), (3.0, 16)]

    def test_the_first_timing_of_a_kind_stays(self, store: Store) -> None:
        store.measurements.put_call_timings(TIMING, {"run 12": (0.1, 0.2)})
        store.measurements.put_call_timings(TIMING, {"run 12": (9.0,), "decode": (0.3,)})
        assert store.measurements.call_timings(TIMING) == {"run 12": (0.1, 0.2), "decode": (0.3,)}
        other = TimingKey(**{**vars(TIMING), "batch_size": 1})
        assert store.measurements.call_timings(other) == {}

    def test_a_claim_makes_the_schedule_a_member_even_where_another_worker_has_it(
        self, store: Store, make_key: MakeKey
    ) -> None:
        store.studies.put_config(StudyConfig())
        key = make_key()
        member = Member("trial 1", "trial", "", key.schedule_digest, "w" * 64, "w", 1)
        other = Member("trial 2", "trial", "", key.schedule_digest, "w" * 64, "w", 2)
        for _ in range(2):
            assert store.evaluations.claim(key, "ada", 60.0, "demo", member=member) is not None
        assert store.evaluations.claim(key, "bob", 60.0, "demo", member=other) is None
        assert store.studies.members("demo") == [member, other]

    def test_throughputs_keep_their_raw_seconds(self, store: Store, make_key: MakeKey) -> None:
        full, exit_ = make_key(4).schedule_digest, make_key(1).schedule_digest
        record = ThroughputRecord(
            exit_, TIMING, full, "w" * 64, "final", (0.5, 0.6, 0.4), (1.0, 1.1, 0.9), 0.55, (0.1,), 2**33, "demo"
        )
        store.measurements.put_throughput(record)
        store.measurements.put_throughput(record)
        assert store.measurements.throughputs() == [record, record]
        assert store.measurements.throughputs("demo") == []
        assert record.images_per_second == 128.0
        store.studies.put_config(StudyConfig())
        store.studies.add_member("demo", Member("exit 1", "baseline", "uniform-depth", exit_, "w" * 64, "w"))
        assert store.measurements.throughputs("demo") == [record, record]

    def test_configurations_come_back(self, store: Store) -> None:
        config = override(StudyConfig(name="xl"), {"quality.num_images": 512, "checkpoint.options": {"depth": 28}})
        store.studies.put_config(StudyConfig())
        store.studies.put_config(config, {"checkpoint.path": "3f" * 32})
        assert store.studies.names() == ["demo", "xl"]
        assert store.studies.config("xl") == config
        assert store.studies.pins("xl") == {"checkpoint.path": "3f" * 32}

    def test_resuming_may_change_what_is_free_and_nothing_else(self, store: Store) -> None:
        store.studies.put_config(StudyConfig())
        store.studies.put_config(override(StudyConfig(), {"run.budget": "1h"}))
        assert store.studies.config("demo").run.budget == "1h"
        with pytest.raises(InputError, match=r"quality\.num_images: stored 256, given 512"):
            store.studies.put_config(override(StudyConfig(), {"quality.num_images": 512}))
        assert store.studies.config("demo").quality.num_images == 256

    def test_contents_decide_and_not_their_place(self, store: Store) -> None:
        store.studies.put_config(StudyConfig(), {"checkpoint.path": "a" * 64})
        moved = override(StudyConfig(), {"checkpoint.path": "/elsewhere/fashion-dit-exits"})
        store.studies.put_config(moved, {"checkpoint.path": "a" * 64})
        assert store.studies.config("demo") == moved
        with pytest.raises(
            InputError, match=r"other contents of checkpoint\.path: their digest was aaaaaaaaaaaa and is now b"
        ):
            store.studies.put_config(moved, {"checkpoint.path": "b" * 64})

    def test_an_unknown_study_is_named_with_the_nearest(self, store: Store) -> None:
        with pytest.raises(InputError, match="has none yet"):
            store.studies.config("demo")
        store.studies.put_config(StudyConfig())
        with pytest.raises(InputError, match=r"`deom` is not in .* Did you mean `demo`"):
            store.studies.config("deom")

    def test_members_come_back_in_order_and_once(self, store: Store, make_key: MakeKey) -> None:
        store.studies.put_config(StudyConfig())
        members = [
            Member("full", "baseline", "full", make_key(4).schedule_digest, "n" * 64, "normal"),
            Member("full", "baseline", "full", make_key(4).schedule_digest, "w" * 64, "exits"),
            Member("trial 0", "trial", "mixed", make_key(2).schedule_digest, "w" * 64, "exits", 0),
            Member("trial 1", "trial", "mixed", make_key(2).schedule_digest, "w" * 64, "exits", 1),
        ]
        for member in [*members, *members]:
            store.studies.add_member("demo", member)
        assert store.studies.members("demo") == members
        assert store.studies.members("other") == []

    def test_progress_is_counted_from_what_is_committed(self, store: Store, make_key: MakeKey) -> None:
        store.studies.put_config(StudyConfig())
        for depth in (1, 2, 3):
            digest = make_key(depth).schedule_digest
            store.studies.add_member(
                "demo", Member(f"exit {depth}", "baseline", "uniform-depth", digest, "w" * 64, "w")
            )
        commit(store, claimed(store, make_key(1), study="demo"), range(8), seconds=2.0)
        commit(store, claimed(store, make_key(1, seed=1), study="demo"), range(4), seconds=1.0)
        commit(store, claimed(store, make_key(2), study="demo"), range(8), seconds=2.0)
        store.evaluations.fail(claimed(store, make_key(3), study="demo"), "diverged")
        digest = make_key(1).schedule_digest
        store.measurements.put_throughput(
            ThroughputRecord(
                digest, TIMING, digest, "w" * 64, "final", (1.0, 1.0), (1.0, 1.0), latency_seconds=(0.5,), study="demo"
            )
        )
        progress = store.studies.progress("demo")
        assert (progress.images, progress.chunks, progress.schedules_measured) == (20, 3, 2)
        assert (progress.evaluations_failed, progress.sampling_seconds, progress.timing_seconds) == (1, 5.0, 2.5)
        assert progress.device_seconds == 7.5
        assert store.studies.progress("none").images == 0

    def test_a_clock_that_steps_back_hides_no_images(self, store: Store, make_key: MakeKey) -> None:
        config = StudyConfig(name="clock")
        store.studies.put_config(config)
        with writing(store.engine) as connection:  # as if the clock had been an hour ahead then
            connection.execute(STUDIES.update().values(created=STUDIES.c.created + 3600))
        commit(store, claimed(store, make_key(1), study="clock"), range(8))
        assert images_spent(store, "clock") == store.studies.progress("clock").images == 8
        delete_study(store, "clock")
        store.studies.put_config(config)
        assert images_spent(store, "clock") == 0


class TestSqliteStore(StoreConformance):
    def test_everything_can_be_read_read_only(self, store: Store, url: str, make_key: MakeKey) -> None:
        store.studies.put_config(StudyConfig())
        store.studies.add_member("demo", Member("full", "baseline", "full", make_key().schedule_digest, "w" * 64, "w"))
        claim = claimed(store, make_key(), study="demo")
        commit(store, claim, range(8))
        store.measurements.put_qualities(quality(claim.evaluation))
        with open_store(url, read_only=True) as reader:
            assert reader.url == url
            for one, other in ((store, reader), (reader, store)):
                assert one.studies.progress("demo") == other.studies.progress("demo")
                assert one.evaluations.evaluations("demo") == other.evaluations.evaluations("demo")
                assert one.measurements.qualities("demo") == other.measurements.qualities("demo")
                assert one.studies.members("demo") == other.studies.members("demo")

    def test_sixty_evaluations_are_small_and_each_is_read_by_few_statements(
        self, store: Store, database: Path, make_key: MakeKey
    ) -> None:
        images = np.random.default_rng(0).lognormal(size=(300, 1280)).astype(np.float32)
        for seed in range(60):
            claim = claimed(store, make_key(seed=seed))
            store.evaluations.commit_chunk(claim, 0, images[:150], 1.0)
            store.evaluations.commit_chunk(claim, 150, images[150:], 1.0)
        statements = Counter[str]()
        event.listen(store.engine, "before_cursor_execute", lambda *said: statements.update([said[2].split()[0]]))
        for seed in range(20):
            store.evaluations.features(make_key(seed=seed), range(256))
        assert statements["SELECT"] == 20
        assert len(store.evaluations.evaluations()) == 60
        assert statements["SELECT"] == 22  # the evaluations, and why any of them failed
        store.close()
        assert database.stat().st_size < 1.05 * 60 * 300 * 1280 * 2


@pytest.mark.postgres
class TestPostgresqlStore(StoreConformance):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


def test_the_key_of_an_evaluation_never_changes(make_key: MakeKey) -> None:
    """A change would make every stored evaluation unfindable."""
    key = EvaluationKey("s", "w", "c", 7, "e", "float32", "eager")
    plain = (
        '{"conditions_digest":"c","dtype":"float32","executor":"eager","extractor":"e","schedule_digest":"s","seed":7,'
        '"weights_sha256":"w"}'
    )
    assert key.digest == hashlib.sha256(plain.encode()).hexdigest()
