#!/bin/sh
# Commands whose supervisor, or whose VMM (a stand-in: tests/fake), stands still: each of them ends when it is told to.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"

# shellcheck source=tests/lib/standing.sh
. "$(dirname "$0")/../lib/standing.sh"
cleanup() {
    go_on
    mvm down --all >/dev/null 2>&1 || :
}

"$MVMCTL" ls >/dev/null # makes its folders
for vm in one two three; do
    python3 "$MVM_SOURCE/tests/lib/fake-vm.py" "$MVMCTL" "$MVM_BUILD/tests/fake/fake-vmm" "$vm" honest >/dev/null
done
supervisor() { mvm ls --json | jq -r ".vms[] | select(.name == \"$1\") | .supervisor_pid"; }
vmm() { mvm ls --json | jq -r ".vms[] | select(.name == \"$1\") | .vmm_pid"; }
one=$(supervisor one) two=$(supervisor two) three=$(supervisor three)
vmms=$(vmm one; vmm two; vmm three)
echo text >"$tmp/file"

# Another folder in the place of the one that the supervisor confined itself to.
run mvm inspect one --json
case $(json .supervisor_confinement) in
Landlock*)
    mv "$MVM_HOME/snapshots" "$MVM_HOME/before"
    run mvm snapshot create one now
    has 'T6: a snapshot into another folder than the supervisor may write to is refused with the reason' "$status $err" \
        "^14 .*vm 'one' is not saved: the folder of snapshots is another one than when the vm was started"
    has 'T6: and with the way out' "$err" 'hint: put back .*/snapshots as it was .*, or start the vm anew'
    rm -r "$MVM_HOME/snapshots"
    mv "$MVM_HOME/before" "$MVM_HOME/snapshots"
    ;;
*)
    skip 'T6: a snapshot into another folder is refused with the reason' 'this kernel has no Landlock'
    skip 'T6: and with the way out' 'this kernel has no Landlock'
    ;;
esac

# goes_on VM: it runs, with no pause under way that a client asked for that is gone.
goes_on() {
    run mvm resume "$1"
    [ "$status" = 0 ] || printf '%s\n' "$err" | grep -q 'it is not paused'
}

# Commands that wait, whoever it is that does not answer. For the VMM, what a supervisor does one at a time is asked of another
# VM each time.
all_end() {
    ends "exec while the $1 stands" TERM 143 exec one -- cat
    ends "exec while the $1 stands" HUP 129 exec one -- cat
    ends "exec while the $1 stands" 'INT INT' 130 exec one -- cat
    ends "cp into the guest while the $1 stands" TERM 143 cp "$tmp/file" one:/tmp/file
    ends "cp into the guest while the $1 stands" 'INT INT' 130 cp "$tmp/file" one:/tmp/file
    ends "cp out of the guest while the $1 stands" TERM 143 cp one:/etc/passwd "$tmp/out"
    ends "logs -f while the $1 stands" TERM 0 logs one -f
}
stop "$one"
all_end supervisor
ends 'snapshot create while the supervisor stands' TERM 143 snapshot create one now
ends 'fork while the supervisor stands' 'INT INT' 130 fork one copy
ends 'pause while the supervisor stands' TERM 143 pause one
ends 'resume while the supervisor stands' TERM 143 resume one
ends 'down while the supervisor stands' TERM 143 down one
# With more input than all the queues hold.
run timeout -k 1 -s TERM 2 sh -c "head -c 50000000 /dev/zero | timeout --foreground -s TERM 1 '$MVMCTL' exec one -- cat"
is 'R6: exec with much input ends by TERM while the supervisor stands' "$status" 124

# On a terminal Ctrl-C is a key.
cat >"$tmp/keys.py" <<'P'
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
time.sleep(1)
os.write(fd, b"\x03")
time.sleep(0.2)
os.write(fd, b"\x03")
begun = time.time()
while time.time() - begun < 10:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        print(os.waitstatus_to_exitcode(status), time.time() - begun < 3)
        sys.exit()
    if select.select([fd], [], [], 0.05)[0]:
        try:
            os.read(fd, 4096)
        except OSError:
            time.sleep(0.05)
os.kill(pid, 9)
print("still there")
P
is 'R6: exec -t ends by the second Ctrl-C while the supervisor stands' \
    "$(python3 "$tmp/keys.py" "$MVMCTL" exec one -t -- cat)" '130 True'
go_on

