"""Other packages of this name stay importable."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
