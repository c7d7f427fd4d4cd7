#!/bin/sh
# The VMM's jail: what a VMM could reach if a guest had taken it over.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest

image=$tmp/image
test_image "$image"
kept() { ls "$MVM_CACHE_DIR/snapshots"/*/*/meta.json; }
json_of() { printf '%s\n' "$1" | jq -r "$2"; }
vmm_of() { pgrep -f -- "-name mvm-$1 .*$tmp/"; }
# Descriptors of files that may be written, but its own log and devices.
writable() {
    for fd in "/proc/$1/fd"/*; do
        target=$(readlink "$fd") || continue
        case $target in *vmm.log | /dev/* | [!/]*) continue ;; esac
        case $(sed -n 's/^flags:[[:space:]]*//p' "/proc/$1/fdinfo/${fd##*/}") in *[12]) echo "$target" ;; esac
    done
}

mode='coldthere was no snapshot of this image yet'
# The network process of a VM that is alone starts when its guest asks for something, which this guest does not; a member's at once.
run mvm network create app
for vm in first second; do
    run mvm up "$image" --name "$vm" --network "$([ "$vm" = second ] && echo app || echo public)" --json
    started=$out
    is "T6: the $vm VM of an image starts in the jail" "$status $(json '.mode + .cold_reason')" "0 $mode"
    check "the snapshot of the $vm VM is kept" eventually 120 kept
    mode=warm
    pid=$(vmm_of "$vm")
    is "T6: the VMM of the $vm VM is one process, a child of its supervisor" \
        "$(cat "/proc/$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")/comm")" mvm-supervisor
    is "T6: the VMM of the $vm VM, restored, holds no writable descriptor of a file" "$(writable "$pid")" ''
done
is 'T6: the VMM gains no privileges' "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' "/proc/$pid/status")" 1
is "T6: our filter and QEMU's own are in force" "$(sed -n 's/^Seccomp_filters:[[:space:]]*//p' "/proc/$pid/status")" 2
supervisor=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
is 'T6: the supervisor gains no privileges, and a filter of ours is in force' \
    "$(sed -n 's/^\(NoNewPrivs\|Seccomp_filters\):[[:space:]]*//p' "/proc/$supervisor/status" | tr '\n' ' ')" '1 1 '
run mvm inspect second --json
limits=$(json .limits)
# Standard ones, two sockets to the supervisor and one to the network process, the VM's folder; a member's: where others say that they
# came, and where it says so to the network process; a cgroup's folder, its parent's, and a VMM's process.
case $limits in none:*) descriptors=9 ;; *) descriptors=12 ;; esac
check "T6: the second VM's network process runs" eventually 60 pgrep -P "$supervisor" -x mvm-network
is 'T6: the launcher has no descriptor but its sockets, standard ones, its folder and those of a cgroup' \
    "$(for child in $(pgrep -P "$supervisor" -x mvm-launcher); do find "/proc/$child/fd" -type l | wc -l; done)" "$descriptors"
run mvm doctor --json
detail=$(json '.checks[] | select(.name == "limits").detail')
mounted=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
case $limits in
none:*)
    is 'T6: inspect says why the VMM has no cgroup of its own, and doctor the same' "$limits" "none: $detail"
    skip 'T6: the VMM has bounds on memory and processes' "$detail"
    skip 'T6: its cgroup goes with it' "$detail"
    ;;
*)
    cgroup=$mounted$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
    is 'T6: the VMM has bounds on memory and processes, and inspect says them' \
        "$limits" "memory $(($(cat "$cgroup/memory.max") >> 20)) MiB, $(cat "$cgroup/pids.max") processes"
    run mvm up "$image" --name bounded
    cgroup=$mounted$(sed -n 's/^0:://p' "/proc/$(vmm_of bounded)/cgroup")
    run mvm down bounded
    check_fails 'T6: its cgroup goes with it' test -e "$cgroup"
    ;;
