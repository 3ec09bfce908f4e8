"""SQL takes values as parameters and never as text, and nothing is pickled."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = ("studies", "searcher", "reports", "backends", "api")
ROOT = Path(__file__).parents[3]
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if "assets" not in path.parts]
# What hands text to a database. SQLite takes no parameters in a PRAGMA; the one word that is put in is a constant.
SENDING = {"text", "exec_driver_sql", "execute", "executemany", "executescript", "DDL", "literal_column"}
CONSTANT = {
    ("studies/database/transactions.py", "PRAGMA busy_timeout={round(1000 * errors.BUSY_SECONDS)}"),
    ("studies/database/schema.py", "PRAGMA journal_mode{wanted}"),
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the last part of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield name, node


def is_built(argument: ast.expr) -> bool:
    """Whether a text is put together from others: an f-string, %, +, `format`, `join` or `replace`."""
    if isinstance(argument, ast.BinOp):
        return any(isinstance(each, ast.Constant | ast.JoinedStr) for each in (argument.left, argument.right))
    if isinstance(argument, ast.Call):
        return getattr(argument.func, "attr", "") in ("format", "join", "replace")
    return isinstance(argument, ast.JoinedStr)


def built(path: Path) -> Iterator[tuple[str, str]]:
    """The built texts that a module sends to a database."""
    relative = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
        for argument in call.args[:1] if name in SENDING else []:
            if is_built(argument):
                yield relative, ast.unparse(argument).removeprefix("f").strip("\"'")


def test_statements_are_never_put_together_from_text() -> None:
    found = {each for path in FILES for each in built(path)}
    assert {(file, text.replace('"', "'")) for file, text in found} <= CONSTANT


@pytest.mark.parametrize(
    "source",
    ['text(f"DELETE FROM {x}")', 'c.execute("SELECT %s" % x)', 'c.execute("a" + x)', 'text("a {}".format(x))'],
)
def test_such_statements_would_be_found(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert list(built(path))


def test_nothing_is_pickled() -> None:
    """`pickle` is imported for the name of one error alone; arrays and weights say that they take no code."""
    for path in FILES:
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            words = {each.arg: each.value for each in call.keywords}
            owner = getattr(getattr(call.func, "value", None), "id", "")
            assert owner not in ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"), path
            if (owner, name) == ("torch", "load"):
                assert ast.unparse(words["weights_only"]) == "True", path
            if (owner, name) in (("np", "load"), ("numpy", "load")):
                assert ast.unparse(words["allow_pickle"]) == "False", path
            if owner == "yaml":
                assert name in ("compose", "safe_load", "safe_dump"), path
