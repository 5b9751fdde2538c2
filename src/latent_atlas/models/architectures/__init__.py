"""Architectures, one file each: ``NAME.py`` holds the class that ``architecture: NAME`` builds."""
