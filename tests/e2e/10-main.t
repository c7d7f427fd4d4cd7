#!/bin/sh
# The main job, from nothing: a flake becomes a running microVM that answers.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER # as anybody would
flake=$tmp/hello
example hello "$flake"

run mvm up --flake "$flake"
is 'up before any build fails in the runtime phase' "$status" 14
has 'and says what to do' "$err" 'hint: mvmctl build --flake .*mvmctl run'

run mvm build --flake "$flake" --json
is 'a flake is built from nothing' "$status" 0
is 'stdout is one JSON object' "$(printf '%s\n' "$out" | wc -l)" 1
is 'it was not cached' "$(json .cached)" false
kernel=$(json .kernel)
rootfs=$(json .rootfs)
image=$(json .image)
is "the image says what its kernel offers a backend" "$(jq -c .kernel_offers "$MVM_CACHE_DIR/artifacts/$image/image.json")" \
    '["mmio-acpi","pci","console"]'
check 'the kernel is there' test -s "$kernel"
check 'the root file system is there' test -s "$rootfs"
check 'the root file system is sound' e2fsck -fn "$rootfs"
has 'phases are timed' "$(json '.timings|keys|join(" ")')" 'build.*builder-start.*eval.*extract.*total'
is 'in a builder that stays' "$(json .builder.mode)" persistent
check 'the lock file came back' jq -e .nodes.mvm "$flake/flake.lock"
lock_before=$(cat "$flake/flake.lock")

run mvm build --flake "$flake" --json
is 'the unchanged flake is cached' "$(json .cached)" true
is 'and gives the same image' "$(json .image)" "$image"
check 'no builder was started for it' test -z "$(vm_processes)"
strace -f -e trace=execve -o "$tmp/trace" "$MVMCTL" build --flake "$flake" >/dev/null 2>&1 || :
is 'no process is started for it' "$(grep -c 'execve(' "$tmp/trace")" 1

run mvm up --flake "$flake" --json --name web
is 'the image boots' "$status" 0
is 'it says the mode' "$(json .mode)" cold
is 'and the image' "$(json .image)" "$image"
has 'and the acceleration with its reason' "$(json '.accel + ": " + .accel_reason')" '^(kvm|tcg): .+'
has 'and how long it took' "$(json .ready_ms)" '^[0-9]+'

run mvm exec web -- hello
has 'the guest answers' "$out" '^Hello from web, a microVM on Linux 6\.'
run mvm exec web -- sh -c 'echo out; echo err >&2; exit 3'
is 'exit status comes through' "$status" 3
is 'standard output too' "$out" out
is 'standard error too' "$err" err
is 'standard input too' "$(printf 'one\ntwo\n' | mvm exec web -- cat)" "$(printf 'one\ntwo')"
run mvm exec web -- no-such-program
is 'a program that does not exist: 127' "$status" 127
is 'C3: exec needs no --: options end at the program' "$(mvm exec web printf '%s ' -u --json -- -la)" '-u --json -- -la '
is 'C3: -i is taken, and standard input comes through' "$(printf 'one\n' | mvm exec -i web cat)" one
has 'C3: -it gives a terminal' "$(script -qec "'$MVMCTL' exec -it web tty" /dev/null)" '/dev/(pts/[0-9]|console)'
statuses=$(for _ in $(seq 20); do
    echo input that nobody reads | "$MVMCTL" exec web -- no-such-program 2>/dev/null
    echo "$?"
done | sort -u)
is 'also where its input was on the way' "$statuses" 127
run mvm exec web -- sh -c 'kill -9 $$'
is 'a program that is killed: 128 + 9' "$status" 137
is 'environment' "$(mvm exec web -e COLOR=blue -e SIZE=9 -- sh -c 'echo $COLOR $SIZE')" 'blue 9'
is 'folder' "$(mvm exec web --cwd /usr/bin -- pwd)" /usr/bin
is 'user' "$(mvm exec web -u nobody -- id -un)" nobody
run mvm exec web -u nosuchuser -- id
is 'an unknown user is refused' "$status" 126
has 'words stay words' "$(mvm exec web -- echo 'a  b' '*' "c'd")" "^a  b \* c'd$"
size=$(mvm exec web -- sh -c 'head -c 20000000 /dev/zero' | wc -c)
is 'much output comes whole' "$size" 20000000
sum=$(head -c 3000000 /dev/urandom | tee "$tmp/random" | timeout 60 "$MVMCTL" exec web -- md5sum | cut -c1-32)
is 'much input goes whole' "$sum" "$(md5sum <"$tmp/random" | cut -c1-32)"
"$MVMCTL" exec web -- sh -c 'trap "echo caught; exit 5" TERM; echo ready; while :; do sleep 0.1; done' >"$tmp/sig.out" &
pid=$!
eventually 10 grep -q ready "$tmp/sig.out"
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
is 'a signal reaches the program' "$(tail -n 1 "$tmp/sig.out")/$status" caught/5
script='stty size; tty; exec sh -c "exit 4"'
status=0
script -qec "stty rows 33 cols 101; '$MVMCTL' exec -t web -- sh -c '$script'" /dev/null >"$tmp/tty.out" 2>&1 </dev/null || status=$?
has 'a terminal has the size of ours' "$(tr -d '\r' <"$tmp/tty.out")" '(^|[^0-9])33 101$'
has 'and is one' "$(tr -d '\r' <"$tmp/tty.out")" '^/dev/pts/'
is 'with the exit status' "$status" 4
timeout 5 "$MVMCTL" exec web -- sh -c 'sleep 1000 & echo started' >"$tmp/bg.out"
is 'a background process does not hold exec' "$?/$(cat "$tmp/bg.out")" 0/started

