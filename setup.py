"""What pyproject.toml cannot say of the packages that are built.

The wheel holds the Snakefile, its rules and its profiles too, which lie at the root of the repository. README.md is the
description on a package page, where relative links lead nowhere: they become links into the repository, or, as long as
``[project.urls]`` names none, pictures are left out and the words of other links stay.
"""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


def description(readme, repository):
    """The text of README.md without relative links; ``repository`` is a URL or None."""

    def standing_alone(link):
        picture, words, path = link.groups()
        if not repository:
            return "" if picture else words
        return f"{picture}[{words}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{path})"

    return RELATIVE_LINK.sub(standing_alone, readme)


class BuildWithPipeline(build_py):
    """Copies them into ``latent_atlas/pipeline`` of what is built; an editable installation finds them at the root."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "latent_atlas", "pipeline")
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy("Snakefile", target)
            for folder in ("workflow", "profiles"):
                shutil.copytree(folder, target / folder, dirs_exist_ok=True)


urls = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
setup(
    cmdclass={"build_py": BuildWithPipeline},
    long_description=description(Path("README.md").read_text(encoding="utf-8"), urls.get("Repository")),
    long_description_content_type="text/markdown",
)
