#!/bin/sh
# A real supervisor and an agent that misbehaves (tests/fake), side by side for each way to misbehave: what it may cost the
# host, and what the user is told. Memory and processor time are those of the release build.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"

helpers=
cleanup() {
    # shellcheck disable=SC2086 # a list of process numbers
    [ -z "$helpers" ] || kill $helpers 2>/dev/null
    "$release" down --all --timeout 1 >/dev/null 2>&1 || :
}
release=$MVM_RELEASE/mvmctl
"$MVMCTL" ls >/dev/null # makes its folders
# vm MVMCTL NAME BEHAVIOUR [TIMEOUT-MS]: its supervisor's process number is left in a file.
vm() { python3 "$MVM_SOURCE/tests/lib/fake-vm.py" "$1" "$MVM_BUILD/tests/fake/fake-vmm" "$2" "$3" "${4:-20000}" >"$tmp/$2.pid"; }
pid() { cat "$tmp/$1.pid"; }
# clients NAME N READS: one connection that opens N streams, and reads what comes or nothing.
cat >"$tmp/clients.py" <<'P'
import os, socket, struct, sys, time
name, n, reads = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "reads"
os.chdir(f"{os.environ['MVM_HOME']}/vms/{name}")
s = socket.socket(socket.AF_UNIX)
s.connect("control.sock")
request = b"\x20\x01"
for i in range(n):
    s.sendall(struct.pack("<IIBBH", len(request), 2 * i + 1, 2, 0, 0) + request)
while reads and s.recv(65536):
    pass
time.sleep(1000)
P
clients() {
    python3 "$tmp/clients.py" "$@" &
    helpers="$helpers $!"
}
ticks() { cut -d ' ' -f 14,15 "/proc/$(pid "$1")/stat" | tr ' ' '\n' | paste -sd + | bc; }
peak_mib() { echo "$(($(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(pid "$1")/status") / 1024))"; }
field() { "$release" ls --json | jq -r ".vms[] | select(.name == \"$1\") | .$2"; }

# ---- What is held and what it costs ----

floods='flood-hello flood-log flood-service flood-unknown flood-open flood-gone flood-window flood-reset'
fills='fill-large fill-small'
for how in $floods $fills; do
    vm "$release" "$how" "$how" &
    eval "start_$(echo "$how" | tr - _)=$!"
done
for how in $floods $fills; do
    eval "wait \$start_$(echo "$how" | tr - _)"
done
for how in $floods; do
    clients "$how" 1 reads
    ticks "$how" >"$tmp/$how.before"
done
for how in $fills; do
    for n in 101 102 103 104; do clients "$how" "$n" not; done
done
sleep 10
hertz=$(getconf CLK_TCK)
for how in $floods; do
    used=$((($(ticks "$how") - $(cat "$tmp/$how.before")) * 1000 / hertz))
    check "T4: $how costs at most 20 % of a core over 10 s (took $used ms)" test "$used" -le 2000
done
is_cut_off() { [ "$(field "$how" state)" = 'cut off' ]; }
for how in $floods; do
    check "T4: $how gets the guest cut off" eventually 20 is_cut_off
    has "T4: ls says why, of $how" "$(field "$how" problem)" 'the guest was cut off: (for 10 s it sent|window for data)'
    check "T4: $how leaves at most 24 MiB in the supervisor (peak $(peak_mib "$how") MiB)" test "$(peak_mib "$how")" -le 24
done
for how in $fills; do
    check "T4: $how leaves at most 60 MiB in the supervisor (peak $(peak_mib "$how") MiB)" test "$(peak_mib "$how")" -le 60
done
is 'T4: a guest that keeps to its windows is not cut off' "$(field fill-large state)" ready
run "$release" exec flood-log -- true
is 'T4: a program in a guest that was cut off fails' "$status" 125
has 'T4: it is told why' "$err" 'the guest was cut off: for 10 s it sent'
# shellcheck disable=SC2086 # a list of process numbers
kill $helpers
helpers=
run "$release" down --all --timeout 1
is 'T4: they can be stopped' "$status" 0

# ---- What a client costs ----

# It asks for the VM's status, over and over, and does not read.
cat >"$tmp/asks.py" <<'P'
import os, socket, struct, sys, time
os.chdir(f"{os.environ['MVM_HOME']}/vms/{sys.argv[1]}")
s = socket.socket(socket.AF_UNIX)
s.connect("control.sock")
s.settimeout(3)
request = b"\x28\x01"
try:
    for i in range(0, 400000, 100):
        s.sendall(b"".join(struct.pack("<IIBBH", len(request), 2 * k + 1, 2, 0, 0) + request for k in range(i, i + 100)))
except OSError:
    print("not read any more", flush=True)
time.sleep(1000)
P
vm "$release" asked honest
python3 "$tmp/asks.py" asked >"$tmp/asks.out" &
helpers=$!
check 'T4: a client that does not read its answers is not read' eventually 30 grep -q 'not read' "$tmp/asks.out"
check "T4: it leaves at most 24 MiB in the supervisor (peak $(peak_mib asked) MiB)" test "$(peak_mib asked)" -le 24
is 'T4: another is served' "$(field asked state)" ready
kill "$helpers"
helpers=

# ---- What breaks the protocol ----

# behaviour, state, what ls says.
while read -r how state why; do
    vm "$MVMCTL" "$how" "$how" 3000
    case $how in *window* | *-stream) clients "$how" 1 reads ;; esac
    state=$(echo "$state" | tr _ ' ')
    is_so() { [ "$(field "$how" state)" = "$state" ]; }
    check "T4: after $how the VM is $state" eventually 5 is_so
    has "T4: ls says why, of $how" "$(field "$how" problem) $(field "$how" ended)" "$why"
done <<'T'
huge-window cut_off window for data that never came
no-window cut_off window for data that never came
beyond-window cut_off more data than the window allows
huge-frame cut_off frame longer than allowed
unknown-frame cut_off frame of an unknown type
unknown-stream cut_off frame for a stream that was never opened
broken-message cut_off message that cannot be understood
half-frame cut_off the connection to its agent ended
end-when-ready cut_off the connection to its agent ended
goodbye cut_off the agent ended the connection
half-header ready null
silent ready null
mute failed the guest's agent was not ready within 3.0 s
end-after-hello failed the connection to its agent ended
other-protocol failed the guest's agent speaks protocol 99
T
finish
