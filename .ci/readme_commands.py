"""Prints the commands of the README that run as they are after `make demo`."""

from pathlib import Path

MARK = "<!-- .ci/run runs this block -->\n```\n"
text = (Path(__file__).parent.parent / "README.md").read_text()
blocks = [part.split("\n```")[0] for part in text.split(MARK)[1:]]
assert blocks, "README.md has no block of commands to run"
print("\n".join(blocks))
