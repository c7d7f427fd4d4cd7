#!/bin/sh
# The pair of the examples: a web VM whose page has what a second VM of its network says, loaded on this host by curl and by a real
# browser.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER # one builder for both
example pair "$tmp/pair"
mvm network create pair --policy none >/dev/null
run mvm run --flake "$tmp/pair#db" --name db --network pair --json
is 'the VM with the data is built and started' "$status/$(json .member_of)" 0/pair
run mvm run --flake "$tmp/pair#web" --name web --network pair --publish 0:8080 --json
is 'so is the one with the web server' "$status/$(json '.ports[0].guest_port')" 0/8080
port=$(json '.ports[0].host_port')
page() { curl -s --noproxy '*' -m 60 "http://127.0.0.1:$1/"; }
has 'its page has what the other one says' "$(page "$port")" 'visit number 1, says the VM db'
has 'and is no other for a second visitor' "$(page "$port")" 'visit number 2, says the VM db'
is 'the VM with the data is not reached from this host' "$(mvm port db --json | jq '.ports | length')" 0

# It reaches nothing but the page: no name is looked up, and nothing of its own is fetched.
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || :)
if [ -z "$browser" ]; then
    skip 'a browser loads the page' 'there is no chromium (Debian: apt install chromium)'
else
    sandbox=
    [ "$(id -u)" != 0 ] || sandbox=--no-sandbox # as root it has none
    # shellcheck disable=SC2086 # nothing, or a word
    timeout 300 "$browser" --headless $sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --no-proxy-server \
        --disable-background-networking --disable-component-update --disable-sync --user-data-dir="$tmp/browser" \
        --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' --dump-dom "http://127.0.0.1:$port/" >"$tmp/dom" 2>"$tmp/said"
    is 'a browser loads the page' "$?" 0
    has 'with what the other VM says, and its script has run' "$(cat "$tmp/dom")" \
        '<title>pair: visit number 3, says the VM db</title>'
fi

run mvm fork web web2 --json
is 'a copy of the web VM is a member, too' "$status/$(json '.member_of + " " + .address')" '0/pair 10.0.2.18/24'
port2=$(mvm port web2 --publish 0:8080 --json | jq '.ports[0].host_port')
has 'and asks the same VM' "$(page "$port2")" 'says the VM db'
mvm down db >/dev/null
has 'the page says so when that one has ended' "$(page "$port")" 'the VM db does not answer'
mvm down --all >/dev/null
is 'nothing is left' "$(mvm network rm pair)$(vm_processes)$(vm_folders)" pair
finish
