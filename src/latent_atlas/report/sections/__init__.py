"""The sections of the report, one module for each stage that has something to show.

A module has one function, ``section(results, params)``, which reads the stage's tables and pictures and gives a
:class:`~latent_atlas.report.page.Section`. Its sentences are computed from the tables.
"""
