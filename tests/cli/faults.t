#!/bin/sh
# A VMM that misbehaves while a guest is saved, restored or resumed (tests/fake), and what its supervisor makes of it. A script
# plays the VMM: it has its environment, scripts are not jailed.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
cleanup() { mvm down --all --timeout 1 >/dev/null 2>&1 || :; }

"$MVMCTL" ls >/dev/null # makes its folders
snapshots=$MVM_CACHE_DIR/snapshots
mkdir -p "$MVM_HOME/path" "$snapshots"
cat >"$MVM_HOME/path/qemu-system-$(uname -m)" <<P
#!/bin/sh
exec "$MVM_BUILD/tests/fake/fake-vmm" "\$@"
P
chmod +x "$MVM_HOME/path/qemu-system-$(uname -m)"

# start NAME FAULT [TIMEOUT-MS]
start() {
    FAKE_VMM=$2 python3 "$MVM_SOURCE/tests/lib/fake-vm.py" "$MVMCTL" "$MVM_BUILD/tests/fake/fake-vmm" "$1" honest "${3:-20000}" 1 "$snapshots" >/dev/null
}
how() { mvm inspect "$1" --json | jq -r '.state + ", " + (.mode // "") + ": " + (.cold_reason // "")'; }
log() { cat "$MVM_HOME/vms/$1/agent.log"; }
# The snapshot is written when the VM is ready already.
kept() { log "$1" | grep -q '^mvm: the snapshot is kept$'; }
none='there was no snapshot of this image yet'

# ---- While a snapshot is made ----

for fault in none save-late save-twice resume-early; do
    start "$fault" "$fault"
    is "a guest is ready after its VMM saved it: $fault" "$(how "$fault")" "ready, cold: $none"
    check "the snapshot is kept: $fault" eventually 20 kept "$fault"
    check "the guest answers: $fault" mvm exec "$fault" -- true
    mvm down "$fault" --timeout 1
    start "$fault" "$fault"
    is "the next one continues from it: $fault" "$(how "$fault")" 'ready, warm: '
    mvm down "$fault" --timeout 1
done
for fault in save-refused save-fails; do
    start "$fault" "$fault"
    is "a guest that is not saved runs on: $fault" "$(how "$fault")" "ready, cold: $none"
    has "its log says why: $fault" "$(log "$fault")" 'no snapshot is made: (not now|the state could not be written or read)'
    check "it answers: $fault" mvm exec "$fault" -- true
done
for fault in save-dies save-half; do
    start "$fault" "$fault"
    is "a guest whose VMM dies while it saves boots: $fault" "$(how "$fault")" \
        'ready, cold: restoring the snapshot failed: the backend ended while it saved the guest'
    has "what was saved is dropped: $fault" "$(log "$fault")" 'the snapshot is dropped'
done
start save-never save-never 3000
is 'a VMM that never ends saving costs the time that a start may take' "$(jq -r .ended "$MVM_HOME/vms/save-never/last.json")" \
    "failed: the guest's agent was not ready within 3.0 s (it said hello, but did not finish its set-up)"
is 'nothing half made is left of all of them' "$(find "$snapshots" -name '.*.new')" ''

# ---- While one is restored ----

# again FAULT [TIMEOUT-MS]: a second start, which restores what the first one left.
again() {
    start "$1" none
    eventually 20 kept "$1" || fail "$1 has a snapshot"
    mvm down "$1" --timeout 1
    start "$1" "$@"
}
for fault in restore-late restore-twice; do
    again "$fault"
    is "a guest is restored all the same: $fault" "$(how "$fault")" 'ready, warm: '
    check "it answers: $fault" mvm exec "$fault" -- true
done
again restore-refused
is 'a guest boots where its VMM refuses the state' "$(how restore-refused)" 'ready, cold: restoring the snapshot failed: the backend ended'
has 'what is refused is dropped' "$(log restore-refused)" 'the snapshot is dropped'
again restore-fails
is 'a guest boots where its VMM says that it cannot restore' "$(how restore-fails)" \
    'ready, cold: restoring the snapshot failed: the state could not be written or read'
for fault in restore-dies restore-half; do
    again "$fault"
    is "a guest boots where its VMM dies while it restores: $fault" "$(how "$fault")" \
        'ready, cold: restoring the snapshot failed: the backend ended'
    has "which says nothing of the snapshot: $fault" "$(log "$fault")" 'the snapshot is kept, and not used'
done
again restore-never 6000
is 'a guest boots where its VMM never ends restoring' "$(how restore-never)" \
    'ready, cold: restoring the snapshot failed: the guest did not answer in time'
finish
