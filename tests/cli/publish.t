#!/bin/sh
# Published ports, on the test guest: 7 gives back what it gets, 80 answers HTTP, 19 sends without end, nothing listens on others.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
image=$tmp/image
test_image "$image"
port_of() { json ".ports[] | select(.guest_port == $1 and .protocol == \"$2\") | .host_port"; }
fetch() { curl -s --noproxy '*' -m 10 "$@"; }
said() { printf '%s %s' "$status" "$err" | tr '\n' ' '; }
ports() { python3 "$MVM_SOURCE/tests/lib/ports.py" "$@"; }

# ---- up ----

run mvm up "$image" --name a -p 0:80 -p 0:7 -p 0:7/udp -p 0:81 -p '[::1]:0:80' -p "unix:$tmp/a.sock:80" \
    --pcap "$tmp/a.pcap" --net-connections 50 --json
is 'up publishes ports' "$status/$(json '.ports | length')" 0/6
web=$(port_of 80 tcp | head -n 1) echo=$(port_of 7 tcp) udp=$(port_of 7 udp) closed=$(port_of 81 tcp)
web6=$(json '.ports[] | select(.address == "::1") | .host_port')
is 'a published port answers' "$(fetch "http://127.0.0.1:$web/")" hello
is 'a port on ::1 answers' "$(fetch "http://[::1]:$web6/")" hello
is 'a socket in the file system answers' "$(fetch --unix-socket "$tmp/a.sock" http://vm/)" hello
is 'a socket in the file system is its user'"'"'s alone' "$(stat -c %a "$tmp/a.sock")" 600
run fetch "http://127.0.0.1:$closed/"
has 'a guest service that is not listening is told at once, by a reset' "$status" '^(7|56)$'
is 'half a close is half a close' "$(ports halfclose "$echo")" 'closed, and got it back'
is 'datagrams are datagrams' "$(ports udp "$udp")" '1 1400 9000'
is 'ls --json has the ports' "$(mvm ls --json | jq -c '.vms[0].ports[0]')" \
    "{\"address\":\"127.0.0.1\",\"host_port\":$web,\"guest_port\":80,\"protocol\":\"tcp\",\"path\":null}"
has 'ls shows them' "$(mvm ls)" "127.0.0.1:$web -> 80/tcp"
has 'inspect shows them' "$(mvm inspect a)" "published +127.0.0.1:$web -> 80/tcp"
is 'inspect shows the network'"'"'s limits' "$(mvm inspect a --json | jq -c .network_limits)" \
    '{"rate_in":0,"rate_out":0,"connections":50,"queries":100}'
run mvm up "$image" --name b --pcap "$tmp/a.pcap"
has 'a file that is there is not written over' "$(said)" '^2 .*a.pcap: File exists.*nothing is written over'
is 'open prints the URL' "$(DISPLAY='' WAYLAND_DISPLAY='' mvm open a)" "http://127.0.0.1:$web/"
is 'open finds a port of the guest' "$(DISPLAY='' WAYLAND_DISPLAY='' mvm open a:7)" "http://127.0.0.1:$echo/"
mkdir "$tmp/bin"
printf '#!/bin/sh\necho "$1" >%s/opened\n' "$tmp" >"$tmp/bin/xdg-open"
chmod +x "$tmp/bin/xdg-open"
run env DISPLAY=:9 PATH="$tmp/bin:$PATH" "$MVMCTL" open a
is 'where there is a screen, open has a browser show it' "$(cat "$tmp/opened")" "http://127.0.0.1:$web/"
run mvm open a:82
has 'open of what is not published says how to publish it' "$(said)" '^14 .*does not publish port 82.*--publish 0:82'

# ---- Many ----

is '1,000 requests one after the other are answered' "$(ports serial "$web" 1000)" '1000 answered'
is '1,000 requests at once are answered' "$(ports parallel "$web" 1000)" '1000 answered'
is 'ten million bytes come back as they went' "$(ports bulk "$echo" 10000000)" '10000000 the same'
is '10,000 connections that say nothing are bounded, and the next is served when they go' "$(ports idle "$echo" 10000 "$(supervisors)")" \
    'bounded, served'
