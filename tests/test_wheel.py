"""The wheel carries everything it needs: built, installed and used outside the checkout, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 120


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    """Run to the end and answer what was printed. Nothing of this checkout is on the path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment | more, capture_output=True,
                          text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="needs build, of the dev extra")
    pytest.importorskip("hatchling", reason="needs hatchling, of the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `rulesproxy` of an environment with this wheel; its dependencies are those of the running one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel,
        cwd=folder)
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import rulesproxy; print(rulesproxy.__file__)", cwd=folder)
    assert where.startswith(packages)
    return folder / "bin" / "rulesproxy"


def test_the_wheel_has_rules_and_schema_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for file in (*ROOT.glob("rules/**/*.*"), *ROOT.glob("schemas/*")):
        assert f"rulesproxy/_data/{file.relative_to(ROOT)}" in names
    assert "rulesproxy/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"rulesproxy", "rulesproxy-0.1.0.dist-info"}


def test_schema(command: Path, tmp_path: Path) -> None:
    assert json.loads(run(command, "schema", cwd=tmp_path))["title"] == "rulesproxy rule file"


def test_init(command: Path, tmp_path: Path) -> None:
    run(command, "init", cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rules.schema.json", "rules.yaml"]
    assert "0 errors" in run(command, "check", "rules.yaml", cwd=tmp_path)


def test_demo(command: Path, tmp_path: Path) -> None:
    shown = run(command, "demo", "--once", cwd=tmp_path)
    assert "rows as expected" in shown.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