esac
is 'T6: the VMM has no capability' "$(sed -n 's/^CapBnd:[[:space:]]*//p' "/proc/$pid/status")" 0000000000000000
has_not 'T6: nothing of the environment reaches the VMM' "$(tr '\0' '\n' <"/proc/$pid/environ")" '^(MVM_HOME|HOME|USER)='
has 'T6: it leaves no core file' "$(cat "/proc/$pid/limits")" 'core file size  *0  *0 '
if command -v bwrap >/dev/null && bwrap --unshare-user --unshare-pid --ro-bind / / true 2>/dev/null; then
    for ns in user mnt pid ipc uts net; do
        check_fails "T6: the VMM has its own $ns namespace" test "$(readlink "/proc/$pid/ns/$ns")" = "$(readlink "/proc/self/ns/$ns")"
    done
    for path in etc/passwd etc/shadow root home "${MVM_HOME#/}"; do
        check_fails "T6: the VMM does not see /$path" test -e "/proc/$pid/root/$path"
    done
    is 'T6: the VMM sees no process but its own' "$(find "/proc/$pid/root/proc" -maxdepth 1 -name '[0-9]*' | wc -l)" 1
    run mvm exec second -- true
    is 'the guest works' "$status" 0
    has 'T6: up says what confines the VMM' "$(json_of "$started" .confinement)" '^namespaces, (Landlock [0-9]+, )?seccomp'
    run mvm ls --json
    has 'T6: ls --json says it' "$(json '.vms[] | select(.name == "second").confinement')" '^namespaces, .*seccomp'
    run mvm inspect second --json
    has 'T6: inspect says it' "$(json .confinement)" '^namespaces, .*seccomp'
    has 'T6: inspect says it of the supervisor' "$(json .supervisor_confinement)" '^(Landlock [0-9]+, )?seccomp'
    is 'T5: inspect says what the guest reaches' "$(json .network)" public
    network=$(pgrep -P "$supervisor" -x mvm-network)
    is "T5: the network process has the host's network" "$(readlink "/proc/$network/ns/net")" "$(readlink /proc/self/ns/net)"
    for ns in user mnt pid ipc uts; do
        check_fails "T5: the network process has its own $ns namespace" \
            test "$(readlink "/proc/$network/ns/$ns")" = "$(readlink "/proc/self/ns/$ns")"
    done
    for path in etc/passwd root home "${MVM_HOME#/}"; do
        check_fails "T5: the network process does not see /$path" test -e "/proc/$network/root/$path"
    done
    is 'T5: the network process gains no privileges, and a filter of ours is in force' \
        "$(sed -n 's/^\(NoNewPrivs\|Seccomp_filters\):[[:space:]]*//p' "/proc/$network/status" | tr '\n' ' ')" '1 1 '
    run mvm inspect second
    has 'T6: inspect says it to people' "$out" 'confinement  *namespaces, '
    run mvm doctor --json
    has 'T6: doctor says it' "$(json '.checks[] | select(.name == "confinement").detail')" '^qemu: namespaces, .*seccomp'
else
    skip 'T6: namespaces of its own' 'user namespaces are refused here'
fi

# A VMM that a guest has taken over gives its own monitor commands; one without the jail can do each of these things.
mkdir "$tmp/outside" "$tmp/script"
echo secret >"$tmp/secret"
escape() {
    vmm=$(vmm_of "$1")
    python3 "$MVM_SOURCE/tests/lib/qmp-escape.py" "$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$vmm/status")" "$vmm" "$tmp/secret" \
        "$tmp/outside" "$MVM_HOME/vms/second/control.sock" "$image/rootfs.ext4" 2>"$tmp/escape.err"
    say <"$tmp/escape.err"
}
run mvm up "$image" --name taken
is 'T6: commands of a VMM that was taken over reach its own files for reading, and nothing else' \
    "$(escape taken | grep -v ' refused: ')" 'the monitor answers allowed
read a file of its own allowed'
is 'T6: nothing was written by them' "$(ls -A "$tmp/outside")" ''
run mvm down taken
cat >"$tmp/script/qemu-system-$(uname -m)" <<N
#!/bin/sh
exec $(command -v "qemu-system-$(uname -m)") "\$@"
N
chmod +x "$tmp/script/qemu-system-$(uname -m)"
run env PATH="$tmp/script:$PATH" "$MVMCTL" up "$image" --name free
is 'T6: a script in the place of QEMU runs' "$status" 0
has 'T6: and up warns that it is not confined' "$err" '^mvmctl: warning: confinement of the VMM: none: .* is a script'
run mvm inspect free --json
has 'T6: inspect says so, too' "$(json .confinement)" '^none: .* is a script'
has 'T6: a VMM without a jail writes where it likes' "$(escape free)" '^write memory to a file allowed'
run mvm down free
printf '[boot]\nconfine = "required"\n' >"$MVM_HOME/config.toml"
run env PATH="$tmp/script:$PATH" "$MVMCTL" up "$image" --name free
is 'T6: with boot.confine = "required" it does not' "$status" 14
has 'T6: and the error says why' "$err" 'the VMM cannot be confined: .* is a script'
has 'T6: and the hint what can be done' "$err" 'hint: .*boot.confine = "auto"'
run mvm up "$image" --name strict
is 'T6: QEMU itself starts with boot.confine = "required"' "$status" 0
run mvm down strict
printf '[boot]\nconfine = "never"\n' >"$MVM_HOME/config.toml"
run mvm up "$image" --name free
is 'T6: another word for boot.confine is refused' "$status" 3
rm "$MVM_HOME/config.toml"

