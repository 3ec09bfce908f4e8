"""Files of torch.save that hold more than tensors: refused by name, in every protocol of pickle."""

import datetime
import decimal
import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from exeunt.backends.checkpoints.containers import open_container
from exeunt.backends.errors import InputError
from torch import nn

CONTENTS: dict[str, Any] = {
    "datetime.date": datetime.date(2020, 1, 1),
    "functools.partial": functools.partial(int, "3"),
    "torch.nn.modules.linear.Linear": nn.Linear(2, 2),
    "decimal.Decimal": decimal.Decimal(1),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_the_class_is_named_and_nobody_is_told_to_load_it(name: str, protocol: int, kind: str, tmp_path: Path) -> None:
    path, content = tmp_path / "a.pt", {"ema": torch.zeros(3), "ema2": torch.zeros(2), "other": CONTENTS[name]}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"other": CONTENTS[name]}, protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError) as caught:
        open_container(path)
    assert f"`{name}`, which could run code" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 1, 4, 5])
def test_tensors_in_another_protocol_are_told_so(protocol: int, tmp_path: Path) -> None:
    torch.save({"ema": nn.Linear(2, 2).state_dict(), "seen": {1, 2}}, tmp_path / "a.pt", pickle_protocol=protocol)
    with pytest.raises(InputError, match=r"protocol that torch\.save doesn't use") as caught:
        open_container(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value)


def test_a_pickle_that_no_program_wrote_names_nothing_and_ends(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x04\x8c\x02os\x93" + b"\x94" * 1000 + b"q\x01h\x07.")
    with pytest.raises(InputError):
        open_container(tmp_path / "a.pt")