# The VMM's turn: the supervisor goes on answering what it knows itself.
check 'a VM that was asked to pause and to resume goes on' eventually 15 goes_on one
for pid in $vmms; do stop "$pid"; done
all_end VMM
ends 'fork while the VMM stands' 'INT INT' 130 fork three copy
ends 'pause while the VMM stands' TERM 143 pause two
run mvm ls --json
is 'R7: ls tells the state of a VM whose VMM stands' "$(json '.vms[] | select(.name == "one") | .state')" ready
go_on
check 'a VM that was asked to pause goes on' eventually 15 goes_on two
works() { mvm exec one -- true; }
check 'R6: the VM works when all go on' eventually 15 works

# Listing: one wait for all of them together.
stop "$one"
stop "$two"
stop "$three"
since=$(milliseconds)
run mvm ls --json
took=$(($(milliseconds) - since))
is 'R7: ls shows supervisors that stand as not responding' "$(json '[.vms[].state] | unique | join(" ")')" 'not responding'
is 'R7: ls knows their processes' "$(json '[.vms[].supervisor_pid] | sort | map(tostring) | join(" ")')" \
    "$(printf '%s\n' "$one" "$two" "$three" | sort -n | tr '\n' ' ' | sed 's/ $//')"
check "R7: three supervisors that stand cost ls one wait (took $took ms)" test "$took" -lt 3000
run mvm ls
has 'R7: the table says so' "$out" '^two +not responding '

# A supervisor that stands does not accept either: the socket's queue fills.
cat >"$tmp/fill.py" <<'P'
import os, socket, sys, time
os.chdir(sys.argv[1])
held = []
while len(held) < 5000:
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect("control.sock")
    except BlockingIOError:
        break
    held.append(s)
open(sys.argv[2], "w").close()
time.sleep(1000)
P
python3 "$tmp/fill.py" "$MVM_HOME/vms/two" "$tmp/filled" &
filler=$!
check 'the queue of a socket is full' eventually 20 test -e "$tmp/filled"
since=$(milliseconds)
run mvm ls --json
took=$(($(milliseconds) - since))
check "R7: a full queue costs ls no more (took $took ms)" test "$took" -lt 3000
is 'R7: a VM whose queue is full is not responding' "$(json '.vms[] | select(.name == "two") | .state')" 'not responding'
ends 'exec while the queue of the supervisor is full' TERM 143 exec two -- true
kill "$filler"
go_on
is 'R7: they are ready again' "$(mvm ls --json | jq -r '[.vms[].state] | unique | join(" ")')" ready

# A supervisor that does not answer is ended by down.
stop "$three"
run mvm down three
is 'R6: down ends a VM whose supervisor stands' "$status" 0
gone() { [ ! -e "/proc/$1/exe" ] || [ "$(cut -d ' ' -f 3 "/proc/$1/stat")" = Z ]; }
check 'R6: its supervisor is gone' eventually 5 gone "$three"


# A guest that has halted, and one that only says nothing.
for vm in halted silent; do
    python3 "$MVM_SOURCE/tests/lib/fake-vm.py" "$MVMCTL" "$MVM_BUILD/tests/fake/fake-vmm" "$vm" "$vm" >/dev/null
done
is 'R6: a VM that nobody waits for is not asked' "$(mvm ls --json | jq -r '.vms[] | select(.name == "halted") | .state')" ready
while :; do
    mvm ls
    sleep 0.3
done >/dev/null 2>&1 &
looks=$!
since=$(milliseconds)
run timeout 20 "$MVMCTL" exec halted -- true
took=$(($(milliseconds) - since))
kill "$looks"
is 'R6: exec in a guest that has halted fails' "$status" 125
has 'R6: it is told why' "$err" 'the guest has halted: its processors wait with interrupts off'
check "R6: it is told within 3 s, whoever looks at the VM meanwhile (took $took ms)" test "$took" -lt 3000
run mvm ls --json
is 'R6: the state of that VM is halted' "$(json '.vms[] | select(.name == "halted") | .state')" halted
has 'R6: ls says why' "$(json '.vms[] | select(.name == "halted") | .problem')" 'the guest has halted'
run mvm exec halted -- true
has 'R6: the next program is told at once' "$status $err" '125 .*the guest has halted'
since=$(milliseconds)
run mvm down halted
took=$(($(milliseconds) - since))
is 'R6: it can be stopped' "$status" 0
check "R6: down does not wait for it (took $took ms)" test "$took" -lt 5000
ends 'exec in a guest that says nothing' TERM 143 exec silent -- true
is 'R6: a guest that says nothing has not halted' "$(mvm ls --json | jq -r '.vms[] | select(.name == "silent") | .state')" ready
finish
