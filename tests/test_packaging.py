"""What is built is what is in the checkout: both linked packages survive the way from sdist to wheel."""

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKS = {"allm/actors": "../actors", "allm/supervisors": "../supervisors"}
FOLDERS = {"allm": "allm", "actors": "allm/actors", "supervisors": "allm/supervisors"}  # in the checkout: in the wheel


def modules_of_the_checkout() -> Iterator[str]:
    """Paths that the wheel must hold, one for each module."""
    for folder, packaged in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT / folder)
            if not (ROOT / folder / inside.parts[0]).is_symlink():
                yield f"{packaged}/{inside.as_posix()}"


@pytest.mark.parametrize(("link", "target"), LINKS.items())
def test_the_package_is_a_link_to_its_folder_at_the_root(link: str, target: str) -> None:
    assert os.readlink(ROOT / link) == target
    assert (ROOT / link / "__init__.py").samefile(ROOT / Path(target).name / "__init__.py")


def test_git_keeps_the_links_as_links() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-s", *LINKS], cwd=ROOT, capture_output=True, text=True, check=True)
    modes = {line.split("\t")[1]: line.split()[0] for line in listed.stdout.splitlines()}
    assert modes == dict.fromkeys(LINKS, "120000")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the checkout and the wheel made from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestWheel:
    def test_it_holds_every_module_of_the_checkout_under_its_import_name(self, wheel: Path) -> None:
        packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
        assert packed == set(modules_of_the_checkout())

    def test_both_linked_packages_are_in_it(self, wheel: Path) -> None:
        packed = set(zipfile.ZipFile(wheel).namelist())
        assert {"allm/__init__.py", "allm/actors/__init__.py", "allm/supervisors/__init__.py"} <= packed

    def test_it_adds_one_top_level_package_and_no_other(self, wheel: Path) -> None:
        tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == {"allm"}

    def test_it_says_that_it_is_typed(self, wheel: Path) -> None:
        assert "allm/py.typed" in zipfile.ZipFile(wheel).namelist()

    def test_its_command_is_called_allm(self, wheel: Path) -> None:
        archive = zipfile.ZipFile(wheel)
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "allm = allm.cli:main" in archive.read(entry_points).decode()

    def test_its_core_needs_these_libraries_and_no_others(self, wheel: Path) -> None:
        archive = zipfile.ZipFile(wheel)
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        needed: list[str] = message_from_string(archive.read(metadata).decode()).get_all("Requires-Dist", [])
        core = {line.split(">")[0].split("<")[0].strip().replace("_", "-") for line in needed if "extra ==" not in line}
        assert core == {"pykka", "httpx", "aiohttp", "jsonschema-rs", "msgspec", "structlog", "cloudpickle"}

    def test_its_packages_are_imported_from_it_and_from_nowhere_else(self, wheel: Path, tmp_path: Path) -> None:
        zipfile.ZipFile(wheel).extractall(tmp_path)
        source = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "import allm, allm.actors, allm.supervisors\n"
            "print(allm.__file__, allm.actors.__file__, allm.supervisors.__file__, sep='\\n')\n"
        )
        done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert all(Path(line).is_relative_to(tmp_path) for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sdist_holds_the_folders_and_no_links(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    inside = {member.name.partition("/")[2] for member in members}
    assert {"actors/__init__.py", "supervisors/__init__.py", "LICENSE", "README.md", "pyproject.toml"} <= inside
    assert [member.name for member in members if member.issym() or member.islnk()] == []
    assert [name for name in inside if name.startswith(("allm/actors", "allm/supervisors"))] == []
