#!/bin/sh
# The ways out of tests/cli/escapes.t from a real guest: its own kernel and network process, the VMM's card between them.
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
. "$(dirname "$0")/../lib/e2e.sh"
check 'an image is there' test -s "$image/vmlinux"

space="unshare --net --mount"
[ "$(id -u)" = 0 ] || space="unshare --user --map-root-user --net --mount"
if ! $space true 2>/dev/null; then
    skip 'ways out of a guest are tried' 'there are no namespaces'
    finish
    exit
fi
check 'a program that sends frames is built' cc -static -O1 -o "$tmp/pump" "$MVM_SOURCE/tests/lib/frame-pump.c"
# tries OPTION...: of up
tries() {
    $space timeout 900 python3 "$MVM_SOURCE/tests/lib/escapes.py" guest "$MVMCTL" "$tmp/pump" "$image" "$@" >"$tmp/ways" 2>"$tmp/err"
    is "the ways with $* are tried to the end" "$?" 0
    verdicts "$tmp/ways"
    say <"$tmp/err"
}
tries --network public
tries --allow '*.example.org'
finish