# What QEMU writes is read by the supervisor into a log with a cap; here somebody else writes into that pipe.
mkdir "$tmp/noisy"
cat >"$tmp/noisy/qemu-system-$(uname -m)" <<N
#!/bin/sh
yes "what a guest made QEMU say" | head -c 5000000 >&2
echo the last word >&2
exit 3
N
chmod +x "$tmp/noisy/qemu-system-$(uname -m)"
run env PATH="$tmp/noisy:$PATH" "$MVMCTL" up "$image" --cold --name noisy
is 'T7: a VM whose VMM floods its error output fails to start' "$status" 14
has 'T7: the last words of the VMM are in what the user sees' "$err" 'the last word'
is 'T7: vmm.log and the one before it stay below 2 MiB + 64 KiB of 5 MB' \
    "$(($(cat "$MVM_HOME/vms/noisy/vmm.log"* | wc -c) <= 2162688))" 1
has 'T7: the last words are in vmm.log' "$(cat "$MVM_HOME/vms/noisy/vmm.log")" 'the last word'

network=$(pgrep -P "$supervisor" -x mvm-network)
kill -9 "$network"
check 'T5: a network process that was killed is said' eventually 60 grep -q 'network process was killed by signal 9' "$MVM_HOME/vms/second/agent.log"
run mvm exec second -- true
is 'T5: the VM goes on without its network process' "$status" 0
launcher=$(pgrep -P "$supervisor" -x mvm-launcher)
# Killing the supervisor kills the VMM, with bubblewrap gone from between them.
kill -9 "$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")"
gone() { ! kill -0 "$pid" 2>/dev/null; }
check 'T6: the VMM dies with its supervisor' eventually 5 gone
no_network() { [ -z "$(pgrep -P "$supervisor" -x mvm-network)" ] && ! kill -0 "$network" 2>/dev/null; }
check 'T5: the network process dies with its supervisor, too' eventually 30 no_network
no_launcher() { [ -z "$(pgrep -P "$supervisor" -x mvm-launcher)" ] && ! kill -0 "$launcher" 2>/dev/null; }
check 'T6: the launcher dies with its supervisor, too' eventually 5 no_launcher
pid=$(vmm_of first)
kill -9 "$pid"
ended() { mvm ls --all --json | grep -q 'killed by signal 9'; }
check "T6: the VMM's true end is known" eventually 5 ended
run mvm down --all

# Where there is no bubblewrap: Landlock and seccomp alone.
without=$tmp/path
mkdir "$without"
for program in /usr/local/bin/* /usr/bin/*; do
    [ "${program##*/}" = bwrap ] || ln -sf "$program" "$without/"
done
run env PATH="$without" "$MVMCTL" up "$image" --name plain --json
is 'T6: a VM starts without bubblewrap' "$status $(json .mode)" '0 warm'
pid=$(vmm_of plain)
is "T6: our filter is in force without bubblewrap, too" "$(sed -n 's/^Seccomp_filters:[[:space:]]*//p' "/proc/$pid/status")" 2
run mvm inspect plain --json
has 'T6: inspect says that namespaces are missing, and why' "$(json .confinement)" \
    '^Landlock [0-9]+, seccomp \(bubblewrap is not installed\)$'
is 'T6: without bubblewrap a restored VMM holds no writable descriptor of a file' "$(writable "$pid")" ''
if [ "$(mvm inspect plain --json | jq -r '.confinement | startswith("Landlock")')" = true ]; then
    rm -r "$tmp/outside"
    mkdir "$tmp/outside"
    run mvm up "$image" --name second
    is 'T6: nor do commands of a VMM that was taken over reach more there' \
        "$(escape plain | grep -v ' refused: ')" 'the monitor answers allowed
read a file of its own allowed'
    is 'T6: and nothing was written by them' "$(ls -A "$tmp/outside")" ''
fi
finish
