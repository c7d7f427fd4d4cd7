#!/bin/sh
# Published ports of a real guest: busybox' web server and the kernel's own sockets.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
# shellcheck source=tests/lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
ports() { python3 "$MVM_SOURCE/tests/lib/ports.py" "$@"; }
port_of() { json ".ports[] | select(.guest_port == $1) | .host_port"; }
fetch() { curl -s --noproxy '*' -m 60 "$@"; }
serve() { mvm exec "$1" -- sh -c 'mkdir -p /tmp/www && echo "a page" >/tmp/www/index.html && httpd -p 127.0.0.1:8080 -h /tmp/www'; }

run mvm up "$image" --name web -p 0:8080 -p 0:7 -p 0:81 --json
is 'up publishes ports of a real guest' "$status/$(json '[.ports[].guest_port] | tostring')" '0/[8080,7,81]'
web=$(port_of 8080) echo=$(port_of 7) closed=$(port_of 81)
run fetch "http://127.0.0.1:$closed/"
has 'a port on which nothing listens in the guest is reset' "$status" '^(7|56)$'
serve web
is 'a page is loaded on this host from a server that listens on the loopback of the guest alone' "$(fetch "http://127.0.0.1:$web/")" 'a page'
is '60 requests one after the other are answered by a real web server' "$(ports serial "$web" 60)" '60 answered'
is '60 requests at once, beyond its accept queue, are answered by a real web server' "$(ports parallel "$web" 60)" '60 answered'
mvm exec web -- sh -c 'head -c 2000000 /dev/urandom >/tmp/www/large'
is 'a file comes through a published port as it is' "$(fetch "http://127.0.0.1:$web/large" | sha256sum | cut -d ' ' -f 1)" \
    "$(mvm exec web -- sha256sum /tmp/www/large | cut -d ' ' -f 1)"
mvm exec web -- sh -c 'nc -ll -p 7 -e cat </dev/null >/dev/null 2>&1 &'
echoes() { [ "$(ports halfclose "$echo" 2>/dev/null)" = 'closed, and got it back' ]; }
check 'a half-closed connection gets its answer from a real program' eventually 60 echoes
is 'bytes come back from a real program as they went' "$(ports bulk "$echo" 500000)" '500000 the same'
mvm down web >/dev/null

# What continues from the image's snapshot publishes as well.
run mvm up "$image" --name warm -p 0:8080 --json
is 'a VM that starts warm publishes ports' "$status/$(json .mode)/$(json '.ports | length')" 0/warm/1
port=$(port_of 8080)
supervisor=$(field warm supervisor_pid)
serve warm
is 'a VM that starts warm answers on its published port' "$(fetch "http://127.0.0.1:$port/")" 'a page'
run mvm down warm
gone() { ! kill -0 "$supervisor" 2>/dev/null; }
check 'nothing is left of a VM with published ports' eventually 60 gone
run fetch "http://127.0.0.1:$port/"
is 'the port of a VM that has ended is free' "$status" 7
finish
