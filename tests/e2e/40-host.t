#!/bin/sh
# What the host may lack or get in the way: programs, room on the disk, rights; and interrupts in each phase.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"

no_vm() { [ -z "$(vm_processes)$(supervisors)" ]; }
no_mmdebstrap() { [ -z "$(pgrep -f "mmdebstrap.*$tmp")" ]; }
# A PATH that has everything but some programs.
path_without() {
    mkdir -p "$tmp/path.$1"
    for dir in /usr/sbin /usr/bin /sbin /bin; do
        find "$dir" -maxdepth 1 ! -type d ! -name "$1" -exec ln -sf -t "$tmp/path.$1" {} +
    done
    echo "$tmp/path.$1"
}
flake=$tmp/hello
example hello "$flake"

# Programs that are not there.
run env PATH="$(path_without 'mmdebstrap')" MVM_HOME="$tmp/none" MVM_CACHE_DIR="$tmp/none-cache" "$MVMCTL" build --flake "$flake"
is 'without mmdebstrap there is no builder: phase builder-bootstrap' "$status" 10
has 'it says what to install' "$err" 'hint: .*mmdebstrap'
run mvm build --flake "$flake"
is 'an image is there' "$status" 0
run env PATH="$(path_without 'qemu-system-*')" "$MVMCTL" up --flake "$flake" --name lost
is 'without QEMU nothing boots: phase runtime-backend' "$status" 14
has 'it says what to install, too' "$err" 'hint: .*qemu-system'
check 'nothing is left of it' test ! -e "$MVM_HOME/vms/lost"
run env PATH="$(path_without 'qemu-system-*')" "$MVMCTL" build --flake "$flake" --force
is 'without QEMU nothing is built: phase builder-bootstrap' "$status" 10

# A disk that is full. The small file system is mounted in a namespace of its own.
space="unshare --mount --propagation private"
[ "$(id -u)" = 0 ] || space="unshare --user --map-root-user --mount --propagation private"
if $space true 2>/dev/null; then
    # shellcheck disable=SC2016 # expanded inside the namespace
    run $space sh -c 'mount -t tmpfs -o size=20m none "$MVM_CACHE_DIR/artifacts" && exec "$@"' sh "$MVMCTL" build --flake "$flake" --force
    is 'a full cache: phase artifact-extraction' "$status" 13
    has 'says so' "$err" 'No space left on device'
    has 'and what to do' "$err" 'hint: .*room'
    check 'no VM is left' no_vm
    run mvm build --flake "$flake" --force
    is 'with room it works again' "$status" 0

    sed -i "s/a microVM/a microVM with a full disk ($$)/" "$flake/flake.nix"
    # shellcheck disable=SC2016
    run $space sh -c 'mount -t tmpfs -o size=60m none "$MVM_CACHE_DIR/builder-vm" && exec timeout 120 "$@"' sh "$MVMCTL" build --flake "$flake"
    check 'a host disk that fills up under the builder ends the build' test "$status" -ge 10 -a "$status" -le 13
    has 'and is named' "$err" "the builder's disk cannot be written|disk is full"
has 'with what to do' "$err" 'hint: .*disk'
    check 'no VM is left of that' no_vm
else
    skip 'a full disk' 'no mount namespaces here'
fi
run mvm build --flake "$flake"
is 'afterwards everything is as before' "$status" 0

# Rights.
mkdir "$tmp/theirs"
if [ "$(id -u)" = 0 ]; then
    chown nobody "$tmp/theirs"
    run env MVM_HOME="$tmp/theirs" "$MVMCTL" ls
    check 'a home that belongs to somebody else is refused' test "$status" != 0
    # An ordinary user with a builder of their own (tests/nightly/40-host.t: from nothing).
    chmod 711 "$MVM_TEST_TMP" "$tmp"
    ours "$tmp/user/home" "$tmp/user/cache"
    copy_builder "$tmp" "$tmp/user"
    cp -r "$flake" "$tmp/user/hello"
    chown -R nobody "$tmp/user"
    if setpriv --reuid=nobody --regid=nogroup --clear-groups test -r "$MVM_RELEASE/mvmctl"; then
        as_user() {
            setpriv --reuid=nobody --regid=nogroup --clear-groups env -i PATH="$PATH" HOME="$tmp/user" \
                MVM_HOME="$tmp/user/home" MVM_CACHE_DIR="$tmp/user/cache" "$MVM_RELEASE/mvmctl" "$@"
        }
        run as_user run --flake "$tmp/user/hello" --name theirs
        is 'an ordinary user builds and boots' "$status" 0
        has_not 'in the builder that there is: programs of guests are the same with and without sanitizers' "$err" 'made (now|anew)'
        has 'and gets the answer' "$(as_user exec theirs -- hello)" 'Hello from theirs'
        as_user down --all >/dev/null
        as_user dev down >/dev/null
    else
        skip 'an ordinary user builds and boots' 'this checkout is not readable by others'
    fi
