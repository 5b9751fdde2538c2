# The pipeline on CPUs, with the packages of requirements.lock:
#   docker build --tag latent-atlas .
# A study is a folder with a params.yaml. This runs the one of the working directory, as the user who asks for it:
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/study" latent-atlas
FROM python:3.11-slim

# git, for studies under version control
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/latent-atlas
COPY requirements.lock ./
# The index has torch without GPU libraries; all else is from PyPI.
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu --requirement requirements.lock

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE Snakefile ./
COPY profiles profiles
COPY workflow workflow
COPY src src
RUN pip install --no-deps .

# Users without an entry in /etc/passwd have no name, which Snakemake asks for, and no home, where caches are kept.
ENV USER=study HOME=/tmp
WORKDIR /study
# snakemake with the Snakefile of the folder, or else that of the package
CMD ["latent-atlas", "run"]
