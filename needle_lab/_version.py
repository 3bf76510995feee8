"""The version, in one place: the build reads it from here, and so does `needle_lab.__version__`."""

__version__ = "0.2.0"
