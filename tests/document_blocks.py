"""Python code of documents, as a reader would paste it.

``python -W error -m tests.document_blocks PAGE …`` runs the code of pages, each with names of its own, without the type
checks of the tests, which make fits several times as long.
"""

import re
import sys
import traceback
from pathlib import Path

import pyro
import torch

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


def main(paths: list[str]) -> int:
    """Run the code of pages, print what fails, and return how many failed."""
    torch.set_num_threads(1)
    failed = 0
    for path in paths:
        pyro.clear_param_store()
        try:
            run_blocks(Path(path))
        except Exception:
            failed += 1
            print(f"\n{path}\n{traceback.format_exc()}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