run mvm stats a --json
is 'stats counts what came through published ports' "$(json '.vms[0] | .name, (.published.connections > 2000)' | tr '\n' ' ')" 'a true '
check 'stats knows what a VM uses' test "$(json '.vms[0] | .cpu_ms > 0 and .memory_bytes > 1000000 and .memory_mib > 0 and
    .supervisor_cpu_ms > 0 and .supervisor_memory_bytes > 0')" = true
has 'stats shows it in a line' "$(mvm stats)" '^a +ready +[0-9.]+ s '
run mvm stats a nobody
has 'stats of a VM that is not there is refused' "$(said)" "^14 .*there is no vm 'nobody'"
"$MVMCTL" stats --watch >"$tmp/watched" &
watching=$!
twice() { [ "$(grep -c '^a ' "$tmp/watched")" -ge 2 ]; }
check 'stats --watch looks again' eventually 60 twice
kill -INT "$watching"
wait "$watching"
is 'stats --watch ends with Ctrl-C' "$?" 0
is 'no descriptor of theirs is left' "$(ports settled "$(supervisors)")" settled

# ---- Standing still, copies ----

mvm pause a
(sleep 1; mvm resume a) &
is 'a connection waits while the VM is paused' "$(fetch "http://127.0.0.1:$web/")" hello
wait $!
run mvm snapshot create a clean
is 'ports go on after a snapshot' "$status/$(fetch "http://127.0.0.1:$web/")" 0/hello
run mvm fork a b --json
is 'a fork publishes nothing' "$status/$(json '.ports | length')" 0/0
is 'the original goes on' "$(fetch "http://127.0.0.1:$web/")" hello
run mvm port b --publish 0:80 --json
is 'a fork publishes what it is told to' "$status/$(fetch "http://127.0.0.1:$(port_of 80 tcp)/")" 0/hello
run mvm up --from a:clean --name c -p 0:80 --json
is 'a VM that continues from a snapshot publishes what its command says' "$status/$(fetch "http://127.0.0.1:$(port_of 80 tcp)/")" 0/hello

# ---- port, forward ----

run mvm port c --publish 0:7 --unpublish "127.0.0.1:$(port_of 80 tcp):80" --json
is 'port changes what a VM publishes' "$status/$(json '[.ports[].guest_port] | tostring')" '0/[7]'
run mvm port c --publish 0:80 --unpublish 1:80
has 'a change that cannot be made changes nothing' "$status/$(mvm port c --json | jq -c '[.ports[].guest_port]') $err" \
    '^14/\[7\] .*a port to take back is not published'
"$MVMCTL" forward c 0:80 --json >"$tmp/forward" &
forward=$!
check 'forward says where' eventually 10 test -s "$tmp/forward"
is 'a forwarded port answers' "$(fetch "http://127.0.0.1:$(jq '.ports[0].host_port' "$tmp/forward")/")" hello
kill "$forward"
status=0
wait "$forward" || status=$?
is 'forward ends by a signal, and its port with it' "$status/$(mvm port c --json | jq -c '[.ports[].guest_port]')" '0/[7]'
"$MVMCTL" forward c 0:80 --json >"$tmp/forward" &
forward=$!
check 'forward says where, again' eventually 10 test -s "$tmp/forward"
kill -9 "$forward"
only_seven() { [ "$(mvm port c --json | jq -c '[.ports[].guest_port]')" = '[7]' ]; }
check 'a forward that is killed leaves no port' eventually 10 only_seven

# ---- What is refused ----

