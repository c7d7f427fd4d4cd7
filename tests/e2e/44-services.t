#!/bin/sh
# A VM is ready when its services are, and says so when one of them has failed.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER
flake=$tmp/flake
mkdir "$flake"
# image NAME ARGUMENTS [FUNCTION]: of FUNCTION, what mkGuest makes of these.
image() {
    cat >"$flake/flake.nix" <<N
{
  inputs.mvm.url = "mvm";
  outputs = { self, mvm }: { packages.x86_64-linux.default = ${3:-} (mvm.lib.x86_64-linux.mkGuest { name = "$1"; $2 }); };
}
N
}
state() { mvm ls --json | jq -r ".vms[] | select(.name == \"$1\") | .state"; }
problem() { mvm ls --json | jq -r ".vms[] | select(.name == \"$1\") | .problem"; }

# One that fails whenever it is started, beside one that does not.
image loops 'services = { loops.command = "exit 3"; stays.command = "exec sleep 1000000"; };'
run mvm run --flake "$flake" --json
is 'G3: run exits with 16 where a service fails' "$status/$(json '.phase + " " + (.exit_status | tostring)')" '16/services 16'
has 'G3: and says which and how' "$out" 'service loops ended with status 3'
is 'G3: its VM is not called ready' "$(state loops)" failed
has 'G3: ls has the reason' "$(mvm ls)" '^loops +failed .*service loops ended with status 3'
check 'G3: a service that fails again and again is given up' eventually 20 sh -c "'$MVMCTL' ls | grep -q 'ended with status 3, 5 times in a row$'"
is 'G3: the VM itself can be looked at' "$(mvm exec loops -- echo there)" there
run mvm up --flake "$flake" --name agent --ready agent
is 'G3: up --ready agent does not wait for services' "$status" 0
mvm down loops agent >/dev/null
run mvm up --flake "$flake" --ready soon
is 'G3: another word is refused' "$status" 2

# One that prints as fast as it can, for longer than the supervisor bears with a guest that floods it.
image noisy 'services = { noisy.command = "exec yes a line of noise"; calm.command = "sleep 12; echo calm; exec sleep 1000000"; };'
run mvm run --flake "$flake"
is 'T4: a VM whose service floods its log is started' "$status" 0
check 'T4: lines of another service are there all the same' eventually 60 sh -c "'$MVMCTL' logs noisy | grep -q 'calm: calm'"
is 'T4: the VM is ready' "$(state noisy)" ready
has 'T4: its log says how many lines were left out' "$(mvm logs noisy | tail -n 20000)" 'noisy: [0-9]+ lines left out: it prints more than 2500 a second'
is 'T4: and it serves' "$(mvm exec noisy -- echo there)" there
mvm down noisy >/dev/null

# One that takes all memory is ended for that, not the guest, and not without a word.
image swells 'memory = 128; services.swells = { command = "exec tail /dev/zero"; restart = "no"; };'
mvm run --flake "$flake" --name swells >/dev/null 2>&1
check 'R15: a service that takes all memory is ended, and ls says why' eventually 120 sh -c \
    "'$MVMCTL' ls | grep -q '^swells  *failed .*service swells was killed by signal 9 (KILL): the guest ran out of memory'"
is 'R15: the guest goes on' "$(mvm exec swells -- echo there)" there
mvm down swells >/dev/null

# Each way to be ready; what answers has to answer at once when up returns.
# shellcheck disable=SC2016 # the guest's variables
{
    cat >"$flake/notify.c" <<'N'
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strncpy(a.sun_path, getenv("NOTIFY_SOCKET"), sizeof(a.sun_path) - 1);
    return sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "READY=1\n", 8, 0, (struct sockaddr *)&a, sizeof(a)) < 0;
}
N
    cc -static -O1 -o "$flake/notify" "$flake/notify.c"
    image ready 'users.www = { }; files."/srv/page" = "a page\n"; services = {
      web = { command = "sleep 1; exec httpd -f -p 8080 -h /srv"; user = "www"; ready.port = 8080; };
      made = { command = "sleep 1; touch made; exec sleep 1000000"; user = "www"; ready.command = [ "test" "-e" "made" ]; };
      says = { command = "sleep 1; ${./notify}; touch /said; exec sleep 1000000"; ready.notify = true; };
      twice = { command = "[ -e /once ] || { touch /once; exit 1; }; exec httpd -f -p 81"; ready.port = 81; };
      done = { command = "true"; restart = "no"; };
    };'
}
run mvm run --flake "$flake" --timing
is 'G3: run waits for services that become ready' "$status" 0
has 'G3: that is a step of the start' "$err$out" 'services'
run mvm exec ready -- sh -c 'wget -qO- http://127.0.0.1:8080/page; ls /home/www /once; ls /said; netstat -ltn | grep -c ":81 "'
is 'G3: all are there when it returns' "$(printf '%s\n' "$out" | tr '\n' ',')" 'a page,/once,,/home/www:,made,/said,1,'
is 'G3: their VM is ready' "$(state ready)" ready
mvm exec ready -- killall httpd
check 'G3: one that ends is seen' eventually 10 sh -c "'$MVMCTL' logs ready | grep -q 'services: \(failed\|starting\)'"
check 'G3: and is ready again when it listens again' eventually 10 sh -c "[ \"\$('$MVMCTL' ls --json | jq -r '.vms[0].state')\" = ready ]"
mvm down ready >/dev/null

# What never gets ready, and what cannot be read.
image never 'services.deaf = { command = "exec sleep 1000000"; ready.port = 90; };'
run mvm run --flake "$flake" --timeout 20
is 'G3: a service that does not get ready in time: 16' "$status" 16
has 'G3: it is said what is waited for' "$err" '\[services\] vm .never.: service deaf does not listen on port 90'
is 'G3: the VM stays and is not called ready' "$(state never)" starting
mvm down never >/dev/null
image unread 'services.a.command = "true";' \
    '(i: derivation (i.drvAttrs // { spec = "${i.spec}\ntext 0644 /etc/mvm/guest.conf service a%0Aarg true%0Afrobnicate x%0A"; }))'
run mvm run --flake "$flake"
is 'G3: a guest.conf that the guest cannot read: 16' "$status" 16
has 'G3: it is said where' "$err" "guest.conf:3: 'frobnicate' is not understood"
is 'G3: ls says so too' "$(state unread) $(problem unread)" "failed guest.conf:3: 'frobnicate' is not understood"
mvm down unread >/dev/null
image gone 'services.gone = { command = "sleep 1; reboot -f"; ready.port = 80; };'
run mvm run --flake "$flake" --name gone
is 'G3: a guest that ends before its services are ready: 16' "$status" 16
finish
