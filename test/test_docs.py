# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The documents: links lead somewhere, commands exist, and the README stays short."""

import os
from pathlib import Path
import re
import shlex

from flow_anomaly_ros import cli
import pytest

ROOT = Path(__file__).parents[1]
MAX_README_LINES = 150
DOCUMENTS = [
    ROOT / 'README.md',
    ROOT / 'benchmarks' / 'README.md',
    *sorted(path for path in (ROOT / 'docs').rglob('*.md') if '_build' not in path.parts),
    *sorted((ROOT / 'flow_anomaly_ros' / 'detectors').glob('*/README.md')),
]
FENCE = re.compile(r'^ *(```+)(\w*).*?\n(.*?)^ *\1 *$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^)\s]+)\)')
HEADING = re.compile(r'^#{1,6} +(.+?) *#* *$', re.MULTILINE)
INCLUDE = re.compile(r'^```\{include\} +(\S+)', re.MULTILINE)


def without_fences(text):
    """The text of a document that is not code."""
    return FENCE.sub('', text)


def anchors(path):
    """Anchors of the headings of a document, as GitHub makes them."""
    text = path.read_text(encoding='utf-8')
    included = [path.parent / target for target in INCLUDE.findall(text)]
    counts, found = {}, set()
    for heading in HEADING.findall(without_fences(text)):
        plain = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
        slug = re.sub(r'[^\w\- ]', '', plain).replace(' ', '-')
        count = counts[slug] = counts.get(slug, -1) + 1
        found.add(f'{slug}-{count}' if count else slug)
    return found.union(*map(anchors, included))


def broken_links(path):
    """Relative links of a document to files or headings that do not exist."""
    broken = []
    for link in LINK.findall(without_fences(path.read_text(encoding='utf-8'))):
        if re.match(r'[a-z]+:', link):
            continue
        target, _, anchor = link.partition('#')
        file = (path.parent / target).resolve() if target else path
        exists = file.is_relative_to(ROOT) and file.exists()
        if not exists or (anchor and anchor not in anchors(file)):
            broken.append(link)
    return broken


def commands(path):
    """Command lines of flow-anomaly in the code blocks of a document, as lists of arguments."""
    found = []
    for _, language, code in FENCE.findall(path.read_text(encoding='utf-8')):
        if language != 'bash':
            continue
        for line in code.replace('\\\n', ' ').splitlines():
            words = shlex.split(line, comments=True)
            if 'flow-anomaly' in words:
                found.append(words[words.index('flow-anomaly') + 1 :])
    return found


def test_documents_are_found():
    names = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS}
    assert {'README.md', 'docs/cell.md', 'docs/nodes/detector.md', 'benchmarks/README.md'} <= names
    assert any(name.endswith('restoration/README.md') for name in names)


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(path):
    assert broken_links(path) == []


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_included_files_exist(path):
    targets = INCLUDE.findall(path.read_text(encoding='utf-8'))
    assert [target for target in targets if not (path.parent / target).is_file()] == []


def test_the_readme_is_short():
    lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    assert len(lines) <= MAX_README_LINES


def test_the_readme_names_how_to_test():
    assert 'scripts/test' in (ROOT / 'README.md').read_text(encoding='utf-8')


def test_commands_are_those_of_the_parser():
    count = 0
    for path in DOCUMENTS:
        for arguments in commands(path):
            try:
                _, unknown = cli._parser().parse_known_args(arguments)
            except ValueError as error:
                unknown = [str(error)]
            where = path.relative_to(ROOT)
            assert not unknown, f'{where}: flow-anomaly {shlex.join(arguments)}: {unknown}'
            count += 1
    # Otherwise the pattern would no longer find any.
    assert count > 20


def test_every_command_has_an_example():
    shown = {arguments[0] for path in DOCUMENTS for arguments in commands(path)}
    for name in cli_commands():
        assert name in shown, f'no example of flow-anomaly {name} in the documents'


def cli_commands():
    """Names of the commands that the package has."""
    actions = cli._parser()._subparsers._group_actions
    return [name for action in actions for name in action.choices]


def test_broken_links_and_anchors_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'ROOT', tmp_path.resolve())
    page = tmp_path / 'page.md'
    (tmp_path / 'other.md').write_text('# A heading, `code` & more\n\n```\n# no heading\n```\n')
    page.write_text(
        '[a](other.md) [b](other.md#a-heading-code--more) [c](https://example.org/x)\n'
        '[d](missing.md) [e](other.md#no-heading) [f](../outside.md)\n'
        '```\n[g](missing.md)\n```\n'
    )
    (tmp_path.parent / 'outside.md').write_text('')
    assert broken_links(page) == ['missing.md', 'other.md#no-heading', '../outside.md']


def test_commands_are_found_in_code_blocks_alone(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        'flow-anomaly prose\n\n```bash\n'
        'ros2 run flow_anomaly_ros flow-anomaly train --data X \\\n    --output Y  # comment\n'
        '```\n\n```\nflow-anomaly output\n```\n'
    )
    assert commands(page) == [['train', '--data', 'X', '--output', 'Y']]


def test_every_page_is_in_the_site():
    """A page without an entry in the index is one that nobody finds."""
    index = (ROOT / 'docs' / 'index.md').read_text(encoding='utf-8')
    for path in (ROOT / 'docs').rglob('*.md'):
        name = os.path.relpath(path, ROOT / 'docs').removesuffix('.md')
        if name.startswith(('_build', 'reference/')) or name == 'index':
            continue
        assert re.search(rf'^{re.escape(name)}$', index, re.MULTILINE), f'{name} is missing'
