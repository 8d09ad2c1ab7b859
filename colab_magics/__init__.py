"""colab_magics turns a notebook into a job queue.

``%load_ext colab_magics`` gives the magics, ``colab-magics`` is the shell's command, and every verb is a function here:
``from colab_magics import project, sync, fork, stop, jobs``. In a run, ``report(loss=0.3, step=10)`` says how it does,
and ``changes()`` what people have edited in its row of a queue; ``pack``, ``unpack`` and ``keep`` are for files.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .verbs import FUNCTIONS, VERBS, load

if TYPE_CHECKING:
    from .verbs.archives import pack as pack
    from .verbs.archives import unpack as unpack
    from .verbs.changes import changes as changes
    from .verbs.download import download as download
    from .verbs.fork import fork as fork
    from .verbs.host import host as host
    from .verbs.jobs import jobs as jobs
    from .verbs.join import join as join
    from .verbs.keep import keep as keep
    from .verbs.project import project as project
    from .verbs.queue import queue as queue
    from .verbs.remote import remote as remote
    from .verbs.report import report as report
    from .verbs.runtime import runtime as runtime
    from .verbs.s3 import s3 as s3
    from .verbs.stop import stop as stop
    from .verbs.submit import submit as submit
    from .verbs.sync import sync as sync
    from .verbs.trust import trust as trust
    from .verbs.tunnel import tunnel as tunnel
    from .verbs.upload import upload as upload

__version__ = "0.1.0.dev0"

__all__ = ["VERBS", "__version__", *FUNCTIONS, *VERBS]


def __getattr__(name: str) -> Any:
    """Import a verb at its first use: loading the extension must not wait for all of them."""
    if name not in VERBS and name not in FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "IPython" in sys.modules:
        # `from colab_magics import fork` in a notebook that never said %load_ext shows its things there all the same.
        from .faces import magics

        magics.ensure_session()
    function = load(name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *FUNCTIONS, *VERBS})


def load_ipython_extension(ip: Any) -> None:
    """Answer ``%load_ext colab_magics``."""
    from .faces import magics

    magics.load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """Answer ``%unload_ext colab_magics``; nothing of ours is left in the shell."""
    from .faces import magics

    magics.unload(ip)