else
    skip 'a home that belongs to somebody else' 'needs root to make one'
fi

# Ctrl-C in each phase: the first two from nothing, so that there is something to interrupt.
interrupted() { # PHASE WORDS COMMAND...: the words are what the phase's line says
    phase=$1
    words=$2
    shift 2
    "$@" >/dev/null 2>"$tmp/phase.err" &
    pid=$!
    eventually 60 grep -q "^mvmctl: $words" "$tmp/phase.err"
    sleep 0.2
    kill -INT "$pid"
    status=0
    wait "$pid" || status=$?
    is "Ctrl-C in phase $phase ends the command" "$status" 130
    [ "$status" = 130 ] || say <"$tmp/phase.err"
    check "no VM is left after phase $phase" no_vm
}
interrupted stage0-packages fetching env MVM_HOME="$tmp/h0" MVM_CACHE_DIR="$tmp/c0" "$MVMCTL" build --flake "$flake"
check 'nor a fetching process' eventually 5 no_mmdebstrap
is 'nor half of the packages' "$(find "$tmp/c0/stage0" -mindepth 1 -maxdepth 1 ! -name '*lock*' | wc -l)" 0
ours "$tmp/c1" && cp -r "$MVM_CACHE_DIR/stage0" "$tmp/c1/stage0"
interrupted stage0-image assembling env MVM_HOME="$tmp/h1" MVM_CACHE_DIR="$tmp/c1" "$MVMCTL" build --flake "$flake"
is 'nor half of an image' "$(find "$tmp/h1/dev/builds" -mindepth 1 -maxdepth 1 -name '.stage*' | wc -l)" 0
for phase in builder-start/starting eval/evaluating build/building; do
    sed -i "s/a microVM/a microVM (${phase%/*})/" "$flake/flake.nix" # so that there is something to build
    interrupted "${phase%/*}" "${phase#*/}" "$MVMCTL" build --flake "$flake" --force
done
is 'nor staged artifacts' "$(find "$MVM_CACHE_DIR/artifacts" -name '.stage*' | wc -l)" 0
interrupted boot booting "$MVMCTL" up --flake "$flake" --name stopped
check 'nor a folder of the VM' test ! -e "$MVM_HOME/vms/stopped"
run mvm run --flake "$flake" --name after
is 'and the next run is right' "$status" 0

# A reference that Nix fetches: a tarball from this host's loopback.
mkdir "$tmp/web"
sed 's/a microVM.*on Linux/a tarball on Linux/' "$flake/flake.nix" >"$tmp/web/flake.nix"
(cd "$tmp" && tar -czf web.tar.gz web)
port_file=$tmp/port
python3 - "$tmp" "$port_file" <<'P' >"$tmp/requests" 2>&1 &
import functools, http.server, os, sys
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1]))
open(sys.argv[2] + ".new", "w").write(str(server.server_address[1]))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
P
server=$!
eventually 10 test -s "$port_file"
run mvm build --flake "tarball+http://10.0.2.2:$(cat "$port_file")/web.tar.gz"
check "T5: what listens on this host's loopback is not fetched from ($status)" test "$status" != 0
is 'T5: and was asked for nothing' "$(grep -c web.tar.gz "$tmp/requests")" 0
# But where config.toml names it.
printf '[nix]\nsubstituters = ["http://127.0.0.1:%s/none"]\n' "$(cat "$port_file")" >"$MVM_HOME/config.toml"
run mvm run --flake "tarball+http://10.0.2.2:$(cat "$port_file")/web.tar.gz" --name fetched
is 'a remote reference is built' "$status" 0
has 'and answers' "$(mvm exec fetched -- hello)" 'a tarball on Linux'
run mvm up --flake "tarball+http://10.0.2.2:$(cat "$port_file")/web.tar.gz" --name fetched2
is 'up finds what was built from it' "$status" 0

