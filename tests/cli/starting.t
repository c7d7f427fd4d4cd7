#!/bin/sh
# A supervisor that stands still while its VM starts, and a guest that works again when its supervisor does.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest

milliseconds() { date +%s%3N; }
gone() { [ ! -e "/proc/$1/exe" ] || [ "$(cut -d ' ' -f 3 "/proc/$1/stat")" = Z ]; }
image=$tmp/image
test_image "$image"
run mvm up "$image" --name one --json
is 'a VM is there' "$status" 0
one=$(json .supervisor_pid)
[ -n "$one" ] && [ "$one" != null ] || one=$(supervisors)

kill -STOP "$one"
"$MVMCTL" exec one -- cat </dev/null >"$tmp/cat.out" 2>&1 &
exec=$!
sleep 1
kill -TERM "$exec"
status=0
wait "$exec" || status=$?
is 'R6: exec ends by TERM while the supervisor stands' "$status" 143
run mvm ls --json
is 'R7: the VM is not responding then' "$(json '.vms[0].state')" 'not responding'
kill -CONT "$one"
run mvm exec one -- echo works
is 'R6: the guest works when the supervisor goes on' "$out" works

# Its VMM takes its time.
qemu=qemu-system-$(uname -m)
mkdir "$tmp/slow"
printf '#!/bin/sh\nsleep 3\nexec %s "$@"\n' "$(command -v "$qemu")" >"$tmp/slow/$qemu"
chmod +x "$tmp/slow/$qemu"
PATH="$tmp/slow:$PATH" "$MVMCTL" up "$image" --name two --cold >"$tmp/up.out" 2>&1 &
up=$!
starting() { [ -S "$MVM_HOME/vms/two/control.sock" ]; }
check 'another VM is starting' eventually 20 starting
two=$(supervisors | grep -vx "$one")
kill -STOP "$two"
since=$(milliseconds)
kill -TERM "$up"
status=0
wait "$up" || status=$?
took=$(($(milliseconds) - since))
is 'R6: up ends by TERM while the supervisor stands' "$status" 143
check "R6: up ends within 3 s of TERM (took $took ms)" test "$took" -lt 3000
kill -CONT "$two" 2>/dev/null
check 'R6: nothing of that VM is left' eventually 10 gone "$two"
finish
