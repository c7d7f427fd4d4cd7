#!/usr/bin/env python3
"""search.py TEXT PLACE...: how often TEXT is in what the places hold: a process's number (its memory as it is now) or a
file or folder (the holes of its files left out). Prints the sum, and each place that has it on standard error."""
import errno
import os
import re
import sys

STEP = 1 << 24


def count(read, start, end, text):
    found, before = 0, b""
    while start < end:
        data = read(start, min(STEP, end - start))
        if not data:
            break
        found += (before + data).count(text)
        before = data[-(len(text) - 1):]
        start += len(data)
    return found


def memory(pid, text):
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            start, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if "r" not in rights:
                continue

            def read(at, n):
                try:
                    return os.pread(mem.fileno(), n, at)
                except OSError:
                    return b""

            found += count(read, int(start, 16), int(end, 16), text)
    return found


def content(path, text):
    found, at = 0, 0
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while True:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found += count(lambda where, n: os.pread(fd, n, where), start, at, text)
    except OSError as e:
        if e.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)
    return found


def files(place):
    if not os.path.isdir(place):
        yield place
    for folder, _, names in os.walk(place):
        yield from (os.path.join(folder, name) for name in names)


def main():
    text, total = sys.argv[1].encode(), 0
    for place in sys.argv[2:]:
        for name in [place] if place.isdigit() else files(place):
            if not name.isdigit() and not (os.path.isfile(name) and not os.path.islink(name)):
                continue
            found = memory(name, text) if name.isdigit() else content(name, text)
            total += found
            if found:
                print(f"{found} in {name}", file=sys.stderr)
    print(total)


main()
