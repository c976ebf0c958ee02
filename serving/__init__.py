"""Answers over HTTP: a BentoML service that serves a verified bundle and says how robust it was measured to be."""

from bundle.process import set_up

set_up()
