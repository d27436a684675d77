# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the documentation site; scripts/docs builds it, without network access."""

import os
from pathlib import Path, PurePosixPath
import re
from typing import Any

project = 'flow_anomaly_ros'
author = 'flow_anomaly_ros contributors'
# Sphinx prescribes the name.
copyright = f'2026, {author}'

extensions = ['myst_parser']
source_suffix = {'.md': 'markdown'}
# The pages of the nodes include the tables of parameters.
exclude_patterns = ['_build', 'reference/parameters_*.md']

# Headings get GitHub's anchors, so that a link works on GitHub and on the site.
myst_heading_anchors = 4

html_theme = 'furo'
html_title = project
# Some pages consist of an include directive, which nobody wants to read.
html_show_sourcelink = False

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
METHODS = ('restoration', 'cainnflow', 'nf_bmr', 'feature_fusion', 'timenet')
# Files outside this folder that are pages of the site, and the pages that include them.
PAGES = {
    'benchmarks/README.md': 'benchmarks.md',
    **{f'flow_anomaly_ros/detectors/{name}/README.md': f'methods/{name}.md' for name in METHODS},
}
LINK = re.compile(r'\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)')


def link_to_pages(text: str, written_in: Path, shown_in: PurePosixPath) -> str:
    """Rewrite links that hold in the repository to hold on the site.

    Args:
        text: Markdown.
        written_in: Folder of the file that the text is from.
        shown_in: Folder of the page that shows it, relative to this one.
    """

    def rewritten(link: re.Match[str]) -> str:
        target = (written_in / link[1]).resolve()
        if not target.is_relative_to(ROOT):
            return link[0]
        page = PAGES.get(target.relative_to(ROOT).as_posix())
        if page:
            target = DOCS / page
        return f']({os.path.relpath(target, DOCS / shown_in)}{link[2] or ""})'

    return LINK.sub(rewritten, text)


def on_source_read(_app: Any, docname: str, content: list[str]) -> None:
    """Rewrite the links of a page."""
    folder = PurePosixPath(docname).parent
    content[0] = link_to_pages(content[0], DOCS / folder, folder)


def on_include_read(app: Any, path: Path, _parent: str, content: list[str]) -> None:
    """Rewrite the links of a file that a page includes."""
    # Some versions of MyST-Parser give the parent without its folder.
    page = PurePosixPath(app.env.docname)
    content[0] = link_to_pages(content[0], (DOCS / path).resolve().parent, page.parent)


def setup(app: Any) -> None:
    """Connect the two to Sphinx."""
    app.connect('source-read', on_source_read)
    app.connect('include-read', on_include_read)
