"""optuna-dashboard over a database of ours: served here alone, and unable to change anything."""

import http.client
import json
import os
import signal
import socket
import sys
from pathlib import Path

import optuna
import processes
import pytest
from click.testing import CliRunner
from exeunt.searcher.cli.dashboard import REFUSED
from exeunt.searcher.cli.main import cli
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.store.store import open_store
from optuna.exceptions import StorageInternalError

TRIALS = 3


def fill(url: str) -> None:
    """A study of ours with some of Optuna's trials."""
    with open_store(url) as store:
        store.studies.put_config(StudyConfig(name="seen"))
        study = optuna.create_study(
            storage=optuna_storage(store.engine), study_name="seen", directions=["minimize", "maximize"]
        )
        for number in range(TRIALS):
            trial = study.ask({"depth": optuna.distributions.IntDistribution(1, 12)})
            study.tell(trial, [400.0 + number, 50.0 + number])


class Served:
    """A running `exeunt dashboard`."""

    def __init__(self, url: str, folder: Path) -> None:
        variables = {**os.environ, "EXEUNT_STORAGE": url}
        self.process = processes.exeunt("dashboard", "--port", "0", env=variables, cwd=folder)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.process.communicate()

    def ask(self, method: str, path: str, host: str | None = None) -> tuple[int, str]:
        place = self.address.removeprefix("http://").partition("/")[0]
        connection = http.client.HTTPConnection(place, timeout=30)
        connection.request(method, path, headers={"Host": host or place})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'exeunt.db'}"
    fill(url)
    return url


def check(url: str, folder: Path) -> str:
    """Shows the page and the study, changes nothing, and ends at Ctrl-C; returns all that it said."""
    served = Served(url, folder)
    status, page = served.ask("GET", "/dashboard")
    assert (status, "<html" in page.lower()) == (200, True)
    status, told = served.ask("GET", "/api/studies")
    assert status == 200
    (summary,) = json.loads(told)["study_summaries"]
    assert summary["study_name"] == "seen"
    path = f"/api/studies/{summary['study_id']}"
    status, told = served.ask("GET", path)
    assert status == 200
    assert [trial["values"][0] for trial in json.loads(told)["trials"]] == [400.0, 401.0, 402.0]
    assert served.ask("DELETE", path) == (405, json.dumps({"reason": REFUSED}))
    assert served.ask("POST", f"{path}/rename")[0] == 405
    assert served.ask("GET", "/api/studies", host="evil.example:80")[0] == 403
    assert served.ask("GET", path)[0] == 200
    code, said = served.end()
    assert code == 0, said
    assert "Traceback" not in said
    assert "does not show throughput" in said
    return said


def test_it_shows_our_study_and_changes_nothing(sqlite: str, tmp_path: Path) -> None:
    before = Path(sqlite.removeprefix("sqlite:///")).read_bytes()
    check(sqlite, tmp_path)
    assert Path(sqlite.removeprefix("sqlite:///")).read_bytes() == before


@pytest.mark.postgres
def test_no_password_is_seen_anywhere(postgres_url: str, tmp_path: Path) -> None:
    fill(postgres_url)
    check(postgres_url, tmp_path)


def test_the_storage_that_it_gets_refuses_writes_itself(sqlite: str) -> None:
    with open_store(sqlite, read_only=True) as store:
        storage = optuna_storage(store.engine)
        (study,) = storage.get_all_studies()
        with pytest.raises(StorageInternalError):
            storage.delete_study(study._study_id)
        assert len(storage.get_all_studies()) == 1


def test_a_port_that_is_taken_and_a_missing_package_are_told(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(cli, ["dashboard", "--storage", sqlite, "--port", port])
    assert done.exit_code == 2
    assert f"port {port} on 127.0.0.1 is not available" in done.output
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    done = CliRunner().invoke(cli, ["dashboard", "--storage", sqlite])
    assert done.exit_code == 2
    assert "pip install 'exeunt[dashboard]'" in done.output
