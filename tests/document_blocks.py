"""Python code of documents, as a reader would paste it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = r"^```(?:python|\{code-cell\}[^\n]*)\n(?:(?::[^\n]*\n)+\n?)?(?P<code>.*?)^```$"
BLOCK = re.compile(FENCE, re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[str]:
    """Return the code of a document, blocks in order.

    Args:
        path: of a Markdown file.
    """
    return [match["code"] for match in BLOCK.finditer(path.read_text())]


def run_blocks(path: Path) -> int:
    """Run the blocks in order, with names in common, and return how many there are.

    Args:
        path: of a Markdown file.
    """
    namespace: dict[str, object] = {"__name__": path.stem}
    found = blocks(path)
    for number, block in enumerate(found):
        exec(compile(block, f"{path.name}, block {number}", "exec"), namespace)
    return len(found)
