#!/bin/sh
# More damage to the builder's store, and more processes that are killed, than tests/e2e/45-store.t has.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/store.sh"
# shellcheck disable=SC2154 # what the three define

fill first 10
is 'a first build makes the disk' "$status" 0
damage 'super block' 0 1
damage 'group descriptors' 1 1
table=$(dumpe2fs "$disk" 2>/dev/null | sed -n 's/.*Inode table at \([0-9]*\)-.*/\1/p' | head -1)
damage 'inode tables' "$table" 8

for kind in supervisor mvmctl; do
    kill_while_building "$kind"
done
kill_soon_after supervisors
finish
