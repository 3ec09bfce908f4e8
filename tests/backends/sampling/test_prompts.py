"""Prompts: what a file may hold, which prompt an image gets, and that a network knows the ones it is given."""

from pathlib import Path

import prompted
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.network import Network
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling import conditions
from exeunt.backends.sampling import conditions as prompts
from exeunt.backends.sampling.compatibility import check_conditions
from exeunt.backends.sampling.loop import sample
from exeunt.backends.solvers.tables import make_schedule

pytestmark = pytest.mark.cpu

COMPONENTS = {"components": 3, "dim": 4, "num_blocks": 4}


def make() -> Network:
    return load_network(None, network=f"{prompted.__file__}:PromptedNetwork", **COMPONENTS)


def test_a_file_has_lines_of_text_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text('a red bicycle\n\n  {"prompt": "{\\"quoted\\"}, and\\nbroken"}\n"a title"\n')
    assert prompts.prompts_from_file(path).prompts == ("a red bicycle", '{"quoted"}, and\nbroken', '"a title"')


def test_image_i_has_prompt_i_on_every_seed(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\nthree\n")
    found = prompts.load_prompts(path)
    for seed in (0, 1):
        indices = conditions.labels(found, range(2, 7), seed)
        assert indices is not None
        assert indices.dtype == torch.long
        assert indices.tolist() == [2, 0, 1, 2, 0]
    assert conditions.shown_condition(found, range(2, 5)) == {"prompts": ["three", "one", "two"]}
    assert conditions.shown_condition(conditions.uniform(3), range(2, 5)) == {"labels": [2, 0, 1]}
    assert conditions.shown_condition(conditions.uniform(None), range(3)) == {}


def test_our_own_set_is_varied_and_short_enough_for_clip() -> None:
    own = prompts.load_prompts("prompts").prompts
    assert len(own) == len(set(own)) == 64
    assert all(3 <= len(prompt.split()) <= 20 for prompt in own)


def test_the_digest_is_that_of_the_prompts_alone(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    first = prompts.prompts_from_file(path).digest
    path.write_text('{"prompt": "one"}\n\ntwo')
    assert prompts.prompts_from_file(path).digest == first
    path.write_text("two\none\n")
    assert prompts.prompts_from_file(path).digest != first


def test_labels_keep_the_digests_of_studies_that_are_stored() -> None:
    assert conditions.uniform(10).digest == "4c5090b8737e95ca68aa88f8b9ef458d5d9dc2fba240952177dee074c0dacebc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have 1 to 100000 prompts, but has 0"),
        ('{"prompt": "a", "negative": "ugly"}\n', "line 1: `negative` is not available"),
        ('fine\n{"text": "a"}\n', "line 2: must have only `prompt`, but has text"),
        ('{"prompt": 3}\n', "must be text"),
        ('{"prompt": "  "}\n', "1 to 20000 characters"),
        ("x" * 20_001, "1 to 20000 characters"),
        ("{a: 1}\n", "must be JSON"),
        ("{" * 100_000, "must be JSON"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        prompts.prompts_from_file(path)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    for name in ("nowhere.txt", "image.png"):
        with pytest.raises(InputError, match=r"can.t be read|UTF-8"):
            prompts.prompts_from_file(tmp_path / name)


def test_a_network_must_have_embedded_the_prompts_it_is_given() -> None:
    network, given = make(), conditions.from_prompts(["a", "b"])
    with pytest.raises(InputError, match=r"has none in its table. Call `network.embed"):
        check_conditions([network], given)
    network.embed(given.prompts)
    check_conditions([network], given)
    with pytest.raises(InputError, match="has 2 in its table"):
        check_conditions([network], conditions.from_prompts(["a"]))
    with pytest.raises(InputError, match="takes prompts, but got labels"):
        check_conditions([network], conditions.uniform(3))
    with pytest.raises(InputError, match="takes labels, but got prompts"):
        check_conditions([load_network("closed-form")], given)
    with pytest.raises(InputError, match="takes no prompts"):
        load_network("closed-form").embed(["a"])


def test_images_are_of_their_prompts_with_and_without_guidance() -> None:
    network, plain = make(), load_network("closed-form", **COMPONENTS)
    given = conditions.from_prompts(["a", "b", "c", "d"])  # bytes 97 … 100, components 1, 2, 0, 1
    network.embed(given.prompts)
    same = conditions.Conditions("file", 3, entries=(1, 2, 0, 1))
    for guidance in (None, 2.0):
        schedule = make_schedule(network.signature, network.noise, network.prediction, num_steps=4, guidance=guidance)
        found, wanted = (
            torch.cat([b.latents for b in sample([n], schedule, seed=3, images=range(5), conditions=c, batch_size=2)])
            for n, c in ((network, given), (plain, same))
        )
        assert torch.equal(found, wanted)
