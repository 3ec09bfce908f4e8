"""What text encoders' libraries say is gathered: once, in short, and nothing on standard error."""

import logging

import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.networks.hf.text_encoders import LIBRARIES, gathered, refusing
from tiny_pipelines import tiny
from tokenizers import Tokenizer, models

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


def test_cut_prompts_are_noted_once_however_many_batches(capfd: pytest.CaptureFixture[str]) -> None:
    network = DiffusersNetwork.from_pipeline(tiny("sd3"))
    network.embed(["a red bicycle leaning against a wall in the rain"] * 40)
    assert network.notes == (
        "prompts: a text encoder takes 24 tokens; what prompts have beyond them is cut, as in the pipeline",
    )
    assert capfd.readouterr().err == ""


def test_short_prompts_need_no_note() -> None:
    network = DiffusersNetwork.from_pipeline(tiny("sd3"))
    network.embed(["a boat"])
    assert network.notes == ()


def test_other_warnings_are_kept_and_loggers_are_as_before() -> None:
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    with gathered() as said:
        for _ in range(2):
            logging.getLogger("diffusers.pipelines.x").warning("\n a package\n is missing. \n")
            logging.getLogger("transformers.x").info("not worth saying")
    assert said == ["a package is missing"]
    assert [(logger.handlers, logger.propagate) for logger in loggers] == before


def test_a_panic_of_the_tokenizers_is_a_mistake_in_their_files() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.enable_padding(length=2**62)
    words = r"`pipeline` can't encode prompts \(PanicException: capacity overflow\)"
    with pytest.raises(InputError, match=words), refusing("pipeline"):
        tokenizer.encode_batch(["a"])


def test_an_interrupt_is_no_mistake_in_files() -> None:
    with pytest.raises(KeyboardInterrupt), refusing("pipeline"):
        raise KeyboardInterrupt