run mvm logs web
has 'the service greeted in the log' "$out" 'hello: Hello from web'
run mvm ls --json
is 'ls knows the VM' "$(json '.vms[0] | .name + " " + .state')" 'web ready'
run mvm up --flake "$flake" --name web
has 'the same name twice is refused' "$err" "vm 'web' runs already"
run mvm up --flake "$flake" --json
second=$(json .name)
is 'without a name another one is found' "$second" hello
is 'its card takes frames as large as the network process takes' "$(mvm exec web -- cat /sys/class/net/eth0/mtu)" 65520
is 'the guest has network settings' "$(mvm exec web -- sh -c 'ip addr show eth0 2>/dev/null | grep -c 10.0.2.15')" 1
is 'and its loopback' "$(mvm exec web -- sh -c 'ping -c 1 -W 2 127.0.0.1 >/dev/null && echo up')" up
difference=$(($(date +%s) - $(mvm exec web -- date +%s)))
check 'and the right time' test "$difference" -ge -2 -a "$difference" -le 2
check 'two VMs have other random numbers' test "$(mvm exec web -- sh -c 'head -c 16 /dev/urandom | md5sum')" != "$(mvm exec "$second" -- sh -c 'head -c 16 /dev/urandom | md5sum')"
is 'what a guest writes stays in its memory' "$(mvm exec web -- sh -c 'echo x > /etc/x && cat /etc/x')/$(mvm exec "$second" -- sh -c 'ls /etc/x 2>/dev/null')" x/
sockets=$(find "$MVM_HOME/vms" -name control.sock -exec stat -c %a {} +)
is 'control sockets are private' "$(printf '%s\n' "$sockets" | sort -u)" 600
rss=$(ps -o rss= -p "$(supervisors | head -n 1)")
echo "# resident memory of a supervisor with sanitizers: $rss KiB"

start=$(date +%s)
run mvm down web "$second" nosuch
is 'down tells the missing one' "$status" 14
is 'and stops the others' "$(printf '%s\n' "$out" | sort | tr '\n' ' ')" "$second web "
check 'within some seconds' test $(($(date +%s) - start)) -le 10
check 'no VMM is left' test -z "$(vm_processes)"
check 'no folder is left' test -z "$(vm_folders)"

