"""Settings of Sphinx: ``sphinx-build -W examples/docs .docs/html``, which needs the extra ``docs`` and no network."""

import os
import re
import sys
import warnings
from pathlib import Path
from typing import cast

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
warnings.filterwarnings("ignore", module="beartype")
os.environ["MIXPYRO_ROOT"] = str(HERE.parents[1])  # where code cells find examples/data

import reference  # noqa: E402

import mixpyro  # noqa: E402

project, author = "mixpyro", "The mixpyro authors"
copyright = author
version = release = mixpyro.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
exclude_patterns = ["*.py"]
html_theme, html_title = "furo", f"mixpyro {version}"
html_show_sphinx, html_static_path, html_css_files = False, ["static"], ["tables.css"]
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "cache", 120, True
nb_execution_cache_path = str(HERE.parents[1] / ".docs" / "notebooks")
nb_output_stderr = "remove"
myst_enable_extensions, myst_heading_anchors = ["colon_fence"], 3
autodoc_member_order, autodoc_typehints = "bysource", "none"
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True
suppress_warnings = ["mystnb.unknown_mime_type"]


def setup(app: Sphinx) -> None:
    """Write the pages of the reference, and bring in the examples, before Sphinx looks for pages."""
    reference.write(HERE / "api")
    reference.gather(HERE.parent, HERE / "gallery")
    app.connect("source-read", relink)
    app.connect("autodoc-process-docstring", keep_sentences, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", escape_shapes)
    app.connect("autodoc-skip-member", is_of_others)


def relink(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Let links to the examples lead to their pages."""
    source[0] = reference.linked_here(source[0])


SENTENCES: dict[str, list[str]] = {}


def keep_sentences(_app: Sphinx, what: str, name: str, *others: object) -> None:
    """Remember the docstring of a property, of which napoleon takes what is before a colon for a type."""
    if what in ("attribute", "property"):
        SENTENCES[name] = list(cast(list[str], others[-1]))


def escape_shapes(_app: Sphinx, _what: str, name: str, *others: object) -> None:
    """Keep [*batch, K], determinants as |Λ|, names as means_ and the sentence "K." from being read as markup."""
    lines = cast(list[str], others[-1])
    if any(line.startswith(":type:") for line in lines):
        lines[:] = SENTENCES[name]
    marks = r"(?<=[\[ ])\*(?=\w+[],])|\|(?=[^\s|`]+\|)|(?<=\w)_(?=:)|(?<=\s)(?=[A-Z]\.$)"
    lines[:] = [re.sub(marks, r"\\\g<0>", line) for line in reference.described(name, lines)]


def is_of_others(_app: Sphinx, _what: str, _name: str, member: object, *_others: object) -> bool | None:
    """Leave out what classes have from other libraries, which is described there."""
    own = getattr(member, "fget", None) or member
    return None if str(getattr(own, "__module__", None) or "mixpyro").startswith("mixpyro") else True
