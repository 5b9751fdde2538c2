"""Where nothing is versioned, that is said in a sentence, and the workflow runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from latent_atlas.versioning import attach, engine


@pytest.mark.parametrize(("version", "switch"), [("1.0", "on"), (engine.TESTED_VERSIONS[0], "off")])
def test_stands_aside(monkeypatch: pytest.MonkeyPatch, version: str, switch: str) -> None:
    said: list[str] = []
    monkeypatch.setattr("snakemake.__version__", version)
    monkeypatch.setattr(engine, "workflow_log", said.append)
    monkeypatch.setenv("LATENT_ATLAS_VERSIONING", switch)
    attach(SimpleNamespace(is_main_process=True), "missing.yaml")  # touches nothing of the workflow
    assert len(said) == 1
    assert "nothing is versioned" in said[0]
