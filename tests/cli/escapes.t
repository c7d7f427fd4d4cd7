#!/bin/sh
# Ways out of a VM's network, tried by a guest that makes its own frames (tests/lib/escapes.py): none gets through, each is logged.
. "$(dirname "$0")/../lib/tap.sh"

space="unshare --net"
[ "$(id -u)" = 0 ] || space="unshare --user --map-root-user --net"
if ! $space true 2>/dev/null; then
    skip 'ways out of a network are tried' 'there are no network namespaces'
    finish
    exit
fi
# tries LAYER...: each way under a policy, in a namespace of the test's own.
tries() {
    $space timeout 300 python3 "$MVM_SOURCE/tests/lib/escapes.py" host "$MVMCTL" "$@" >"$tmp/ways" 2>"$tmp/err"
    is "the ways under $1 are tried to the end" "$?" 0
    verdicts "$tmp/ways"
}
tries @public
tries @listed '*.example.org'
finish
