"""Packaging of rpiserve: the metadata, what it needs, and where its twistd plugin goes."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read the version from the package's source, without importing it: nothing it needs is installed yet."""
    source = (HERE / "rpiserve" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__\s*(?::\s*[\w.]+\s*)?=\s*["\']([^"\']+)["\']', source, re.MULTILINE)
    if found is None:
        raise SystemExit("setup.py: rpiserve/__init__.py does not say __version__")
    return found.group(1)


class BuildPy(build_py):
    """``build_py`` that also puts the plugin into editable installs.

    twistd looks for plugins by listing the directories named ``twisted/plugins``, so it does not see what an editable
    install offers through its import hook. The plugin is therefore copied; it holds names only and hardly ever changes.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            plugins = Path(self.get_finalized_command("install").install_lib) / "twisted" / "plugins"
            plugins.mkdir(parents=True, exist_ok=True)
            for plugin in sorted((HERE / "twistd_plugins").glob("*.py")):
                self.copy_file(str(plugin), str(plugins / plugin.name))


setup(
    name="rpiserve",
    version=version(),
    description="Sensors, commands and schedules of a small machine behind an HTTP JSON API, as a twistd service",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The rpiserve developers",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords="raspberry-pi sensors automation twisted klein http json daemon",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Home Automation",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # An upper bound stands where the next release may break what is used: internals of Twisted, klein, Werkzeug and
    # txredisapi, the schemas of msgspec, and major versions. Each lower bound is tried by make test-versions.
    install_requires=[
        "attrs>=23.2",
        "click>=8.1.3,<9",
        "cronsim>=2.7,<3",
        "hiredis>=3,<4; platform_machine in 'x86_64 aarch64'",  # a faster parser, where it need not be compiled
        "klein>=24.8,<25",
        "msgspec>=0.23,<0.24",
        "prometheus-client>=0.20,<1",
        "psutil>=5.9.4,<8",
        "treq>=24.9.1",
        "twisted[tls]>=26.10,<27",
        "txredisapi>=1.6,<1.7",
        "tzdata>=2024.1",  # where the system has no time zones of its own
        "tzlocal>=5,<6",
        "werkzeug>=3.1,<4",
    ],
    extras_require={
        "dev": [
            "build>=1.2",
            "coverage>=7.10",  # the first with patch = subprocess and _exit
            "daebus==0.0.31",  # the other side of some tests
            "hypothesis>=6.130",
            "import-linter>=2.1",
            "mypy>=1.13",
            "mypy-zope>=1.0.9",
            "openapi-spec-validator>=0.8",
            "playwright>=1.49",
            "pytest>=8.4",
            "pytest-timeout>=2.4",
            "pytest-twisted>=1.14.3",
            "pytest-xdist>=3.8",
            "ruff>=0.9",
            "schemathesis>=4",
            "types-psutil>=6",
        ],
    },
    # Into Twisted's own folder of plugins. There must never be an __init__.py in twistd_plugins/: it would replace
    # Twisted's, and uninstalling would then delete that.
    packages=[*find_packages(include=["rpiserve", "rpiserve.*"]), "twisted.plugins"],
    package_dir={"twisted.plugins": "twistd_plugins"},
    package_data={"rpiserve": ["py.typed"], "rpiserve.cli.templates": ["*.in"], "rpiserve.web": ["dashboard/*"]},
    entry_points={"console_scripts": ["rpiserve = rpiserve.cli:main"]},
    zip_safe=False,
    cmdclass={"build_py": BuildPy},
)
