#!/bin/sh
# Running VMs: network by DHCP, services, logs that are followed, --attach, and boots on a busy machine.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
flake=$tmp/many
mkdir "$flake"
cat >"$flake/flake.nix" <<'N'
{
  inputs.mvm.url = "mvm";
  outputs = { self, mvm }: {
    packages.x86_64-linux.default = mvm.lib.x86_64-linux.mkGuest {
      name = "many";
      hostname = "many-host";
      network = "dhcp";
      env.EVERYWHERE = "yes indeed";
      services = {
        ticker = { command = "while :; do echo tick $EVERYWHERE $OWN; sleep 1; done"; env.OWN = "mine"; user = "nobody"; };
        dies = { command = "echo born; sleep 1; exit 3"; restart = "always"; };
        once = { command = [ "echo" "a  b" "100%" ]; restart = "no"; };
      };
    };
  };
}
N
# run would look for services that fail, and one of them does.
mvm build --flake "$flake" >/dev/null 2>&1
run mvm up --flake "$flake" --name many --ready agent --json
is 'a guest with services boots' "$status" 0
is 'it has the address of a DHCP lease' "$(json .address)" 10.0.2.15/24
is 'the default route' "$(mvm exec many -- sh -c 'ip route | grep -c "^default via 10.0.2.2 "')" 1
is 'and the name server' "$(mvm exec many -- cat /etc/resolv.conf)" 'nameserver 10.0.2.3'
is 'somebody keeps the lease' "$(mvm exec many -- sh -c 'cat /proc/[0-9]*/comm | grep -c mvm-dhcp')" 1
# A copy of it that is a member of a network is another machine to the DHCP server.
mvm network create app >/dev/null
run mvm fork many leased --network app --json
is 'a copy in a network has a lease of its own there' "$status/$(json '.member_of + " " + .address')" '0/app 10.0.2.16/24'
is 'and no other address' "$(mvm exec leased -- sh -c 'ip -4 addr show eth0 | grep -c inet')" 1
is 'its own lease is kept, and not the original'"'"'s' "$(mvm exec leased -- sh -c 'cat /proc/[0-9]*/comm | grep -c mvm-dhcp')" 1
mvm down leased >/dev/null
is 'the image names the host' "$(mvm exec many -- hostname)" many-host
is 'programs have its environment' "$(mvm exec many -- sh -c 'echo $EVERYWHERE')" 'yes indeed'
check 'services have it too, and their own' eventually 10 sh -c "'$MVMCTL' logs many | grep -q 'ticker: tick yes indeed mine'"
is 'one runs as its user' "$(mvm exec many -- sh -c 'ps -o user,args | grep -c "^nobody .*tick"')" 1
check 'one that dies is started again' eventually 20 sh -c "[ \$('$MVMCTL' logs many | grep -c 'dies: born') -ge 2 ]"
run mvm logs many
is 'one that has ended is not' "$(printf '%s\n' "$out" | grep -c 'once: a  b 100%')" 1

# Files in and out.
mkdir -p "$tmp/out/sub"
echo first >"$tmp/out/sub/file"
printf '#!/bin/sh\necho ran\n' >"$tmp/out/tool"
chmod 755 "$tmp/out/tool"
ln -s sub/file "$tmp/out/link"
truncate -s 1G "$tmp/out/sparse"
printf end | dd of="$tmp/out/sparse" bs=1 seek=1073741821 conv=notrunc 2>/dev/null
run mvm cp "$tmp/out" many:/tmp
is 'a folder is copied into the guest' "$status" 0
is 'with modes, symlinks and content' "$(mvm exec many --cwd /tmp/out -- sh -c './tool; cat link; tail -c 3 sparse')" "$(printf 'ran\nfirst\nend')"
check 'a sparse file is no larger there' test "$(mvm exec many -- du -k /tmp/out/sparse | cut -f1)" -le 64
run mvm cp many:/tmp/out "$tmp/back"
is 'and out again, under another name' "$status" 0
check 'what comes back is what went' diff -r "$tmp/out" "$tmp/back"
check 'sparse' test "$(du -k "$tmp/back/sparse" | cut -f1)" -le 64
echo second >"$tmp/out/sub/file"
mvm cp "$tmp/out/sub/file" many:/tmp/out/sub/file
is 'a file is replaced' "$(mvm exec many -- cat /tmp/out/sub/file)" second
mvm cp many:/tmp/out/link "$tmp/a-link"
mvm cp -L many:/tmp/out/link "$tmp/a-file"
is 'a symlink is one, or what it points to' "$(readlink "$tmp/a-link") $(cat "$tmp/a-file")" 'sub/file second'
run mvm cp many:/no/such "$tmp/x"
is 'a file that is not there' "$status" 14
has 'is told' "$err" 'in the guest: cannot read such: No such file'
run mvm cp "$tmp/out" many:/no/such/place
has 'so is a folder to put it in' "$err" 'in the guest: cannot open /no/such/place: No such file'

