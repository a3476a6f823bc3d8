"""Pages of the site that live elsewhere in the repository, and links that are right in both places.

On GitHub README.md is the front page and links to docs/operating.md; on the site it is index.md beside
operating.md. So nothing is written twice: each page stays where it belongs, and its links are mended here.
"""

from __future__ import annotations

import glob
import logging
import posixpath
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks")  # --strict counts its warnings

#: Where a page of the site lies in the repository, unless it is in docs/.
ELSEWHERE = {
    "index.md": "README.md",
    "example.md": "example_project/README.md",
    "benchmarks.md": "benchmarks/results/RESULTS.md",
    "how-it-measures.md": "benchmarks/README.md",
    "changes.md": "CHANGELOG.md",
}
LINK = re.compile(r"""(\]\(|\b(?:src|href|srcset)=")([^)"\s#]+)""")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    root = posixpath.dirname(config.config_file_path)
    for page, path in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=posixpath.join(root, path)))
    for picture in glob.glob("benchmarks/results/*.png", root_dir=root):
        files.append(File.generated(config, picture, abs_src_path=posixpath.join(root, picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    there = ELSEWHERE.get(here, f"docs/{here}")

    def mend(match: re.Match[str]) -> str:
        before, link = match.groups()
        if ":" in link:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(there), link))
        page_of = {path: page for page, path in ELSEWHERE.items()}
        uri = page_of.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            log.warning("%s links to %s, which the site has not", there, target)
        return before + posixpath.relpath(uri, posixpath.dirname(here) or ".")

    return LINK.sub(mend, markdown)
