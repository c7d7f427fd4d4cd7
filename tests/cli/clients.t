#!/bin/sh
# Many clients of one VM: a real supervisor, and a stand-in for VMM and guest (tests/fake).
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"

helpers=
cleanup() {
    # shellcheck disable=SC2086 # a list of process numbers
    [ -z "$helpers" ] || kill $helpers 2>/dev/null
    "$MVMCTL" down --all --timeout 1 >/dev/null 2>&1 || :
}
"$MVMCTL" ls >/dev/null # makes its folders
vm() { python3 "$MVM_SOURCE/tests/lib/fake-vm.py" "$MVMCTL" "$MVM_BUILD/tests/fake/fake-vmm" "$1" "$2" >/dev/null; }
milliseconds() { date +%s%3N; }
release=$MVM_RELEASE/mvmctl

# More programs than the guest serves at a time: the others wait for their turn.
vm busy slow
i=0
while [ "$i" -lt 150 ]; do
    i=$((i + 1))
    { "$release" exec busy -- true || echo "$i"; } >>"$tmp/failed" 2>&1 &
    helpers="$helpers $!"
done
# shellcheck disable=SC2086 # a list of process numbers
wait $helpers
helpers=
is 'R8: 150 programs at once all run' "$(cat "$tmp/failed")" ''

# As many that never end.
vm deaf silent
i=0
while [ "$i" -lt 200 ]; do
    i=$((i + 1))
    "$release" exec deaf -- true >/dev/null 2>&1 &
    helpers="$helpers $!"
done
sleep 2
since=$(milliseconds)
run "$MVMCTL" ls --json
took=$(($(milliseconds) - since))
is 'R8: ls gets through to a VM with 200 programs' "$(echo "$out" | jq -r '.vms[] | select(.name == "deaf") | .state')" ready
check "R8: ls takes no longer for them (took $took ms)" test "$took" -lt 2000
run "$MVMCTL" down deaf --timeout 1
is 'R8: down gets through, too' "$status" 0
# shellcheck disable=SC2086 # a list of process numbers
wait $helpers
helpers=

# Connections that ask nothing: the oldest of them make room. Connections that use the guest: some places are kept.
cat >"$tmp/idle.py" <<'P'
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.chdir(f"{os.environ['MVM_HOME']}/vms/{sys.argv[1]}")
held = []
for i in range(1500):
    s = socket.socket(socket.AF_UNIX)
    s.connect("control.sock")
    if sys.argv[3] == "uses":
        s.sendall(b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x20\x01")
    held.append(s)
open(sys.argv[2], "w").close()
time.sleep(1000)
P
# crowd VM asks|uses
crowd() {
    rm -f "$tmp/connected"
    python3 "$tmp/idle.py" "$1" "$tmp/connected" "$2" &
    helpers="$helpers $!"
    n=0
    until [ -e "$tmp/connected" ] || [ "$n" -gt 200 ]; do
        n=$((n + 1))
        sleep 0.1
    done
}
vm idle honest
crowd idle asks
run "$MVMCTL" ls --json
is 'R8: ls gets through to a VM with 1,500 idle connections' "$(echo "$out" | jq -r '.vms[] | select(.name == "idle") | .state')" ready
run "$MVMCTL" exec idle -- true
is 'R8: a program finds a place there' "$status" 0
run "$MVMCTL" down idle --timeout 1
is 'R8: down gets through to it' "$status" 0
vm used silent
crowd used uses
run "$MVMCTL" exec used -- true
is 'R8: a program that finds no place is refused' "$status" 125
has 'R8: the refusal names the limit' "$err" '960 clients use the vm, which is the limit'
run "$MVMCTL" ls --json
is 'R8: ls gets through to a VM with that many clients' "$(echo "$out" | jq -r '.vms[] | select(.name == "used") | .state')" ready
run "$MVMCTL" down used --timeout 1
is 'R8: down gets through to it, too' "$status" 0
finish
