"""What a study's open settings come to, and that a stored study keeps what they came to."""

import prompted
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.network import Network, UsualSampler
from exeunt.backends.networks.registry import load_network
from exeunt.searcher.measuring.defaults import keep_stored_defaults, make_frame, resolve_defaults
from exeunt.studies.config.reading import config_from_dict, config_to_dict, override, refuse_difference
from exeunt.studies.config.study import StudyConfig

ELSEWHERE = {"checkpoint.path": "closed-form", "checkpoint.baseline_weights": ()}


@pytest.fixture(scope="module")
def labels() -> Network:
    return load_network("closed-form", components=3)


@pytest.fixture(scope="module")
def texts() -> Network:
    return load_network(None, network=f"{prompted.__file__}:PromptedNetwork", components=3)


def test_the_bundled_checkpoint_has_its_own_reference(labels: Network) -> None:
    found = resolve_defaults(StudyConfig(), labels)
    assert (found.quality.metric, found.quality.reference) == ("fd-efficientnet-lite0", "fashion-mnist")
    assert (found.quality.conditions, found.baseline.guidance) == ("uniform", None)
    assert (found.baseline.solver, found.baseline.spacing) == ("dpmsolver++", "log-snr")
    assert (found.checkpoint.dtype, found.throughput.executor) == ("float32", "eager")
    kernel = resolve_defaults(override(StudyConfig(), {"quality.metric": "kid-efficientnet-lite0"}), labels)
    assert kernel.quality.reference == "fashion-mnist"
    for metric in ("pixels-to-baseline", "mine.py:score"):
        assert resolve_defaults(override(StudyConfig(), {"quality.metric": metric}), labels).quality.reference is None


@pytest.mark.parametrize(
    ("given", "metric", "reference"),
    [
        ({}, "efficientnet-lite0-to-baseline", None),
        ({"quality.reference": "photos"}, "fd-efficientnet-lite0", "photos"),
        ({"quality.reference": "none"}, "efficientnet-lite0-to-baseline", None),
        ({"quality.metric": "mine.py:score"}, "mine.py:score", None),
        ({"quality.metric": "fid", "quality.reference": "photos"}, "fid", "photos"),
    ],
)
def test_prompts_are_compared_with_the_baseline_unless_there_is_something_else(
    texts: Network, given: dict[str, str], metric: str, reference: str | None
) -> None:
    found = resolve_defaults(override(StudyConfig(), {**ELSEWHERE, **given}), texts)
    assert (found.quality.metric, found.quality.reference) == (metric, reference)
    assert found.quality.conditions == "prompts"
    assert found.baseline.guidance == 1.5


def test_labels_without_a_reference_are_asked_for_one(labels: Network) -> None:
    with pytest.raises(InputError, match=r"Add --reference FOLDER.*--metric efficientnet-lite0-to-baseline"):
        resolve_defaults(override(StudyConfig(), ELSEWHERE), labels)


def test_what_is_given_stays(texts: Network) -> None:
    given = {"baseline.solver": "ddim", "baseline.guidance": "none", "quality.conditions": "mine.txt"}
    found = resolve_defaults(override(StudyConfig(), {**ELSEWHERE, **given}), texts)
    assert (found.baseline.solver, found.baseline.guidance, found.quality.conditions) == ("ddim", None, "mine.txt")


def test_a_stored_study_goes_on_as_it_was_whatever_is_customary_now(texts: Network) -> None:
    customs = {"baseline.solver": "ddim", "quality.metric": "pixels-to-baseline", "baseline.guidance": None}
    stored = resolve_defaults(override(StudyConfig(), {**ELSEWHERE, **customs}), texts)
    again = override(StudyConfig(), ELSEWHERE)
    refuse_difference(stored, again)
    assert keep_stored_defaults(again, stored) == stored
    assert resolve_defaults(keep_stored_defaults(again, stored), texts) == stored
    with pytest.raises(InputError, match=r"baseline\.guidance: stored \"none\", given 3\.0"):
        refuse_difference(stored, override(again, {"baseline.guidance": 3.0}))


def test_a_pipeline_that_takes_no_times_gives_its_solver_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_network("closed-form", components=3)
    usual = UsualSampler("ddim", "leading", (("offset", 1),), clip=1.0)
    monkeypatch.setattr(network, "usual_sampler", usual)
    given = override(StudyConfig(), {**ELSEWHERE, "quality.metric": "pixels-to-baseline"})
    found = resolve_defaults(given, network)
    own = found.baseline
    assert (own.solver, own.spacing, own.spacing_options, own.clip) == ("ddim", "leading", (("offset", 1),), 1.0)
    assert not make_frame([network], own).warps
    assert resolve_defaults(found, network) == found
    refuse_difference(found, given)
    assert keep_stored_defaults(given, found) == found
    other = resolve_defaults(override(given, {"baseline.solver": "dpmsolver++"}), network).baseline
    assert (other.spacing, other.clip) == ("log-snr", None)
    assert make_frame([network], other).warps
    slow = UsualSampler("ddpm", "trailing", variance="fixed-large", by_default=False)
    monkeypatch.setattr(network, "usual_sampler", slow)
    assert resolve_defaults(given, network).baseline.solver == "dpmsolver++"
    asked = resolve_defaults(override(given, {"baseline.solver": "ddpm"}), network).baseline
    assert (asked.spacing, asked.variance) == ("trailing", "fixed-large")
    assert not make_frame([network], asked).warps


def test_a_study_that_was_stored_before_settings_could_be_open_keeps_its_values(labels: Network) -> None:
    tables = config_to_dict(resolve_defaults(StudyConfig(), labels))
    for section, key in (("checkpoint", "pipeline"), ("quality", "higher_is_better"), ("baseline", "spacing_options")):
        del tables[section][key]
    stored = config_from_dict(tables)
    assert resolve_defaults(stored, labels) == stored
    assert keep_stored_defaults(StudyConfig(), stored) == stored
