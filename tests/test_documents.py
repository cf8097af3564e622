"""The code of every page runs as pasted, links lead somewhere, and the reference has every public name."""

import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import mixpyro
from tests.document_blocks import ROOT, blocks, main, run_blocks

DOCUMENTS = ROOT / "examples" / "docs"
PAGES = sorted(path for path in DOCUMENTS.glob("*.md"))
# A script beside a page, of its name, is what the page quotes from.
WITH_CODE = [path for path in PAGES if blocks(path) and not path.with_suffix(".py").exists()]
LINK = re.compile(r"\]\((?P<target>[^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The module that makes the pages of the reference."""
    spec = importlib.util.spec_from_file_location("reference", DOCUMENTS / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_of_every_page_runs() -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.document_blocks", *map(str, WITH_CODE)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-5000:]


def test_blocks_are_code_without_options(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("""```{code-cell}
:tags: [remove-cell]

found = 1
```
```sh
not python
```
```python
found += 1
assert found == 2
```
""")
    assert run_blocks(page) == 2
    page.write_text("```python\nassert False\n```\n")
    assert main([str(page)]) == 1


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files(path: Path) -> None:
    for match in LINK.finditer(path.read_text()):
        target = match["target"]
        assert target.startswith("api/") or (path.parent / target).exists(), target


def test_every_page_is_in_the_contents() -> None:
    contents = (DOCUMENTS / "index.md").read_text().split()
    assert {path.stem for path in PAGES} - {"index"} <= set(contents)


def test_every_public_name_is_in_the_reference(reference: ModuleType) -> None:
    listed = {name for names in reference.pages().values() for name in names}
    public = {name for name in mixpyro.__all__ if not inspect.ismodule(getattr(mixpyro, name))}
    assert {f"mixpyro.{name}" for name in public} <= listed
    assert "mixpyro.experts.families.Poisson" in listed
    assert "mixpyro.gates.base.Gate" in listed
    assert sum(len(names) for names in reference.pages().values()) == len(listed)


def test_a_public_name_of_an_unknown_module_is_refused(reference: ModuleType) -> None:
    with pytest.raises(LookupError, match=r"mixpyro\.nowhere"):
        reference.page_of("mixpyro.nowhere")


def test_pages_are_written_and_old_ones_removed(reference: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "old.rst").write_text("of a group that is no more")
    reference.write(tmp_path)
    assert not (tmp_path / "old.rst").exists()
    assert ".. autoclass:: mixpyro.DirichletGate\n" in (tmp_path / "gates.rst").read_text()
    assert "   gates\n" in (tmp_path / "index.rst").read_text()


def test_notebooks_and_scripts_become_pages(reference: ModuleType, tmp_path: Path) -> None:
    examples, pages = tmp_path / "examples", tmp_path / "pages"
    (examples / "data").mkdir(parents=True)
    (examples / "data" / "README.md").write_text("# Data")
    (examples / "question.py").write_text("# %% [markdown]\n# # A question\n")
    (examples / "script.py").write_text('"""What is it?\n\nIt is a script.\n"""\n')
    reference.gather(examples, pages)
    assert sorted(path.name for path in pages.iterdir()) == ["data", "data.md", "question.py", "script.md"]
    assert (pages / "script.md").read_text().startswith("# What is it?\n\nIt is a script.")
    assert reference.linked_here("see [it](../script.py)") == "see [it](/gallery/script)"


def test_fields_are_described_by_their_comments(reference: ModuleType) -> None:
    alias = ["Alias for field number 1"]
    assert reference.described("mixpyro.Criteria.n_parameters", alias) == ["of gate and experts"]
    assert reference.described("mixpyro.Criteria.icl", alias) == [""]
    assert reference.described("mixpyro.Criteria.log_evidence", alias)[0].startswith("Lower bound on the log evidence")
    assert reference.described("mixpyro.fit", ["Fit a mixture."]) == ["Fit a mixture."]


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / ".github" / "CITATION.cff").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"version: {mixpyro.__version__}\n" in citation
    assert project["description"] in citation
    assert f"version = {{{mixpyro.__version__}}}" in (DOCUMENTS / "cite.md").read_text()
