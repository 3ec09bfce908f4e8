"""What SQLite keeps in a column whatever its type is, and what is read of it."""

import math
from typing import Any

import pytest
from exeunt.backends.errors import StorageError
from exeunt.studies.database.tables import (
    BigWhole,
    Bytes,
    CheckedInteger,
    CheckedString,
    CheckedText,
    Number,
    Timestamp,
)
from sqlalchemy import Column, MetaData, Table, create_engine, select

VALUES: dict[Any, list[Any]] = {
    CheckedString(8): ["", "text"],
    CheckedText: ["", "text"],
    CheckedInteger: [0, -1, 2**31 - 1],
    BigWhole: [0, 2**62],
    Number: [0.0, -1.5, 2],
    Timestamp: [0.0, 1.8e9],
    Bytes: [b"", b"\x00\xff"],
}
ODD: list[Any] = ["text", b"\xc1\x04", 2.5, 3, math.inf, 2**62]
WRONG: dict[Any, list[Any]] = {
    CheckedString(8): [b"\xc1\x04"],  # whatever else there is, SQLite makes text of it
    CheckedText: [b"\xc1\x04"],
    CheckedInteger: ["text", b"\xc1\x04", 2.5, math.inf],
    BigWhole: ["text", b"\xc1\x04", 2.5, math.inf],
    Number: ["text", b"\xc1\x04", math.inf],
    Timestamp: ["text", b"\xc1\x04", math.inf, 2**62],
    Bytes: ["text", 2.5, 3, math.inf, 2**62],
}


def kept(kind: Any, value: Any) -> Any:
    """What is read where a value was put in by another program."""
    table = Table("kept", MetaData(), Column("value", kind))
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.exec_driver_sql("INSERT INTO kept VALUES (?)", (value,))
        return connection.execute(select(table.c.value)).scalar_one()


@pytest.mark.parametrize("kind", VALUES, ids=repr)
def test_values_of_the_type_are_read(kind: Any) -> None:
    for value in [*VALUES[kind], None]:
        assert kept(kind, value) == value


@pytest.mark.parametrize("kind", WRONG, ids=repr)
def test_values_of_other_types_are_refused(kind: Any) -> None:
    for value in ODD:
        if value in WRONG[kind]:
            with pytest.raises(StorageError, match="holds something that Exeunt did not write"):
                kept(kind, value)
        else:
            kept(kind, value)
