"""The wheel holds the Snakefile, its rules and its profiles too, which lie at the root of the repository."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


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


setup(cmdclass={"build_py": BuildWithPipeline})
