"""Where runs execute. An engine is one file plus one line here, or an entry point of group ``colab_magics.engine``."""

from __future__ import annotations

from ..registry import Registry

ENGINES = Registry("engine", {"local": "colab_magics.engines.local:LocalEngine"})
