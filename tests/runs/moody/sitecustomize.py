"""For schedulers of tests: leases of a second or two, and a queue that is away while a file is there."""

import os
import sys
from typing import Any

if any("colab_magics.runs.feed" in word for word in sys.orig_argv):
    from colab_magics.errors import Unavailable
    from colab_magics.queues.sqlite import SqliteQueue

    SqliteQueue.default_lease = 3.0

    def moody(name: str) -> None:
        before = getattr(SqliteQueue, name)

        def asked(self: Any, *args: Any, **options: Any) -> Any:
            if os.path.exists(os.environ["QUEUE_IS_AWAY"]):
                raise Unavailable("nobody is there")
            return before(self, *args, **options)

        setattr(SqliteQueue, name, asked)

    moody("exchange")
    moody("heartbeat")
