"""The hub as a wheel: what is inside, and that it finds it there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from hub.management.overview import version
from tests.running import ROOT, hub_environment

pytestmark = pytest.mark.any_database
PACKAGES = ("backends", "hub", "inference", "registry", "training")
FINDS = """
import hashlib
import json
import re
import shutil
from django.contrib.staticfiles import finders
from django.template.loader import get_template
from hub.config import ENV_FILES, config
from hub.demo.walkthrough import CONFIG
print(json.dumps({
    "template": get_template("base.html").origin.name, "static": finders.find("css/hub.css"),
    "storage": str(config.storage), "starter": CONFIG.is_file(), "port": config.port,
    "settings": [str(file) for file in ENV_FILES],
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `uv build --wheel` does it, but by the builder that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_everything_that_runs_is_inside(wheel: Path) -> None:
    tracked = ["git", "ls-files", *PACKAGES, "templates", "static", "manage.py"]
    listed = subprocess.run(tracked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {
        name if name.startswith(PACKAGES) else f"hub/shipped/{name}" for name in listed.split()
    }
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        [entries] = [name for name in names if name.endswith("entry_points.txt")]
        said = opened.read(entries).decode()
        [metadata] = [name for name in names if name.endswith("METADATA")]
        needs = opened.read(metadata).decode()
    assert wanted - names == set()
    assert not {name for name in names if name.startswith(("tests", "storage", "benchmarks"))}
    for command in ("mlx-hub", "mlx-model-hub"):
        assert f"{command} = hub.shipped.manage:main" in said
    # A package cannot keep its own dependencies from bringing theirs, llama-cpp-python among them.
    assert "smollm2" not in needs


def test_it_works_without_a_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".config" / "mlx-model-hub").mkdir(parents=True)
    here.mkdir()
    (home / ".config" / "mlx-model-hub" / "settings.env").write_text("HUB_PORT=9001\nHUB_HOST=::1")
    (here / ".env").write_text("DATABASE_URL=postgres://others@127.0.0.1/theirs")
    environment = hub_environment(tmp_path)
    for name in ("HUB_ENV_FILE", "HUB_STORAGE", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        environment.pop(name, None)
    environment |= {"HOME": str(home), "PYTHONPATH": str(tmp_path / "site"), "DATABASE_URL": ""}
    program = str(tmp_path / "site" / "hub" / "shipped" / "manage.py")

    def run(*arguments: str) -> str:
        command = [sys.executable, program, *arguments]
        return subprocess.check_output(command, cwd=here, env=environment, text=True)

    found = json.loads(run("shell", "--no-imports", "-c", FINDS))
    shipped = str(tmp_path / "site" / "hub" / "shipped")
    assert found["template"] == f"{shipped}/templates/base.html"
    assert found["static"] == f"{shipped}/static/css/hub.css"
    assert found["starter"]
    own = found["settings"][0]
    assert Path(own).name == "settings.env"
    assert found["settings"] == [own]  # the other program's `.env` does not count
    assert found["storage"].startswith(str(home))
    if sys.platform == "linux":
        assert found["port"] == 9001
        assert found["storage"] == f"{home}/.local/share/mlx-model-hub"
    (here / ".env").write_text("HUB_PORT=9002")
    said = run("--help")
    assert f"Settings: the environment, {here}/.env, {own}\n" in f"{said}\n"
    assert "  create-token           Create an API key and print it" in said
    assert "run-web" not in said
    assert [file.name for file in here.iterdir()] == [".env"]


def test_its_version_is_that_of_the_project() -> None:
    said = subprocess.check_output([sys.executable, "manage.py", "--version"], cwd=ROOT, text=True)
    assert said.strip() == version()


def test_homebrews_formula_is_that_of_the_release(tmp_path: Path) -> None:
    """What it names is in the archive, and its Python and versions are those of the project."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [archive] = tmp_path.glob("*.tar.gz")
    url = f"https://files.example/{archive.name}"
    made = formula(archive, url)
    assert made.returncode == 0, made.stderr
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'url "{url}"' in made.stdout
    assert 'homepage "https://files.example/"' in made.stdout
    assert f"-{project['version']}.tar.gz" in made.stdout
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in made.stdout
    [python] = set(re.findall(r'"python@([\d.]+)"', made.stdout))
    assert project["requires-python"].startswith(f">={python},")
    [description] = re.findall(r'desc "(.*)"', made.stdout)
    assert len(description) < 80  # as Homebrew wants it
    with tarfile.open(archive) as opened:
        inside = {name.partition("/")[2] for name in opened.getnames()}
    assert {"deploy/constraints.txt", ".env.example", "pyproject.toml", "manage.py"} <= inside
    constraints = (ROOT / "deploy/constraints.txt").read_text()
    pins = {pin.partition(";")[0] for pin in project["dependencies"]}
    missing = {re.sub(r"\[.*\]", "", pin) for pin in pins} - set(
        re.findall(r"^[^\s;]+", constraints, re.MULTILINE)
    )
    assert missing == set()
    assert "is not the archive of pyproject.toml's version" in formula(archive, "x").stderr
    if shutil.which("ruby"):
        checked = subprocess.run(["ruby", "-wc"], input=made.stdout, text=True, capture_output=True)
        assert (checked.stdout, checked.stderr) == ("Syntax OK\n", "")


def formula(archive: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/homebrew", str(archive), "--url", url]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
