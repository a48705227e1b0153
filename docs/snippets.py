"""Files of the repository, and what commands print, as code blocks of the documentation."""

from pathlib import Path

from msrcnn.published import reproduction_plan

ROOT = Path(__file__).parent.parent
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def show(path: str) -> None:
    """Prints a file as a Markdown code block.

    Args:
        path: of the file, relative to the root of the repository.
    """
    file = ROOT / path
    print(f"```{LANGUAGES[file.suffix]}\n{file.read_text().strip()}\n```")


def coco_results() -> None:
    """Prints time, memory and published AP of the COCO models, without the commands above them."""
    _, _, *results = reproduction_plan(8).split("\n\n")
    print("```\n" + "\n\n".join(results) + "\n```")
