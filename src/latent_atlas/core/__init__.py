"""The compute core: models, training and geometry. It runs on its own, without workflow engines or command line."""
