# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Build the vision_msgs message types into this Python environment, if they are missing.

A ROS installation has vision_msgs as a package of its own; the ROS wheels do not. Run this with the
Python of a virtual environment that holds the ROS 2 Jazzy wheels. What is needed only for building
goes into a temporary folder. With `--remove` the types are taken out again, say before a rebuild.
"""

import argparse
from collections.abc import Mapping
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from typing import NoReturn

PACKAGE = 'vision_msgs'
PREFIX = Path(sys.prefix)
LOG = PREFIX / f'{PACKAGE}_build.log'
SCRIPTS = Path(__file__).resolve().parent
SOURCE = SCRIPTS.parent / 'messages' / PACKAGE
INSTALLED = (
    f'include/{PACKAGE}',
    f'lib/lib{PACKAGE}__*',
    f'lib/python*/site-packages/{PACKAGE}',
    f'lib/python*/site-packages/{PACKAGE}-*.egg-info',
    f'share/{PACKAGE}',
    f'share/ament_index/resource_index/*/{PACKAGE}',
)

# Serialising loads the compiled type support, which the import alone does not.
CHECK = """
from rclpy.serialization import serialize_message
from vision_msgs.msg import Classification, Detection2DArray
serialize_message(Classification()), serialize_message(Detection2DArray())
"""

# The message targets in the wheels name the Python and numpy headers of the machine they were built
# on, and CMake refuses folders that do not exist. The headers of this environment are found anyway.
DROP_FOREIGN_HEADERS = r"""
function(drop_foreign_headers)
  get_directory_property(targets IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(folders)
      list(FILTER folders EXCLUDE REGEX "^/opt/python/")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL drop_foreign_headers)
"""


def main() -> None:
    """Build and install the types, or remove them."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--remove', action='store_true', help='remove the types and stop')
    if parser.parse_args().remove:
        require_virtual_environment()
        remove()
        say(f'removed from {PREFIX}')
        return
    if subprocess.run([sys.executable, '-c', CHECK], capture_output=True).returncode == 0:
        say('already there')
        return
    require_virtual_environment()
    require_tools()
    LOG.unlink(missing_ok=True)
    # Inside the environment, since /tmp may be small or forbid programs.
    with tempfile.TemporaryDirectory(prefix=f'{PACKAGE}_build_', dir=PREFIX) as folder:
        build(Path(folder))
    say(f'installed in {PREFIX}')


def build(folder: Path) -> None:
    """Build the package below the empty `folder` and install it; installs all of it or nothing."""
    tools = folder / 'tools'
    tree = folder / 'tree'
    pip = [sys.executable, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-deps']
    requirements = SCRIPTS / 'requirements-messages.txt'
    run('getting the build tools', [*pip, '--prefix', tools, '-r', requirements], os.environ)

    environment = os.environ | {
        'AMENT_PREFIX_PATH': f'{tools}:{PREFIX}',
        'CMAKE_PREFIX_PATH': f'{tools}:{PREFIX}',
        'PATH': f'{tools}/bin:{PREFIX}/bin:{os.environ.get("PATH", os.defpath)}',
        'PYTHONPATH': sysconfig.get_path('purelib', vars={'base': str(tools)}),
    }
    include = folder / 'drop_foreign_headers.cmake'
    include.write_text(DROP_FOREIGN_HEADERS)
    options = {
        'BUILD_TESTING': 'OFF',
        'CMAKE_INSTALL_PREFIX': PREFIX,
        'CMAKE_PROJECT_INCLUDE': include,
        'Python3_EXECUTABLE': sys.executable,
        'Python3_INCLUDE_DIR': sysconfig.get_path('include'),
        # Debian's Python would answer with its system-wide folder.
        'PYTHON_INSTALL_DIR': Path(sysconfig.get_path('purelib')).relative_to(PREFIX),
    }
    defines = [f'-D{name}={value}' for name, value in options.items()]
    run('configuring', ['cmake', '-G', 'Ninja', '-S', SOURCE, '-B', tree, *defines], environment)
    run('compiling', ['cmake', '--build', tree], environment)
    try:
        run('installing', ['cmake', '--install', tree], environment)
        run('checking', [sys.executable, '-c', CHECK], os.environ)
    except BaseException:
        remove()
        raise


def run(step: str, command: list[str | Path], environment: Mapping[str, str]) -> None:
    """Run one step, with its output in the log; ends the program with one line when it fails."""
    say(f'{step} ...')
    with LOG.open('a') as log:
        print(f'# {step}:', *command, file=log, flush=True)
        status = subprocess.run(command, env=environment, stdout=log, stderr=log).returncode
    if status != 0:
        stop(f'{step} failed (exit status {status}), see {LOG}')


def require_virtual_environment() -> None:
    """End the program outside a virtual environment: a system's Python is not ours to change."""
    if sys.prefix == sys.base_prefix:
        stop(
            f'{sys.executable} is not in a virtual environment: use the Python of one, '
            'or on a ROS installation: apt install ros-jazzy-vision-msgs'
        )


def require_tools() -> None:
    """End the program if something is missing that pip cannot provide."""
    modules = ('rclpy', 'numpy', 'geometry_msgs')
    if missing := [name for name in modules if not importlib.util.find_spec(name)]:
        stop(f'no {", ".join(missing)} in {PREFIX}: install the ROS 2 Jazzy wheels there first')
    compilers = (os.environ.get('CC', 'cc'), os.environ.get('CXX', 'c++'))
    if missing := [name for name in compilers if not shutil.which(name)]:
        stop(f'no C/C++ compiler ({", ".join(missing)}): apt install build-essential')
    header = Path(sysconfig.get_path('include'), 'Python.h')
    if not header.is_file():
        version = f'{sys.version_info.major}.{sys.version_info.minor}'
        stop(f'no Python headers ({header}): apt install python{version}-dev')


def remove() -> None:
    """Remove every installed file of the package from this environment."""
    for pattern in INSTALLED:
        for path in PREFIX.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def say(text: str) -> None:
    """Print one progress line."""
    print(f'{PACKAGE}: {text}', flush=True)


def stop(text: str) -> NoReturn:
    """End the program with one line on standard error and exit status 1."""
    sys.exit(f'{PACKAGE}: {text}')


if __name__ == '__main__':
    main()
