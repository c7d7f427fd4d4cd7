#!/bin/sh
# What a copy of a Linux guest has of its own: randomness, ids, services, processes. The rest is tests/cli/snapshots.t.
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
. "$(dirname "$0")/../lib/e2e.sh"
check 'an image is there' test -s "$image/vmlinux"
count() { mvm exec "$1" -- sh -c 'wc -l < /run/count'; }
counts_on() { [ "$(count "$1")" -gt "$2" ]; }
in_vm() { name=$1 && shift && mvm exec "$name" -- sh -c "$*"; }
identity() { in_vm "$1" 'head -c 16 /dev/urandom | md5sum; cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname'; }

# A VM with a file, a process that counts (in lines: a number that is written anew is nothing for a moment), and a program
# that somebody runs with exec.
mvm up "$image" --name web --pcap "$tmp/web.pcap" >/dev/null
in_vm web 'echo kept > /etc/kept; (while sleep 0.05; do echo >> /run/count; done) >/dev/null 2>&1 &'
mkfifo "$tmp/talk"
mvm exec web -- sh -c 'echo $$ >/run/talker; echo there; while read -r line; do echo "heard $line"; done' <"$tmp/talk" >"$tmp/heard" &
talker=$!
exec 5>"$tmp/talk"
check 'a program listens in the VM' eventually 20 grep -q there "$tmp/heard"
check 'and another one counts' eventually 20 mvm exec web -- test -s /run/count

run mvm snapshot create web clean --json
is 'a running VM is saved' "$status/$(json '.name + ":" + .tag')" 0/web:clean
check 'its frames are written to the file of --pcap' eventually 60 test -s "$tmp/web.pcap"
before=$(count web)
echo you >&5
check 'it goes on, and so does what runs in it' eventually 20 grep -q 'heard you' "$tmp/heard"
check 'it counts on' eventually 20 counts_on web "$before"

# Its image goes; two VMs continue from it.
in_vm web 'echo changed > /etc/kept'
chmod -R u+w "$image" && rm -r "$image"
services=$(mvm logs web | grep -c 'service hello started')
run mvm up --from web:clean --name one --json
is 'a VM continues from it without the image' "$status/$(json '.mode + " " + .from')" '0/warm web:clean'
run mvm up --from web --name two --json
is 'another one, from the newest' "$status" 0
is 'its files are as they were' "$(in_vm one cat /etc/kept)" kept
at=$(count one)
check 'the process counts on from where it was' eventually 20 counts_on one "$at"
check 'what a client ran is ended in the copy' eventually 20 in_vm one '! kill -0 $(cat /run/talker)'
is 'but not in the original' "$(in_vm web 'kill -0 $(cat /run/talker) && echo lives')" lives
is 'services are not started again' "$services/$(mvm logs one | grep -c 'service hello started')" 1/0
difference=$(($(date +%s) - $(in_vm one date +%s)))
check 'it has the right time' test "$difference" -ge -20 -a "$difference" -le 2 # it is asked after the host
is 'and its name' "$(in_vm one hostname)" one
is 'and its address' "$(in_vm one 'ip addr show eth0 | grep -c 10.0.2.15')" 1
for vm in web one two; do identity $vm; done >"$tmp/ids"
is 'random numbers, ids and names differ in all three' "$(sort "$tmp/ids" | uniq -d)/$(wc -l <"$tmp/ids")" /12
in_vm one 'echo one > /etc/mine'
is 'what one writes the other does not see' "$(in_vm two 'cat /etc/mine 2>/dev/null || echo none')" none
mvm down two >/dev/null

# A network's policy is the VM's own, whatever the snapshot's was.
link_is() { [ "$(mvm inspect "$1" --json | jq -r .address) $(in_vm "$1" 'cat /sys/class/net/eth0/carrier; ip -4 -o addr show eth0 | wc -l; ip route | wc -l' | tr '\n' ' ')" = "$2" ]; }
run mvm up --from web:clean --name closed --network none --json
is 'a VM with --network none continues from any snapshot' "$(json '.mode, .address' | tr '\n' ' ')" 'warm null '
check 'its card has no link, no address and no route' eventually 20 link_is closed 'null 0 0 0 '
run mvm snapshot create closed none --json
mvm down closed >/dev/null
mvm up --from closed:none --name open --network public >/dev/null
check 'a copy with another policy has them again' eventually 20 link_is open '10.0.2.15/24 1 1 2 '
mvm down open >/dev/null

# A fork: both go on, each with its own.
run mvm fork one other --json
is 'a running VM is copied' "$status/$(json '.name + " " + .mode')" '0/other warm'
in_vm other 'echo other > /etc/mine'
in_vm one 'echo still one > /etc/mine'
is 'both have what was there, and then their own' "$(in_vm other cat /etc/kept /etc/mine | tr '\n' ' ')$(in_vm one cat /etc/mine)" 'kept other still one'
for vm in one other; do identity $vm; done >"$tmp/ids"
is 'their random numbers and ids differ' "$(sort "$tmp/ids" | uniq -d)" ''

exec 5>&-
wait $talker
mvm down --all >/dev/null
is 'no VM is left' "$(vm_processes)" ''
finish
