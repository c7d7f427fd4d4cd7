#!/bin/sh
# The programs as packagers build them: with the other compiler, whose warnings clang-tidy gives every day, and for size, where gcc
# finds other things than in the rest. Here and not in tools/check: 80 s of processor time for what is rarely found.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1
for type in clang-release gcc-minsize; do
    CC=${type%-*} meson setup "$tmp/$type" -Dwerror=true --buildtype="${type#*-}" >/dev/null
    check "C7: buildtype ${type#*-} with ${type%-*} builds without a warning" ninja -C "$tmp/$type" programs
done
finish
