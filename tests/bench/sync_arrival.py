"""How soon a written file arrives: ``%sync`` beside lsyncd, on one tree, a round each in turn.

    python tests/bench/sync_arrival.py [--files 10000] [--rounds 15]

lsyncd at its usual delay of 1 s, and at the quiet time that ``%sync`` waits for.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measuring import arrival, change, daemon, kept, lsyncd, make_tree, median, own_state, rested, rsync, show

from colab_magics.mirror.half_written import QUIET

USUAL = 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        top = Path(folder)
        own_state(top / "state")
        print(f"Arrival of one changed file of {options.files}")
        trees = {name: make_tree(top / name, options.files) for name in ("ours", "usual", "same")}
        mirrors = {name: top / f"{name} there" for name in trees}
        for name in ("usual", "same"):
            rsync(trees[name], mirrors[name])
        sync = stack.enter_context(kept(trees["ours"], mirrors["ours"]))
        rested(sync)
        processes = {
            "ours": daemon(sync),
            "usual": stack.enter_context(lsyncd(trees["usual"], mirrors["usual"], delay=USUAL)),
            "same": stack.enter_context(lsyncd(trees["same"], mirrors["same"], delay=QUIET)),
        }
        trees = {name: tree for name, tree in trees.items() if processes[name]}
        for name, tree in trees.items():  # whoever has seen one change has started
            arrival(mirrors[name], change(tree, range(1), "started\n"), "started\n")
        used = {name: processes[name].cpu() for name in trees}
        took: dict[str, list[float]] = {name: [] for name in trees}
        for i in range(options.rounds):
            for name, tree in trees.items():
                which = range(one := random.randrange(options.files), one + 1)
                took[name].append(arrival(mirrors[name], change(tree, which, f"{i}\n"), f"{i}\n"))
                time.sleep(random.random() / 10)
        cost = {name: 1000 * (processes[name].cpu() - used[name]) / options.rounds for name in trees}
        ours = median(took["ours"])
        if "usual" not in trees:
            print("  lsyncd is not installed: no peer")
        for name, title in (("usual", f"lsyncd, delay {USUAL:g} s"), ("same", f"lsyncd, delay {QUIET:g} s")):
            if name in trees:
                show(title, f"{median(took[name]):.3f} s, {cost[name]:.1f} ms CPU")
        show("%sync", f"{ours:.3f} s, {cost['ours']:.1f} ms CPU")
        for name, target in (("usual", "≤ 0.35"), ("same", "≤ 1.05")):
            if name in trees:
                show(f"%sync against {name} delay", "", ours / median(took[name]), target)


if __name__ == "__main__":
    main()
