"""Python blocks of README and pages run as they stand there; links and paths in them lead somewhere."""

import re
import shutil
from pathlib import Path

import pytest

from dftune.tests.code_blocks import Example, examples
from dftune.tests.places import ROOT

README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])


def params(*, ray: bool) -> list:
    """(document, example) of those that need Ray, or of the others."""
    return [
        pytest.param(document, example, id=example.name, marks=[pytest.mark.slow] if "slow" in example.words else [])
        for document in PAGES
        for example in examples(document)
        if ("ray" in example.words) == ray
    ]


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """The working directory of a reader: a clone's examples, and nothing else."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("descriptors"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(document: Path, example: Example, desk: Path, request: pytest.FixtureRequest) -> None:
    if "model" in example.words:
        request.getfixturevalue("model").save(desk / "al4.model")
    example.run(document)


@pytest.mark.parametrize(("document", "example"), params(ray=False))
def test_a_python_block_runs(document, example, desk, request):
    run(document, example, desk, request)


@pytest.mark.parametrize(("document", "example"), params(ray=True))
def test_a_python_block_runs_on_ray(document, example, desk, request, described, local_ray):
    # The examples take the descriptors of the fixture, which need not be computed again for each.
    shutil.copytree(described.path, desk / "examples" / "al4", dirs_exist_ok=True)
    run(document, example, desk, request)


def test_the_readme_opens_data_runs_a_study_and_predicts():
    words = [example.words for example in examples(README)]
    assert any(not w for w in words)
    assert any("ray" in w for w in words)
    assert any("model" in w for w in words)


def test_paths_in_pages_exist():
    folders = r"`((?:trainables|searchers|cluster|platform|tests|benchmarks|docs|examples)/[\w/.]+)"
    found = {(page.name, path) for page in PAGES for path in re.findall(folders, page.read_text("utf-8"))}
    assert [(page, path) for page, path in sorted(found) if not (ROOT / path).exists()] == []


def test_what_is_added_gets_its_line_where_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| an? [^|]+\|[^|]+\| `([A-Z]+)` in `([^`]+)` \|$", text, re.MULTILINE)
    assert len(lines) == 4, "a score, a searcher, an importer, a kind"
    for name, path in lines:
        assert re.search(rf"^{name}\b[^=\n]*= ", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)


def test_links_in_pages_lead_to_a_file_and_a_heading():
    dead = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
            file = (page.parent / target).resolve() if target else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                dead.append(f"{page.name}: {target}#{anchor}")
    assert dead == []


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_fits_on_200_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_a_block_that_fails_names_the_line_of_the_document(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("# Page\n\n```python\nx = 1\n```\n\n```python continued\n\nassert x == 2\n```\n")
    (example,) = examples(document)
    with pytest.raises(AssertionError) as caught:
        example.run(document)
    assert caught.traceback[-1].lineno + 1 == 9
    assert str(caught.traceback[-1].path) == str(document)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("```python rya\n```\n", "'rya'"), ("```python continued\n```\n", "no block")],
    ids=["unknown", "nothing to continue"],
)
def test_a_block_with_a_wrong_word_is_refused(tmp_path, text, reason):
    document = tmp_path / "page.md"
    document.write_text(text)
    with pytest.raises(ValueError, match=reason):
        examples(document)
