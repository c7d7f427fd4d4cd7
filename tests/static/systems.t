#!/bin/sh
# Which system this is, is asked in one place; and mvmctl compiles and links for another one.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1

# Whether a sanitizer or a processor is compiled for may be asked; the system has files of its own (os.h).
is 'no source file asks the preprocessor which system it is compiled for' \
    "$(grep -rnE '^ *# *(if|elif).*__(linux|APPLE|MACH|unix)' src | grep -v '^src/guest/' || :)" ''

run tools/check-macos "$tmp/macos"
if [ "$status" = 77 ]; then
    skip 'mvmctl compiles and links for aarch64-macos' 'there is no zig: tools/check-macos --fetch could not get it'
else
    [ "$status" = 0 ] || printf '%s\n' "$err" | head -n 40 | say
    is 'mvmctl compiles and links for aarch64-macos' "$status" 0
    has 'what comes out is a program for it' "$(od -An -tx4 -N 16 "$tmp/macos/mvmctl")" '^ *feedfacf 0100000c 00000000 00000002'
fi
finish