run mvm run --flake "$flake" --json --name again
is 'run boots the cached image' "$(json '.cached|tostring')/$status" true/0
mvm down again >/dev/null
run mvm exec --flake "$flake" -- sh -c 'hello; exit 7'
is 'exec --flake gives the status' "$status" 7
has 'and the answer' "$out" '^Hello from hello'
check 'and leaves no VM' test -z "$(vm_folders)$(vm_processes)"

# One changed line is a new image; the old answer is not given.
sed -i 's/a microVM/A CHANGED microVM/' "$flake/flake.nix"
run mvm build --flake "$flake" --json
is 'a changed flake is built' "$(json '.cached|tostring')" false
check 'to another image' test "$(json .image)" != "$image"
is 'the lock file did not churn' "$(cat "$flake/flake.lock")" "$lock_before"

# A local folder as an input is part of the build, and of what decides whether to build.
mkdir "$tmp/dep"
echo 'a dependency' >"$tmp/dep/words"
printf '[flake]\nallow_inputs = ["%s"]\n' "$tmp/dep" >"$MVM_HOME/config.toml"
sed -i "s|inputs.mvm.url = \"mvm\";|&\n  inputs.dep = { url = \"path:$tmp/dep\"; flake = false; };|; s|{ self, mvm }|{ self, mvm, dep }|; s|on Linux|with \${builtins.readFile \"\${dep}/words\"} on Linux|" "$flake/flake.nix"
run mvm build --flake "$flake" --json
is 'a flake with a local folder as input is built' "$status" 0
has 'the lock file names it' "$(cat "$flake/flake.lock")" "$tmp/dep"
has 'its content arrives' "$(mvm exec --flake "$flake" -- hello)" 'with a dependency'
lock_before=$(cat "$flake/flake.lock")
run mvm build --flake "$flake" --json
is 'unchanged, it is cached' "$(json '.cached|tostring')" true
echo 'a CHANGED dependency' >"$tmp/dep/words"
run mvm build --flake "$flake" --json
is 'changed, it is built' "$(json '.cached|tostring')/$status" false/0
has 'with the new content' "$(mvm exec --flake "$flake" -- hello)" 'with a CHANGED dependency'
is 'the lock file did not churn for it' "$(cat "$flake/flake.lock")" "$lock_before"

# A damaged artifact is noticed, dropped and built again.
rootfs=$(json .rootfs)
chmod u+w "$rootfs"
printf 'X' | dd of="$rootfs" bs=1 seek=2000000 conv=notrunc 2>/dev/null
run mvm up --flake "$flake"
is 'a damaged image is not booted' "$status" 14
has 'it is said why' "$err" 'rootfs.ext4 has another content'
run mvm build --flake "$flake" --json
is 'it is built again' "$(json '.cached|tostring')/$status" false/0
record=$(ls "$MVM_CACHE_DIR"/builds/*.json | head -n 1)
for record in "$MVM_CACHE_DIR"/builds/*.json; do echo '{' >"$record"; done
run mvm build --flake "$flake" --json
is 'a damaged record is no success' "$(json '.cached|tostring')/$status" false/0
has 'and it is said' "$err" 'damaged build record'
hello=$(dirname "$(json .kernel)")

rm "$MVM_HOME/config.toml"
flake=$tmp/http
example http "$flake"
run mvm run --flake "$flake" --json --memory 192M --cpus 2 -P
is 'the web server example boots' "$status" 0
is 'with the processors asked for' "$(mvm exec http -- nproc)" 2
memory=$(mvm exec http -- sh -c 'grep MemTotal /proc/meminfo | tr -dc 0-9')
check 'and the memory asked for' test "$memory" -gt 120000 -a "$memory" -lt 196608
is 'run --publish-all publishes the port that the web server example names' "$(json '.ports | map(.guest_port) | tostring')" '[8080]'
has 'the page of the web server example is loaded on this host' \
    "$(curl -s --noproxy '*' -m 60 "http://127.0.0.1:$(json '.ports[0].host_port')/")" 'comes out of a microVM'
mvm down --all >/dev/null 2>&1
mvm dev down >/dev/null 2>&1
check "a builder and an image are left for the other tests" leave_template "$hello"
finish
