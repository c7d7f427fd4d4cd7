#!/bin/sh
# VMs of one network, with real guests: by name and address, a fork with its own, and nobody else. What a peer may not do is
# tests/cli/networks.t.
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
. "$(dirname "$0")/../lib/e2e.sh"
check 'an image is there' test -s "$image/vmlinux"
in_vm() { name=$1 && shift && mvm exec "$name" -- sh -c "$*"; }
card() { in_vm "$1" 'cat /sys/class/net/eth0/address; ip addr show eth0 | sed -n "s,.*inet6* \([^ ]*\) .*global.*,\1,p"' | tr '\n' ' '; }
reaches() { in_vm "$1" "wget -qO- -T 30 http://$2/name"; }

mvm network create app --policy none >/dev/null
mvm network create other >/dev/null
run mvm up "$image" --name db --network app --json
is 'a VM is the first of a network' "$status/$(json '.member_of + " " + .address')" '0/app 10.0.2.16/24'
run mvm up "$image" --name web --network app --json
is 'another one is the second' "$status/$(json '.address')" 0/10.0.2.17/24
run mvm up "$image" --name stranger --network other --json
is 'a VM of another network has addresses of that' "$status/$(json '.address')" 0/10.0.2.16/24
in_vm db 'mkdir /tmp/www && hostname >/tmp/www/name && httpd -p 80 -h /tmp/www'
is 'a member reaches another by its name' "$(reaches web db)" db
is 'by its full name' "$(reaches web db.app.mvm.internal)" db
is 'by its address' "$(reaches web 10.0.2.16)" db
is 'and by its IPv6 address' "$(reaches web '[fd6d:766d::5054:ff:fe12:3457]')" db
is 'the other network knows neither its name' "$(in_vm stranger 'nslookup db.app.mvm.internal >/dev/null 2>&1 || echo unknown')" unknown
is 'nor reaches its address' "$(in_vm stranger 'wget -qO- -T 5 http://10.0.2.17/ 2>/dev/null || echo closed')" closed
is 'its own policy holds to the outside' "$(in_vm web 'wget -qO- -T 5 http://9.9.9.9/ 2>/dev/null || echo closed')" closed
run mvm network rm app
has 'a network with VMs is not removed, and one is named' "$status $err" "^14 .*vm 'db' runs in it"
is 'ls and inspect show the member' "$(mvm ls | grep -c 'web.app.mvm.internal 10.0.2.17')$(mvm inspect web | grep -c 'web.app.mvm.internal 10.0.2.17')" 11

run mvm fork db copy --json
is 'a fork is a member of its own' "$status/$(json '.member_of + " " + .address')" '0/app 10.0.2.18/24'
in_vm copy 'hostname >/tmp/www/name'
is 'its card has another MAC and other addresses' "$(card copy)" '52:54:00:12:34:59 10.0.2.18/24 fd6d:766d::5054:ff:fe12:3459/64 '
is 'the original keeps its own' "$(card db)" '52:54:00:12:34:57 10.0.2.16/24 fd6d:766d::5054:ff:fe12:3457/64 '
is 'a service that was copied answers under the new name' "$(reaches web copy)" copy
is 'and the original under its own' "$(reaches web db)" db
is 'they reach each other' "$(reaches copy db)$(reaches db copy)" dbcopy

# A network process that is killed: its VM is a member again, and its peers need not know.
pid=$(mvm ls --json | jq -r '.vms[] | select(.name == "db") | .supervisor_pid')
worker=$(pgrep -P "$pid" -x mvm-network)
check 'a member has a network process' test -n "$worker"
kill -9 "$worker"
again() { [ "$(reaches web db 2>/dev/null)" = db ]; }
check 'one that was killed is followed by another, with the same peers' eventually 30 again
mvm down db >/dev/null
check 'the name of one that ended is gone' eventually 30 in_vm web '! nslookup db.app.mvm.internal >/dev/null 2>&1'
run mvm up "$image" --network nowhere
has 'an unknown network is refused, with the way out' "$status $err" '^14 .*no network .nowhere.|mvmctl network create nowhere'
# A supervisor that is killed leaves its socket, and nothing that is in anybody's way.
kill -9 "$(mvm ls --json | jq -r '.vms[] | select(.name == "copy") | .supervisor_pid')"
run mvm up "$image" --name db --network app --json
is 'a number that is free again is given again' "$status/$(json .address)" 0/10.0.2.16/24
again() { [ "$(reaches db web 2>/dev/null)/$(in_vm db 'nslookup copy.app.mvm.internal >/dev/null 2>&1 || echo unknown')" = /unknown ]; }
check 'who was killed is no member any more' eventually 30 again
mvm down --all >/dev/null
is 'a network without VMs is removed, and nothing of it is left' "$(mvm network rm app)/$(ls "$MVM_HOME/networks")" app/other
is 'no VM is left' "$(vm_processes)" ''
finish
