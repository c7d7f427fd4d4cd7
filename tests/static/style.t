#!/bin/sh
# What needs no run: layers, shell scripts, clang-tidy, names that must not be in the tree.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1

check 'includes point the right way' tools/check-layers .
mkdir -p "$tmp/src/base"
cp -r src "$tmp/" && echo '#include "cli/cli.h"' >>"$tmp/src/base/buf.c"
check_fails 'an include that points the wrong way is found' tools/check-layers "$tmp"

# shellcheck disable=SC2046 # paths without spaces
check 'shellcheck is content' shellcheck -x -S warning -P tools -P tests/lib tools/demo tools/check tools/setup.sh tools/check-layers tools/check-macos tools/check-commits tools/build-kernel tools/kernel-flake tools/nightly tests/fuzz/seeds.sh .ci/run $(ls nix/kernel/*.sh tests/*/*.t tests/lib/*.sh tests/lib/run-suite nix/lib/*.sh nix/images/*/*.sh)

hosts=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE 'https?://[^/ ]+' | sed 's|.*//||' | sort -u)
found=
for host in $hosts; do
    grep -rqF "$host" --exclude-dir=.git --exclude-dir='build*' . && found="$found $host"
done
check 'no package registry is named by its host' test -z "$found"

# shellcheck disable=SC2046 # paths without spaces
check 'clang-format is content' clang-format --dry-run -Werror $(ls src/*/*.[ch] tests/*/*.[ch] bench/*.c)

# Which VMM there is and what it speaks is for src/vmm to know, how a VM's network is laid out for src/net/layout.h.
foreign() {
    (
        cd "$1" && grep -nEi '\bqemu|\bkvm\b|\bqmp\b|"tcg"' src/*/*.[ch] | grep -v '^src/vmm/'
        grep -nE '\b10\.0\.2\.' src/*/*.[ch] | grep -v '^src/net/layout.h:'
    )
}
is 'no file outside src/vmm names a VMM or its accelerator, none an address of the network of VMs' "$(foreign .)" ''
echo '#define GATEWAY "10.0.2.2"' >"$tmp/src/builder/new.c"
has 'a file that does is found' "$(foreign "$tmp")" 'src/builder/new.c:1'

# Text of others reaches a terminal through src/cli/print.c only; what the files beside it print is their own.
direct='(^|[^_[:alnum:]])(v?f?printf|f?puts|f?putc|putchar|fwrite|perror|dprintf|putc_unlocked)\('
prints() { (cd "$1" && grep -nE "$direct" src/*/*.c | grep -vE '^src/(guest|image/(mkrootfs|nixdb)\.c|cli/(ui|print|progress|man|help|completion)\.c)'); }
is 'T11: all text is printed through one function' "$(prints .)" ''
echo 'void f(const char *s) { puts(s); }' >"$tmp/src/cli/new.c"
has 'T11: a print beside it is found' "$(prints "$tmp")" 'src/cli/new.c:1'

# Phases are named for programs; people read the words that src/cli/progress.c has for them.
wordless=$(grep -ohE 'progress_phase\([^"()]*"[a-z0-9-]+"' src/*/*.c | grep -oE '"[^"]+"' | sort -u | while read -r phase; do
    grep -qF "{$phase, " src/cli/progress.c || echo "$phase"
done)
is "C4: each phase has words for users" "$wordless" ''

# clang-tidy reads .clang-tidy; the guest's and the host's sources alike.
if command -v clang-tidy >/dev/null; then
    # shellcheck disable=SC2046 # paths without spaces
    if clang-tidy -quiet -p "$MVM_RELEASE" $(find src -name '*.c' ! -name '*_darwin.c') >"$tmp/tidy.log" 2>"$tmp/tidy.err"; then
        pass 'clang-tidy is content'
    else
        fail 'clang-tidy is content'
        grep -E 'warning:|error:' "$tmp/tidy.log" | sort -u | say
    fi
fi
finish
