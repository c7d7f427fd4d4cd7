# Sourced behind tap.sh by tests with VMs: what there is of them below this MVM_HOME.
# shellcheck shell=sh disable=SC2154 # names shared between the test files

# Processes of VMs below this MVM_HOME: QEMU has the VM's folder nowhere in its arguments, but its image or store is below the cache,
# or the image in the test's own folder.
vm_processes() { pgrep -af "qemu-system.*($MVM_CACHE_DIR|$MVM_HOME|$tmp/)" | grep -v -- '-name mvm-builder ' | cut -d ' ' -f 1; }
# The persistent builder's.
builder_processes() { pgrep -f -- "-name mvm-builder .*$MVM_CACHE_DIR" || :; }
# What there is of VMs but the persistent builder.
vm_folders() { find "$MVM_HOME/vms" -mindepth 1 -maxdepth 1 ! -name builder; }
# Supervisors of VMs below this MVM_HOME: nobody else's are looked at, let alone killed. A child of one that has not become
# the VMM yet has its name, too.
supervisors() {
    for pid in $(pgrep -x mvm-supervisor); do
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
        [ "$(cat "/proc/${parent:-0}/comm" 2>/dev/null)" != mvm-supervisor ] || continue
        cat "/proc/$pid/environ" 2>/dev/null | tr '\0' '\n' | grep -qFx "MVM_HOME=$MVM_HOME" && echo "$pid"
    done
    :
}
# A field of a VM, as ls has it.
field() { mvm ls --json | jq -r --arg name "$1" ".vms[] | select(.name == \$name) | .$2"; }
# Has mvmctl believe in KVM below this MVM_HOME alone, whatever its verdict is; sealed as src/host/json.c does it.
believe_kvm() {
    mvm up "$1" --name first --cold >/dev/null 2>&1 # so that there is a verdict
    mvm down first >/dev/null
    python3 - "$MVM_HOME/run/accel.json" <<'P'
import hashlib, json, os, sys
with open(sys.argv[1]) as f:
    verdict = json.load(f)
del verdict["sha256"]
verdict.update(accel="kvm", reason="a test says so")
text = json.dumps(verdict)[:-1] + ', "sha256": "'
os.unlink(sys.argv[1])
with open(sys.argv[1], "w") as f:
    f.write(text + hashlib.sha256(text.encode()).hexdigest() + '"\n}\n')
P
}
