"""Files of the repository as code blocks of the documentation."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def show(path: str) -> None:
    """Prints a file as a Markdown code block.

    Args:
        path: of the file, relative to the root of the repository.
    """
    file = ROOT / path
    print(f"```{LANGUAGES[file.suffix]}\n{file.read_text().strip()}\n```")
