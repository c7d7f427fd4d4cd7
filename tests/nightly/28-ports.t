#!/bin/sh
# A thousand clients of a real web server, whose accept queue holds nine.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
ports() { python3 "$MVM_SOURCE/tests/lib/ports.py" "$@"; }
example http "$tmp/http"
run mvm run --flake "$tmp/http" --name http -P --json
is 'the web server example publishes its port' "$status/$(json '.ports[0].guest_port')" 0/8080
web=$(json '.ports[0].host_port')
is '1,000 requests one after the other are answered by a real web server' "$(ports serial "$web" 1000)" '1000 answered'
is '1,000 connections at once are answered by a real web server' "$(ports parallel "$web" 1000)" '1000 answered'
for _ in $(seq 1000); do
    printf 'url = http://127.0.0.1:%s/\noutput = /dev/null\n' "$web"
done >"$tmp/urls"
is '1,000 requests of curl, 300 at a time, are answered' \
    "$(curl -s --noproxy '*' --parallel --parallel-max 300 -w '%{http_code}\n' -K "$tmp/urls" 2>/dev/null | grep -cx 200)" 1000
mvm exec http -- sh -c 'head -c 64000000 /dev/urandom >/tmp/large && ln -s /tmp/large /srv/www/large'
is 'a large file comes whole through a published port' \
    "$(curl -s --noproxy '*' -m 600 "http://127.0.0.1:$web/large" | sha256sum | cut -d ' ' -f 1)" \
    "$(mvm exec http -- sha256sum /tmp/large | cut -d ' ' -f 1)"
run mvm down http
is 'nothing is left of a VM that served thousands' "$status$(vm_processes)$(vm_folders)" 0
finish
