"""Which lines of the product the tests run: SlipCover looks, coverage.py reports.

coverage.py's own tracer is called for each function of each library, which took a third of all tests' time. SlipCover
changes the byte code of our modules alone, when they are imported. Its lines go into coverage.py's data, so the report
and `fail_under` are the usual ones. Import this before the product; `EXEUNT_TEST_COVERAGE=1` turns it on.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage, CoverageData
from slipcover import FileMatcher, ImportManager, Slipcover

VARIABLE = "EXEUNT_TEST_COVERAGE"
ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / name) for name in ("api", "backends", "studies", "reports", "searcher")]


class Lines:
    """Each pytest process notes the lines it ran; the one that has no controller reports what all of them ran."""

    def __init__(self) -> None:
        self._slipcover = Slipcover()
        ImportManager(self._slipcover, FileMatcher(sources=FOLDERS)).__enter__()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        if not hasattr(config, "workerinput"):
            earlier = Coverage()
            earlier.set_option("run:parallel", True)  # those of processes that were killed, too
            earlier.erase()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        files: dict[str, Any] = self._slipcover.get_coverage()["files"]
        data = CoverageData(suffix=True)
        # A strict editable install, as `make check` makes, imports links to the files.
        data.add_lines({str((ROOT / name).resolve()): found["executed_lines"] for name, found in files.items()})
        data.write()

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if not _is_controller(config):
            return
        whole = Coverage()
        whole.combine()
        modules = [path for folder in FOLDERS for path in Path(folder).rglob("*.py")]
        whole.get_data().touch_files(str(path) for path in modules if (path.parent / "__init__.py").exists())
        whole.save()
        terminalreporter.section("coverage")
        reached, least = whole.report(file=terminalreporter, skip_covered=True), whole.get_option("report:fail_under")
        assert isinstance(least, float)
        if reached < least:
            terminalreporter.line(f"Coverage is {reached:.2f} %. It must be {least:g} % or more.", red=True)
            terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


PLUGIN = Lines() if os.environ.get(VARIABLE) else None
