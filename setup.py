"""The one switch of the build; everything else about the package stands in setup.cfg."""

from setuptools import setup

setup()
