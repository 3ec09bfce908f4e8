"""What a user can get wrong: each gives one clear message with the fix, before any sampling, and the database stays.

Every case goes through the real command line. The commands run in this process, with sampling made impossible.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from exeunt.backends.network import ChainNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import save
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.cli.main import cli
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.store import open_store
from PIL import Image
from safetensors.torch import save_file

BAD_SCHEDULES = sorted((Path(__file__).parent / "backends" / "bad_schedules").glob("*.schedule.json"))
CLOSED_FORM = ["--checkpoint", "closed-form", "--metric", "fd-pixels", "--device", "cpu"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good and many bad inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (32, 4, 4, 3), np.uint8)
    np.savez(folder / "real.npz", images=images)
    np.savez(folder / "few.npz", images=images[:3])
    np.savez(folder / "floats.npz", images=images / 255)
    np.savez(folder / "two.npz", first=images, second=images)
    np.savez(folder / "objects.npz", images=np.array([{"a": 1}], dtype=object))
    np.savez(folder / "moments.npz", mu=np.zeros(5), sigma=np.eye(5))
    np.savez(folder / "not-finite.npz", mu=np.full(48, np.nan), sigma=np.eye(48))
    np.savez(folder / "kernel.npz", mu=np.zeros(48), sigma=np.eye(48))
    (folder / "damaged.npz").write_bytes(b"PK\3\4 and then nothing")
    (folder / "empty-folder").mkdir()
    mixed = folder / "mixed-folder"
    mixed.mkdir()
    Image.fromarray(images[0]).save(mixed / "0.png")
    (mixed / "1.png").write_bytes(b"no picture")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "damaged.safetensors").write_bytes(b"\xff" * 100)
    save_file({"x": torch.zeros(3, 4)}, folder / "another.safetensors")
    (folder / "code.pt").write_bytes(pickle.dumps(Path("/etc/passwd")))
    (folder / "damaged.pt").write_bytes(b"no weights")
    torch.save({"model": 3}, folder / "no-tensors.pt")
    torch.save({"model": {"x": torch.zeros(3, 4)}, "old": {"x": torch.zeros(3, 4)}}, folder / "entries.pt")
    (folder / "labels.txt").write_text("0\n1\nshoe\n")
    (folder / "high-labels.txt").write_text("0\n99\n")
    (folder / "empty-labels.txt").write_text("\n")
    (folder / "broken.toml").write_text("[search\n")
    (folder / "unknown-key.toml").write_text("[search]\nsampler_name = 'tpe'\n")
    (folder / "unknown-table.toml").write_text("[serach]\nsampler = 'tpe'\n")
    (folder / "wrong-type.toml").write_text("[quality]\nnum_images = 'many'\n")
    (folder / "loose-key.toml").write_text("num_images = 64\n")
    (folder / "same-seeds.toml").write_text("[quality]\nsearch_seed = 3\nfinal_seed = 3\n")
    (folder / "latin.toml").write_bytes("name = 'études'".encode("latin-1"))
    (folder / "database.txt").write_text("This is no database. " * 300)
    network = load_network("closed-form")
    other = load_network("closed-form", num_blocks=5)
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=4)
    save(full, folder / "good.schedule.json")
    save(
        make_schedule(other.signature, other.noise, other.prediction, num_steps=4), folder / "five-blocks.schedule.json"
    )
    document = json.loads((folder / "good.schedule.json").read_text())
    document["sampler"]["prediction"] = "epsilon"
    (folder / "prediction.schedule.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def database(files: Path) -> Path:
    """A database with a study that has not begun."""
    path = files / "study.db"
    config = override(
        StudyConfig(name="closed-form"),
        {
            "checkpoint.path": "closed-form",
            "checkpoint.baseline_weights": (),
            "quality.metric": "fd-pixels",
            "quality.reference": str(files / "real.npz"),
            "throughput.device": "cpu",
        },
    )
    with open_store(f"sqlite:///{path}") as store:
        store.studies.put_config(config)
    return path


@pytest.fixture(autouse=True)
def nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling fails the test: all that is wrong has to be found before."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("sampled, with an input that should have been refused")

    monkeypatch.setattr(ChainNetwork, "evaluate", refuse)


Words = Callable[[Path], list[str]]


def flags(*words: str) -> Words:
    """`exeunt optimize` on the closed-form network with these flags; {files} stands for the folder of inputs."""

    def make(files: Path) -> list[str]:
        given = [word.replace("{files}", str(files)) for word in words]
        known = [] if "--checkpoint" in given else CLOSED_FORM
        known = [] if "--config" in given else known
        reference = [] if "--reference" in given or "--config" in given else ["--reference", str(files / "real.npz")]
        return ["optimize", *known, *reference, *given]

    return make


def words(*given: str) -> Words:
    """A command as it is."""
    return lambda files: [word.replace("{files}", str(files)) for word in given]


# Each case with a part of its message, which says what to do or names what was wrong.
CASES: dict[str, tuple[Words, str]] = {
    # Checkpoints
    "checkpoint missing": (
        flags("--checkpoint", "{files}/none.safetensors"),
        "must be a file, a folder or a bundled name",
    ),
    "checkpoint that is on a hub": (
        flags("--checkpoint", "google/ddpm-cifar10-32"),
        "run `hf download google/ddpm-cifar10-32 --local-dir ddpm-cifar10-32`",
    ),
    "checkpoint misspelt": (flags("--checkpoint", "fashion-dit-exit"), "Did you mean `fashion-dit-exits`"),
    "checkpoint is a folder": (flags("--checkpoint", "{files}/empty-folder"), "empty-folder"),
    "checkpoint empty": (flags("--checkpoint", "{files}/empty.safetensors"), "empty.safetensors"),
    "checkpoint damaged": (flags("--checkpoint", "{files}/damaged.safetensors"), "damaged.safetensors"),
    "checkpoint of another network": (flags("--checkpoint", "{files}/another.safetensors"), "Supported are DiT"),
    "checkpoint that holds code": (flags("--checkpoint", "{files}/code.pt"), "code.pt"),
    "checkpoint that is text": (flags("--checkpoint", "{files}/damaged.pt"), "damaged.pt"),
    "checkpoint without tensors": (flags("--checkpoint", "{files}/no-tensors.pt"), "no-tensors.pt"),
    "weights key that is not there": (
        flags("--checkpoint", "{files}/entries.pt", "--weights-key", "ema"),
        "It has: `model`, `old`",
    ),
    "several sets of weights": (flags("--checkpoint", "{files}/entries.pt"), "--weights-key model"),
    "network misspelt": (
        flags("--network", "DiTT", "--checkpoint", "{files}/another.safetensors"),
        "Did you mean `DiT`",
    ),
    "network that can't be imported": (
        flags("--network", "no_such_module:Class", "--checkpoint", "{files}/another.safetensors"),
        "can't be imported",
    ),
    "network argument without a value": (flags("--network-arg", "num_blocks"), "KEY=VALUE"),
    "network argument that it does not take": (flags("--network-arg", "num_layers=3"), "num_layers"),
    "network argument out of range": (flags("--network-arg", "num_blocks=0"), "num_blocks: must be at least 1"),
    "baseline weights missing": (flags("--set", 'checkpoint.baseline_weights="none.pt"'), "none.pt"),
    "baseline weights of another network": (
        flags("--set", 'checkpoint.baseline_weights="fashion-dit"'),
        "other weights of the same network",
    ),
    "checkpoint without a reference": (words("optimize", "--checkpoint", "closed-form"), "--reference"),
    # References
    "reference missing": (flags("--reference", "{files}/none"), "Check the path"),
    "reference misspelt": (flags("--reference", "fashion-mnst"), "Did you mean `fashion-mnist`"),
    "reference of another kind": (flags("--reference", "{files}/labels.txt"), "folder, .npz or .safetensors"),
    "reference without images": (flags("--reference", "{files}/empty-folder"), "empty-folder"),
    "reference with a broken image": (flags("--reference", "{files}/mixed-folder"), "1.png"),
    "reference too small": (flags("--reference", "{files}/few.npz"), "8 images or more"),
    "reference of floats": (flags("--reference", "{files}/floats.npz"), "uint8"),
    "reference with two arrays": (flags("--reference", "{files}/two.npz"), "Save the images as `images`"),
    "reference of objects": (flags("--reference", "{files}/objects.npz"), "plain arrays"),
    "reference damaged": (flags("--reference", "{files}/damaged.npz"), "numpy.savez"),
    "reference not finite": (flags("--reference", "{files}/not-finite.npz"), "finite"),
    "reference of another extractor": (flags("--reference", "fashion-mnist"), "efficientnet-lite0"),
    "kernel distance of moments": (
        flags("--reference", "{files}/kernel.npz", "--metric", "kid-pixels"),
        "only mean and covariance",
    ),
    "moments of another extractor": (
        flags("--reference", "{files}/moments.npz", "--metric", "fd-efficientnet-lite0"),
        "1280",
    ),
    # Metrics, conditions, devices
    "metric misspelt": (flags("--metric", "fd-pixel"), "Did you mean `fd-pixels`"),
    "metric unknown": (flags("--metric", "beauty"), "Known:"),
    "extractor that takes no weights": (flags("--extractor-weights", "{files}/empty.safetensors"), "takes no file"),
    "conditions misspelt": (flags("--conditions", "unifrom"), "unifrom"),
    "conditions that are no labels": (flags("--conditions", "{files}/labels.txt"), "line 2"),
    "conditions beyond the classes": (flags("--conditions", "{files}/high-labels.txt"), "line 2"),
    "conditions empty": (flags("--conditions", "{files}/empty-labels.txt"), "labels"),
    "conditions of a reference without labels": (flags("--conditions", "reference"), "Use `uniform`"),
    "device misspelt": (flags("--device", "gpu"), "must be `cpu`, `cuda` or `cuda:N`"),
    # Settings
    "budget of nothing": (flags("--budget", "0m"), "must be above 0"),
    "budget misspelt": (flags("--budget", "four minutes"), "Write 4m"),
    "budget too small": (flags("--budget", "2s"), "at least 20s"),
    "space misspelt": (flags("--space", "mixd"), "Did you mean `mixed`"),
    "solver misspelt": (flags("--solver", "dpmsolver"), "Did you mean `dpmsolver++`"),
    "spacing unknown": (flags("--set", 'baseline.spacing="log_snr"'), "Did you mean `log-snr`"),
    "order that the solver has not": (flags("--set", "baseline.order=4"), "order"),
    "variance that the solver has not": (flags("--set", 'baseline.variance="learned-range"'), "variance"),
    "steps between which nothing can be respaced": (flags("--solver", "ddim", "--set", "baseline.eta=0.5"), "eta = 0"),
    "more steps than times": (flags("--num-steps", "1000"), "num_steps"),
    "guided channels that are not there": (
        flags("--guidance", "1.5", "--set", "baseline.guidance_channels=7"),
        "channels",
    ),
    "baselines of no family": (flags("--set", 'search.baselines="cache"'), "not a family"),
    "setting misspelt": (flags("--set", "quality.num_image=3"), "Did you mean `quality.num_images`"),
    "setting without a value": (flags("--set", "quality.num_images"), "KEY=VALUE"),
    "setting out of range": (flags("--set", "quality.level=2"), "from 0.5 to 0.999"),
    "study without a good name": (flags("--study", "../study"), "name"),
    # Study files
    "study file missing": (flags("--config", "{files}/none.toml"), "cannot be read"),
    "study file that is no TOML": (flags("--config", "{files}/broken.toml"), "must be TOML"),
    "study file with an unknown key": (flags("--config", "{files}/unknown-key.toml"), "Did you mean `sampler`"),
    "study file with an unknown table": (flags("--config", "{files}/unknown-table.toml"), "Did you mean `search`"),
    "study file with a wrong type": (flags("--config", "{files}/wrong-type.toml"), "a whole number"),
    "study file with a loose key": (flags("--config", "{files}/loose-key.toml"), "[quality]"),
    "study file with equal seeds": (flags("--config", "{files}/same-seeds.toml"), "final_seed = 4"),
    "study file that is not UTF-8": (flags("--config", "{files}/latin.toml"), "UTF-8"),
    # Proposals and schedules
    "proposals of another network": (flags("--proposals", "{files}/five-blocks.schedule.json"), "5 blocks"),
    "proposals without a schedule": (flags("--proposals", "{files}/empty-folder"), "Give schedule files"),
    "proposals for another prediction": (flags("--proposals", "{files}/prediction.schedule.json"), "predicts v"),
    "sample: no such schedule": (words("sample", "none.schedule.json", *CLOSED_FORM[:2]), "none.schedule.json"),
    "sample: another network": (
        words("sample", "{files}/five-blocks.schedule.json", *CLOSED_FORM[:2]),
        "Give the checkpoint that the schedule was made for",
    ),
    "sample: output of no kind": (
        words("sample", "{files}/good.schedule.json", *CLOSED_FORM[:2], "-o", "x.gif"),
        "must end in .png or .npz",
    ),
    "sample: output nowhere": (
        words("sample", "{files}/good.schedule.json", *CLOSED_FORM[:2], "-o", "no/where.png"),
        "mkdir -p",
    ),
    "evaluate: another network": (
        words("evaluate", "{files}/five-blocks.schedule.json", *CLOSED_FORM, "--reference", "{files}/real.npz"),
        "5 blocks",
    ),
    "evaluate: reference missing": (
        words("evaluate", "{files}/good.schedule.json", *CLOSED_FORM, "--reference", "{files}/none"),
        "Check the path",
    ),
    # Flags
    "flag unknown": (flags("--bugdet", "4m"), "--budget"),
    "flag of the wrong type": (flags("--num-images", "some"), "some"),
    "flag out of range": (flags("--num-steps", "1"), "--num-steps"),
    "sampler unknown": (flags("--sampler", "cma"), "tpe"),
    "dtype unknown": (flags("--dtype", "float8"), "float32"),
    "command unknown": (words("optimise"), "optimise"),
}


def run(command: list[str]) -> Result:
    return CliRunner().invoke(cli, command)


def check(result: Result, message: str) -> None:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2), result.output
    said = " ".join(click.unstyle(result.stderr).split())
    assert message in said
    assert "Traceback" not in said
    assert said.count("Error:") == 1


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_is_refused_before_a_database_is_made(
    case: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    make, message = CASES[case]
    check(run(make(files)), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith(("sample", "evaluate", "command"))])
def test_a_bad_input_leaves_a_database_as_it_was(case: str, files: Path, database: Path, tmp_path: Path):
    copy = tmp_path / "study.db"
    shutil.copyfile(database, copy)
    make, message = CASES[case]
    command = make(files)
    other = [] if "--study" in command else ["--study", "other"]
    check(run([*command, *other, "--storage", str(copy)]), message)
    assert copy.read_bytes() == database.read_bytes()


@pytest.mark.parametrize("path", BAD_SCHEDULES, ids=lambda path: path.name.removesuffix(".schedule.json"))
def test_a_bad_schedule_is_refused_with_its_path(
    path: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    check(run(flags("--proposals", str(path))(files)), path.name)
    assert list(tmp_path.iterdir()) == []


STORAGES = {
    "another kind of file": ("{files}/database.txt", "Choose another name"),
    "folder": ("{files}/empty-folder", "is a folder"),
    "folder that is not there": ("{files}/no/where/study.db", "mkdir -p"),
    "MySQL": ("mysql://localhost/exeunt", "must be sqlite"),
    "PostgreSQL with the old driver": ("postgresql://localhost/exeunt", "postgresql+psycopg"),
    "no URL": ("sqlite://", "sqlite:///exeunt.db"),
}


@pytest.mark.parametrize("case", STORAGES)
@pytest.mark.parametrize("command", ["optimize", "resume", "status"])
def test_a_bad_storage_is_refused_and_left_alone(case: str, command: str, files: Path):
    url, message = STORAGES[case]
    storage = url.replace("{files}", str(files))
    before = (files / "database.txt").read_bytes()
    given = flags("--storage", storage)(files) if command == "optimize" else [command, "--storage", storage]
    result = run(given)
    assert result.exit_code in (1, 2, 75), result.output
    assert "Traceback" not in result.output
    assert result.stderr.count("Error:") == 1
    if command == "optimize":
        assert message in result.stderr
    assert (files / "database.txt").read_bytes() == before


@pytest.mark.parametrize("command", ["resume", "status", "report", "export"])
def test_reading_commands_need_a_database_that_is_there(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    more = ["--knee"] if command == "export" else []
    result = run([command, *more])
    assert result.exit_code == 2
    assert "exeunt optimize" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["resume", "status", "report", "export"])
def test_a_study_that_is_not_there_is_named_with_the_nearest(command: str, database: Path, tmp_path: Path):
    copy = tmp_path / "study.db"
    shutil.copyfile(database, copy)
    more = ["--knee"] if command == "export" else []
    result = run([command, "--storage", str(copy), "--study", "closed-from", *more])
    assert result.exit_code == 2
    assert "Did you mean `closed-form`" in result.stderr
    assert copy.read_bytes() == database.read_bytes()


def test_resuming_with_settings_that_change_numbers_shows_the_difference(files: Path, database: Path, tmp_path: Path):
    copy = tmp_path / "study.db"
    shutil.copyfile(database, copy)
    result = run([*flags("--num-images", "77", "--storage", str(copy))(files)])
    assert result.exit_code == 2
    assert "quality.num_images: stored 256, given 77" in result.stderr
    assert copy.read_bytes() == database.read_bytes()


def test_a_device_that_is_not_there_has_an_exit_code_of_its_own(files: Path, tmp_path: Path):
    result = run(flags("--device", "cuda:99", "--storage", str(tmp_path / "study.db"))(files))
    assert result.exit_code == 70
    assert "Use `--device cpu`" in result.stderr
    assert list(tmp_path.iterdir()) == []
