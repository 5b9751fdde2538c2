"""The stages of the pipeline, one module each: a module's command is what the rule of the same name runs."""
