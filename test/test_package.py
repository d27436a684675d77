# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""package.xml, setup.py, the changelog and the citation say the same of the package."""

from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

from flow_anomaly_ros import __version__
from flow_anomaly_ros.runtime.manifest_versions import FORMAT_VERSION
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ElementTree.parse(ROOT / 'package.xml').getroot()
# Pip names to rosdep keys, where these are not python3-<name>.
KEYS = {
    'opencv-python-headless': 'python3-opencv',
    'pyyaml': 'python3-yaml',
    'torch': 'python3-pytorch-pip',
    'torchvision': 'python3-pytorch-pip',
}
# Without a rosdep key, or only for installation.
WITHOUT_KEY = {'safetensors', 'setuptools'}


@pytest.fixture(scope='module')
def metadata():
    """What setup.py says, by the names of its options."""
    options = ('--name', '--version', '--maintainer', '--maintainer-email', '--license')
    done = subprocess.run(
        [sys.executable, 'setup.py', '--quiet', *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(options, done.stdout.splitlines(), strict=True))


def test_both_files_agree(metadata):
    maintainer = PACKAGE.find('maintainer')
    assert metadata == {
        '--name': PACKAGE.findtext('name'),
        '--version': PACKAGE.findtext('version'),
        '--maintainer': maintainer.text,
        '--maintainer-email': maintainer.get('email'),
        '--license': PACKAGE.findtext('license'),
    }
    assert metadata['--version'] == __version__


def test_every_python_dependency_has_a_rosdep_key_or_is_known_to_have_none():
    from importlib.metadata import requires

    keys = {element.text for element in PACKAGE.findall('exec_depend')}
    for line in requires('flow_anomaly_ros'):
        requirement, _, condition = line.partition(';')
        name = requirement.split('>')[0].split('=')[0].split('[')[0].strip()
        if 'extra' not in condition and name not in WITHOUT_KEY:
            assert KEYS.get(name, f'python3-{name}') in keys, name


def test_the_changelog_names_the_format_version_of_model_files():
    assert f'format version {FORMAT_VERSION}.' in (ROOT / 'CHANGELOG.rst').read_text()


def test_the_citation_names_the_version_and_the_licence():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0'
    assert citation['version'] == __version__
    assert citation['license'] == PACKAGE.findtext('license')


@pytest.mark.parametrize(
    'path', sorted(Path(ROOT / '.github').rglob('*.yml')), ids=lambda p: p.name
)
def test_files_of_the_hosting_service_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)