# A program that takes all memory is ended; the agent is not.
run mvm exec many -- sh -c 'tail /dev/zero'
check "a guest out of memory ends the program ($status)" test "$status" -ge 125
check 'and goes on answering' mvm exec many -- true

"$MVMCTL" logs -f many >"$tmp/follow" 2>&1 &
follower=$!
check 'logs -f prints what is there' eventually 5 grep -q 'tick' "$tmp/follow"
"$MVMCTL" logs -f many --service ticker --tail 1 --since 1h --json >"$tmp/follow.json" 2>&1 &
json_follower=$!
check 'logs -f --service --tail --since --json prints lines of that service as they come' \
    eventually 10 sh -c "[ \$(jq -r .service '$tmp/follow.json' | grep -c '^ticker$') -ge 3 ]"
has 'with the time of each' "$(head -n 1 "$tmp/follow.json")" "\"time\":\"$(date -u +%Y-%m-%dT)"
is 'logs --tail takes the newest lines' "$(mvm logs many --service ticker --tail 2 --timestamps | grep -c '^20[0-9T:.-]*Z ticker: ')" 2
before=$(grep -c tick "$tmp/follow")
check 'and what is added' eventually 10 sh -c "[ \$(grep -c tick '$tmp/follow') -gt $((before + 1)) ]"
mvm down many >/dev/null
check 'and ends with the VM' eventually 10 sh -c "! kill -0 $follower 2>/dev/null && ! kill -0 $json_follower 2>/dev/null"

"$MVMCTL" up --flake "$flake" --name attached --attach >"$tmp/attach" 2>&1 &
attached=$!
check '--attach shows the logs' eventually 30 grep -q 'ticker: tick' "$tmp/attach"
kill -INT "$attached"
status=0
wait "$attached" || status=$?
is 'Ctrl-C ends it' "$status" 0
check 'and its VM' test -z "$(vm_processes)$(ls "$MVM_HOME/vms")"

# A console or a service that never stops talking fills no disk.
run mvm up --flake "$flake" --name loud
mvm exec loud -- sh -c 'yes "a long line of a service that talks much too much" | head -c 4000000 >/dev/kmsg' >/dev/null 2>&1 || :
mvm exec loud -- sh -c 'yes "a long line on the console, again and again" | head -c 3000000 >/dev/console' >/dev/null 2>&1 || :
size=$(du -sk "$MVM_HOME/vms/loud" | cut -f1)
check "logs are bounded ($size KiB)" test "$size" -le 4500
check 'the VM still answers' mvm exec loud -- true
mvm down loud >/dev/null

# A boot while everything else is busy does not hang. tests/nightly/30-boots.t has thirty of them.
example hello "$tmp/hello"
mvm build --flake "$tmp/hello" >/dev/null 2>&1
"$MVMCTL" up --flake "$tmp/hello" --name two --cpus 2 --json >"$tmp/two.out" 2>/dev/null &
two=$!
check 'R14: the first guest of an image with two processors speaks on its console' \
    eventually 30 test -s "$MVM_HOME/vms/two/console.log"
status=0
wait $two || status=$?
is 'R14: and is ready' "$status/$(jq -r .mode "$tmp/two.out")/$(mvm exec two -- nproc)" 0/cold/2
mvm down two >/dev/null
boots_while_busy 1 "$tmp/hello"
is 'a guest boots on a busy machine' "$booted" 1
finish
