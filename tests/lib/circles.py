"""circles.py BUILD: prints each circle of source files, one a line: files of which each calls, or reads, something of the next.

Read from the object files of mvmctl and mvm-init, so that what the linker sees counts, not what a header declares.
"""
import glob
import os
import subprocess
import sys


def objects(build):
    """Source file -> its object."""
    found = {}
    for path in glob.glob(build + "/src/*/*.a.p/*.o") + glob.glob(build + "/mvmctl.p/*.o") + glob.glob(build + "/mvm-init.p/*.o"):
        room, name = os.path.basename(os.path.dirname(os.path.dirname(path))), os.path.basename(path)[:-2]
        source = name[4:].replace("_", "/", 1) if name.startswith("src_") else room + "/" + name
        found[source] = path
    return found


def symbols(path):
    defined, wanted = set(), set()
    for line in subprocess.run(["nm", "-A", path], capture_output=True, text=True, check=True).stdout.splitlines():
        kind, name = line.split()[-2:]
        if kind == "U":
            wanted.add(name)
        elif kind in "TDBRCVW":
            defined.add(name)
    return defined, wanted


def circles(uses):
    """Strongly connected parts of more than one file (Tarjan)."""
    index, low, stack, on_stack = {}, {}, [], set()

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        on_stack.add(v)
        for w in uses[v]:
            if w not in index:
                yield from visit(w)
            if w in on_stack:
                low[v] = min(low[v], low[w])
        if low[v] == index[v]:
            part = []
            while not part or part[-1] != v:
                part.append(stack.pop())
                on_stack.discard(part[-1])
            if len(part) > 1:
                yield sorted(part)

    for v in sorted(uses):
        if v not in index:
            yield from visit(v)


def main(build):
    of = {source: symbols(path) for source, path in objects(build).items()}
    uses = {source: set() for source in of}
    for guest in (False, True):  # a name may be defined once in each of the two programs
        files = [s for s in of if s.startswith("guest/") == guest or s.split("/")[0] in ("base", "wire")]
        owner = {name: s for s in files for name in of[s][0]}
        for s in files:
            uses[s] |= {owner[name] for name in of[s][1] if owner.get(name, s) != s}
    if not uses:
        sys.exit("no object files in " + build)
    for part in sorted(circles(uses)):
        print(" ".join(part))


main(sys.argv[1])
