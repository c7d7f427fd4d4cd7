#!/bin/sh
# Guests that end, or say nothing, before their agent speaks: one with several processors under software emulation is booted
# once more. A script plays the VMM (scripts are not jailed): it misbehaves in its first starts, then it is the stand-in
# (tests/fake).
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
cleanup() { mvm down --all >/dev/null 2>&1 || :; }

"$MVMCTL" ls >/dev/null # makes its folders
mkdir -p "$MVM_HOME/path"
cat >"$MVM_HOME/path/qemu-system-$(uname -m)" <<'P'
#!/bin/sh
case $* in *--version*) exec "$FAKE" --version ;; esac
echo start >>"$STARTS"
if [ "$(wc -l <"$STARTS")" -gt "$BAD_STARTS" ]; then exec "$FAKE" "$@"; fi
for word in "$@"; do
    case $word in socket,id=console,fd=*) console=${word#*fd=} && console=${console%%,*} ;; esac
done
case $HOW in
silent) exec sleep "$PAUSE" ;;
killed) kill -9 $$ ;;
panics) eval "printf 'int3: 0000 [#1] SMP\nRIP: 0010:f+0x9/0x20\nKernel panic - not syncing: in interrupt\n' >&$console" ;;
esac
exit 0
P
chmod +x "$MVM_HOME/path/qemu-system-$(uname -m)"

# A VM of that many processors whose first VMMs misbehave.
boot() { # NAME CPUS BAD-STARTS HOW [TIMEOUT-MS]
    PAUSE=1000.$$ STARTS=$tmp/starts.$1 BAD_STARTS=$3 HOW=$4 FAKE=$MVM_BUILD/tests/fake/fake-vmm \
        python3 "$MVM_SOURCE/tests/lib/fake-vm.py" "$MVMCTL" "$MVM_BUILD/tests/fake/fake-vmm" "$1" honest "${5:-60000}" "$2" >/dev/null
}
state() { mvm ls --json | jq -r ".vms[] | select(.name == \"$1\") | .state"; }
starts() { wc -l <"$tmp/starts.$1" | tr -d ' '; }
ended() { jq -r .ended "$MVM_HOME/vms/$1/last.json"; }

boot once 2 1 panics
is 'R14: a guest with two processors that panicked before its agent spoke is booted once more' "$(state once)/$(starts once)" ready/2
has 'R14: its log says so' "$(cat "$MVM_HOME/vms/once/agent.log")" \
    'the guest ended before its agent spoke, .* with several processors: booting again'
boot twice 2 2 panics
is 'R14: one that panics again is not booted a third time' "$(starts twice)" 2
has 'R14: it is told with the exception and its place' "$(ended twice)" \
    'ended before its agent was ready: Kernel panic .*in interrupt \(int3: 0000 \[#1\] SMP, RIP: 0010:f\+0x9/0x20\)'
boot single 1 1 panics
is 'R14: a guest with one processor that panicked is not booted again' "$(starts single)" 1
boot quiet 2 1 silent 8000
is 'R14: a guest with two processors that says nothing for half of its time is booted once more' "$(state quiet)/$(starts quiet)" ready/2
has 'R14: its log says so too' "$(cat "$MVM_HOME/vms/quiet/agent.log")" 'said nothing on its console before its agent spoke'
boot mute 1 1 silent 3000
is 'R14: a silent guest with one processor is waited for until its time is over' "$(starts mute)" 1
boot killed 2 1 killed
is 'R14: a VMM that was killed is not started again' "$(starts killed)" 1
none_left() { ! pgrep -f "^sleep 1000[.]$$\$" >/dev/null; }
check 'R14: nothing is left of the VMMs that were given up' eventually 5 none_left
finish
