"""What params.yaml means."""