run mvm up "$image" --name d -p "$web:80"
has 'a port that a VM publishes is refused by its name' "$(said)" "^14 .*port 127.0.0.1:$web is in use: vm 'a' publishes it"
run mvm up "$image" --name d -p "0.0.0.0:$web:80"
has 'a port that a VM publishes on one address is refused on all' "$(said)" "^14 .*vm 'a' publishes it"
python3 -c 'import socket, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
time.sleep(600)' >"$tmp/taken" &
taken=$!
check 'another process listens' eventually 10 test -s "$tmp/taken"
run mvm up "$image" --name d -p "$(cat "$tmp/taken"):80"
has 'a port of another process is refused with its pid and name' "$(said)" "^14 .*is in use: process $taken \(python3"
kill "$taken"
run mvm up "$image" --name d -p 192.0.2.7:8080:80
has 'an address that is not here is refused' "$(said)" '^14 .*cannot listen on 192.0.2.7:8080: .*no network card of this host has that address'
is 'what is refused starts nothing' "$(mvm ls --names | grep -cx d)" 0
for spec in 80 8080:0 70000:80 8080:70000 8080:80/sctp a:80 localhost:8080:80 8000-8002:80-81 unix:/x:80/udp; do
    run mvm up "$image" --name d -p "$spec"
    has "-p $spec is a usage error" "$(said)" "^2 .*port '$spec': .*hint: "
done
run mvm up "$image" --name d -p 8080:80 -p 8080:81
has 'a port given twice is a usage error' "$(said)" "^2 .*port '127.0.0.1:8080': it is given twice"
run mvm up "$image" --name d -P
has '-P of an image that names no ports is refused' "$(said)" 'the image names no ports to publish'
if [ "$(id -u)" = 0 ]; then
    run unshare -n sh -c 'ip link set lo up && echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start &&
        exec setpriv --bounding-set=-net_bind_service --inh-caps=-net_bind_service "$0" up "$1" --name d -p 80:80' "$MVMCTL" "$image"
    has 'a low port without the right to it is refused with the reason' "$(said)" \
        '^14 .*cannot listen on 127.0.0.1:80: Permission denied.*low ports are root'
else
    run mvm up "$image" --name d -p 80:80
    has 'a low port without the right to it is refused with the reason' "$(said)" '^14 .*cannot listen on 127.0.0.1:80: '
fi
echo mine >"$tmp/file"
run mvm up "$image" --name d -p "unix:$tmp/file:80"
has 'a file that is no socket is not replaced' "$status $(cat "$tmp/file")" '^14 mine'
jq -c '. + {ports: [80, 7]}' "$image/image.json" >"$image/new" && mv "$image/new" "$image/image.json"
run mvm up "$image" --name d -P --json
is '-P publishes the ports that the image names' "$status/$(json '[.ports[].guest_port] | tostring')/$(fetch "http://127.0.0.1:$(port_of 80 tcp)/")" \
    '0/[80,7]/hello'

# An image whose agent is older: it does not say that it connects.
test_image "$tmp/older"
echo 'older=1' >"$tmp/older/cmdline.txt"
run mvm up "$tmp/older" --name older -p 0:80
has 'an image whose agent is older than published ports is refused with the way out' "$(said)" \
    "^14 .*vm 'older' cannot publish its ports, and was stopped: .*the agent in its image is older than published ports .*hint: .*build its image"
is 'a VM that cannot publish is stopped' "$(mvm ls --names | grep -cx older)" 0
mvm up "$tmp/older" --name older >/dev/null
run mvm port older --publish 0:80
has 'port of a VM whose agent is older says why and the way out' "$(said)" '^14 .*the agent in its image is older than published ports .*hint: .*build its image'
is 'port of a VM whose agent is older publishes nothing' "$(mvm port older --json | jq -c .ports)" '[]'

# ---- The end ----

killed=$(mvm ls --json | jq -r '.vms[] | select(.name == "a") | .supervisor_pid')
kill -9 "$killed"
gone() { ! kill -0 "$killed" 2>/dev/null; }
check 'a supervisor is killed' eventually 10 gone
run mvm up "$image" --name a -p "$web:80" -p "unix:$tmp/a.sock:80"
is 'what a killed supervisor left blocks nobody' "$status/$(fetch "http://127.0.0.1:$web/")/$(fetch --unix-socket "$tmp/a.sock" http://vm/)" \
    0/hello/hello
run mvm down --all
is 'the end of a VM removes its sockets' "$status/$(ls "$tmp/a.sock" 2>/dev/null)" 0/
run fetch "http://127.0.0.1:$web/"
is 'its ports are free again' "$status" 7
finish
