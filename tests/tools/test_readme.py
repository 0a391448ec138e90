"""What the pages show is what is in the tree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("language", "example", "before"), [("python", "echo.py", "\n\n"), ("c", "hello.c", " */\n")]
)
def test_the_readmes_programs_are_the_examples(language, example, before):
    """Whole, but for the comment at the top of the file."""
    shown = re.search(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    assert (ROOT / "examples" / example).read_text().endswith(before + shown[1])


def test_links_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