# What config.toml says of fetches has an effect, and --offline is kept by the builder, whatever is fetched.
port=$(cat "$port_file")
requests() { grep -cE "$1" "$tmp/requests" || :; }
fetches() {
    mkdir -p "$tmp/$1"
    cat >"$tmp/$1/flake.nix" <<N
{
  inputs.mvm.url = "mvm";
  outputs = { self, mvm }: { packages.x86_64-linux.default = mvm.lib.x86_64-linux.mkGuest {
    name = "fetches"; command = "true"; files."/x" = builtins.readFile (builtins.fetchurl { url = "$2"; sha256 = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; });
  }; };
}
N
}
fetches direct "http://10.0.2.2:$port/web/flake.nix?$$"
run mvm build --flake "$tmp/direct" --offline
check "--offline: what has to be fetched fails ($status)" test "$status" -ge 11 -a "$status" -le 12
is 'and nothing was asked for' "$(requests "flake.nix.$$")" 0
run mvm build --flake "$tmp/direct"
has 'without it, it is asked for' "$(requests "flake.nix.$$")" '^[1-9]'
printf '[network]\nhttp_proxy = "http://127.0.0.1:%s"\n' "$port" >"$MVM_HOME/config.toml"
fetches proxied http://example.invalid/proxied
run mvm build --flake "$tmp/proxied"
has 'a proxy on this machine is used' "$(cat "$tmp/requests")" 'GET http://example.invalid/proxied'

# A binary cache: what it has is fetched and not built, where its key is trusted.
unset MVM_NO_PERSISTENT_BUILDER
mkdir "$tmp/asked" "$tmp/cache-of-ours"
cat >"$tmp/asked/flake.nix" <<N
{
  inputs.tools.url = "mvm-tools";
  outputs = { self, tools }: { packages.x86_64-linux.default = derivation {
    name = "asked-for-$$"; system = "x86_64-linux"; builder = "\${tools}/bin/busybox"; args = [ "mkdir" "\${placeholder "out"}" ];
  }; };
}
N
in_builder() { mvm exec builder -- sh -c "export HOME=/root; cd /tmp; $1"; }
rm "$MVM_HOME/config.toml"
run mvm build --flake "$tmp/asked" --verbose
has 'without a binary cache a derivation is built' "$err" "building asked-for-$$"
key=$(in_builder 'nix key generate-secret --key-name ours-1 >key && nix key convert-secret-to-public <key')
in_builder "p=\$(ls -d /nix/store/*-asked-for-$$) && nix copy --to 'file:///tmp/cache?secret-key=/tmp/key' \$p && nix store delete --ignore-liveness \$p" >"$tmp/copied" 2>&1 ||
    say <"$tmp/copied"
in_builder 'tar -C cache -c .' | tar -C "$tmp/cache-of-ours" -x
printf '[nix]\nsubstituters = ["http://127.0.0.1:%s/cache-of-ours"]\n' "$port" >"$MVM_HOME/config.toml"
run mvm build --flake "$tmp/asked" --verbose
has 'a binary cache is asked' "$(cat "$tmp/requests")" 'GET /cache-of-ours/nix-cache-info'
has 'what nobody trusts is built all the same' "$err" "building asked-for-$$"
in_builder "nix store delete --ignore-liveness /nix/store/*-asked-for-$$" >/dev/null 2>&1
printf 'trusted_public_keys = ["%s"]\n' "$key" >>"$MVM_HOME/config.toml"
run mvm build --flake "$tmp/asked" --verbose
has 'with its key trusted, what it has is fetched' "$(cat "$tmp/requests")" 'GET /cache-of-ours/nar/'
has_not 'and not built' "$err" "building asked-for-$$"
rm "$MVM_HOME/config.toml"
kill "$server"
finish
