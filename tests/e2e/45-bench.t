#!/bin/sh
# mvmctl bench, traces of starts, and bootBudget. No figure decides anything but counts of instructions.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER # bench build measures it
flake=$tmp/hello
example hello "$flake"
mvm build --flake "$flake" --json --trace "$tmp/build.trace" >"$tmp/built" 2>&1
folder=$(dirname "$(jq -rR 'fromjson? | .kernel // empty' "$tmp/built")")
check 'an image is built' test -s "$folder/vmlinux"
nothing_left() { test -z "$(vm_folders)$(vm_processes)$(supervisors_of_vms)"; }
supervisors_of_vms() { for p in $(supervisors); do tr '\0' ' ' <"/proc/$p/cmdline" | grep -q builder || ls -l "/proc/$p/cwd" >/dev/null; done; }
complete='type == "array" and length > 0 and all(.[]; .ph == "X" and (.name | type) == "string" and .dur >= 0 and .ts > 0 and .pid > 0 and .tid > 0)'
check 'a build writes a trace of complete events' jq -e "$complete" "$tmp/build.trace"
has 'with its phases' "$(jq -r '.[].name' "$tmp/build.trace" | tr '\n' ' ')" 'builder-start.* eval.* extract'
has 'and the steps of its builder' "$(jq -r '.[].name' "$tmp/build.trace" | tr '\n' ' ')" 'spawn-vmm.* configure'

# Boots: restored ones beside a foreign command, with everything that can be asked for.
run mvm bench boot --flake "$flake" --samples 3 --warmups 1 --baseline "sh -c 'echo \"a  b\" >>$tmp/ran'" --report "$tmp/r.html" --json
is 'restores are measured beside a command' "$status" 0
is 'as often as asked for' "$(json '[.sides[] | .n, (.samples | length), .kind, .mode] | join(" ")')" '3 3 boot warm 3 3 baseline '
is 'the command ran once a round, its words whole' "$(uniq -c "$tmp/ran" | tr -s ' ')" ' 4 a b'
is 'phases are kept apart' "$(json '.sides[0].phases | keys_unsorted | join(" ")')" 'start restore configure'
is 'and add up' "$(json '.sides[0] as $s | [range(3)] | map([$s.phases[].samples[.]] | add) as $sums | [range(3)] | all(($sums[.] - $s.samples[.]) | fabs < 0.01)')" true
is 'the ratio lies in its interval' "$(json '.ratios[0] | .low <= .ratio and .ratio <= .high and .of == "'"$flake"'"')" true
is 'percentiles are in order' "$(json '.sides[0] | .min <= .p50 and .p50 <= .p90 and .p90 <= .p99 and .p99 <= .max')" true
has 'the machine is described' "$(json '.host | "\(.cores) \(.kernel) \(.backend_version) \(.load)"')" '^[0-9]+ .*QEMU.* [0-9.]+$'
check 'no VM is left' nothing_left
run sh -c "cd '$flake' && '$MVMCTL' bench boot --samples 1 --warmups 0 --json"
is 'C8: the flake of this folder is called by its image, not "."' "$(json '.sides[0].name')" hello
run mvm bench boot --flake "$flake" --samples 1 --warmups 0 --budget 0.01
is 'above the budget: status 15' "$status" 15
has 'and by how much' "$err" '\[boot-budget\] the median of [0-9.]+ ms is [0-9.]+ ms above the budget of 0.01 ms'
run mvm bench boot --flake "$flake" --samples 1 --warmups 0 --budget 100000 --json
is 'within the budget: status 0' "$status/$(json .budget.kept)" 0/true
run mvm bench boot --flake "$flake" --samples 1 --baseline 'a "b'
is 'a command with an open quote is refused' "$status" 2
run mvm bench boot --flake "$flake" --samples 1 --warmups 0 --baseline false
is 'one that fails ends the bench' "$status" 1
has 'and is named' "$err" 'false exits with status 1'
check 'with no VM left' nothing_left

# Two configurations of any kernel and root file system.
printf 'name = "warm one"\nkernel = "%s/vmlinux"\nrootfs = "%s/rootfs.ext4"\ninitrd = "%s/initrd"\nmemory = "200M"\n' "$folder" "$folder" "$folder" >"$tmp/warm.toml"
sed 's/warm one/cold one/' "$tmp/warm.toml" >"$tmp/cold.toml"
echo 'mode = "cold"' >>"$tmp/cold.toml"
echo 'cmdline = "mvm.root=vda mvm.init=/sbin/mvm-init mvm.test"' >>"$tmp/cold.toml"
run mvm bench boot --compare "$tmp/warm.toml" "$tmp/cold.toml" --samples 2 --warmups 0 --json
is 'two configurations take turns' "$(json '[.sides[] | .name, .mode, .n, .memory_mib] | join(" ")')" 'warm one warm 2 200 cold one cold 2 200'
is 'and have a ratio' "$(json '.ratios | length')" 1
is 'they leave no image behind' "$(find "$MVM_CACHE_DIR/artifacts" -name '.stage*')" ''

# Counting. On a busy machine a boot waits for its disk so long that its clock jumps, which adds to its count: of five the two that
# are least are compared.
counted=$(mvm bench boot --flake "$flake" --count-instructions --samples 5 --warmups 0 --json 2>/dev/null)
counts() { printf '%s' "$counted" | jq ".sides[0] as \$s | $1"; }
is 'the least two of five counts differ by less than 5 %' "$(counts '$s.samples | sort | .[1] / .[0] < 1.05')" true
is 'a count is of millions' "$(counts '$s.min > 50000000 and .instructions > 50000000 and $s.unit == "instructions"')" true
is 'its phases add up to it' "$(counts '([$s.phases[].samples] | transpose | map(add)) == $s.samples and ($s.phases | keys_unsorted) == ["firmware", "kernel", "init"]')" true
is 'services are counted apart' "$(counts '$s.services > 0')" true

# Execs and builds.
run mvm bench exec --flake "$flake" --samples 2 --warmups 0 --json -- sh -c 'exit 0'
is 'execs are measured' "$(json '.sides[0] | "\(.n) \(.command | join(" ")) \(.phases | keys_unsorted | join(" "))"')" '2 sh -c exit 0 connect run'
run mvm bench exec --flake "$flake" --samples 1 -- sh -c 'exit 3'
is 'a program that fails is no sample' "$status" 14
check 'the VM of execs is gone' nothing_left
run mvm bench build --flake "$flake" --samples 1 --warmups 1 --json
has 'builds are measured by phase' "$(json '.sides[0].phases | keys | join(" ")')" 'build.*eval.*extract'

# Density, and its interruption.
run mvm bench density --flake "$flake" --count 3 --json
is 'three VMs at once are restored' "$status/$(json '"\(.warm) \(.vms | length)"')" '0/3 3'
is 'each takes memory' "$(json 'all(.vms[]; .vmm_pss_kib > 1000 and .supervisor_pss_kib > 100 and .ready_ms > 0)')" true
check 'then they are gone' nothing_left
"$MVMCTL" bench density --flake "$flake" --count 3 --timeout 60 >/dev/null 2>&1 &
pid=$!
eventually 30 sh -c "ls '$MVM_HOME/vms' | grep -q 'bench-$pid-'"
kill -INT "$pid"
status=0
wait "$pid" || status=$?
check 'interrupted, it leaves nothing' eventually 10 nothing_left
"$MVMCTL" bench boot --flake "$flake" --samples 1000 >/dev/null 2>&1 &
pid=$!
eventually 30 sh -c "ls '$MVM_HOME/vms' | grep -q '^bench'"
kill -KILL "$pid"
wait "$pid" 2>/dev/null
check 'killed, a bench leaves no VM' eventually 10 nothing_left

# Steps of a start.
run mvm up --flake "$flake" --name s --timing --trace "$tmp/up.trace"
is 'up prints its steps' "$(printf '%s\n' "$out" | grep -cE '^(image-lookup|digest-check|vm-folder|spawn-supervisor|snapshot-check|spawn-vmm|vmm-load|restore|configure) +(mvmctl|supervisor) +[0-9.]+ +[0-9.]+$')" 9
check 'and writes a trace of complete events' jq -e "$complete" "$tmp/up.trace"
is 'of two processes' "$(jq -r '[.[].pid] | unique | length' "$tmp/up.trace")" 2
is 'whose steps lie in the waiting' "$(jq '(.[] | select(.name == "wait-ready")) as $w | all(.[] | select(.cat == "supervisor" and .name != "control-socket"); .ts >= $w.ts - 1000000 and .ts + .dur <= $w.ts + $w.dur + 1)' "$tmp/up.trace")" true
run mvm exec s --trace "$tmp/exec.trace" -- true
check 'exec writes one as well' jq -e "$complete" "$tmp/exec.trace"
mvm down s >/dev/null
run mvm exec --flake "$flake" --trace "$tmp/once.trace" -- sh -c 'exit 5'
is 'the exit status stays' "$status" 5
is 'and so does the VM for one program' "$(jq -r '[.[].name] | contains(["restore", "exec", "stop"])' "$tmp/once.trace")" true
run mvm up --flake "$flake" --name s --json
is 'JSON has the steps' "$(json '.timings.steps | map(.name) | contains(["digest-check", "restore"])')" true
mvm down s >/dev/null
run mvm exec --flake "$flake" --trace "$tmp/no/such" -- true
is 'a trace that cannot be written is a failure' "$status" 125

# What a boot may cost.
sed -i 's/name = "hello";/name = "hello"; bootBudget = 5;/' "$flake/flake.nix"
records() { grep -hoE '"image": *"[0-9a-f]+"' "$MVM_CACHE_DIR"/builds/*.json | sort; }
before=$(records)
run mvm build --flake "$flake" --json
is 'over its bootBudget a build fails' "$status/$(json '.phase + " " + .kind + " " + (.exit_status | tostring)')" '15/boot-budget instructions 15'
has 'it is said by how much' "$(json .error)" 'a boot takes [0-9.]+ million instructions, [0-9.]+ more than .* budget of 5$'
detail=$(json .detail)
for word in firmware kernel init services; do
    has "and what $word takes" "$detail" "^ +[0-9]+\\.[0-9]+  $word"
done
has 'and initcalls by name' "$detail" '^ +[0-9.]+    [a-z0-9_]+$'
is 'it is not recorded as built' "$(records)" "$before"
check 'no VM is left of it' nothing_left
sed -i 's/bootBudget = 5;/bootBudget = { instructions = 100000; warmMilliseconds = 100000; };/' "$flake/flake.nix"
run mvm build --flake "$flake" --json
is 'within its bootBudget it is built' "$status" 0
has 'which is said' "$err" 'within its budget of 100000'
sed -i 's/instructions = 100000; warmMilliseconds = 100000;/warmMilliseconds = 1;/' "$flake/flake.nix"
run mvm build --flake "$flake" --json
is 'a warm start has a budget too' "$status/$(json .kind)" 15/warm-start
sed -i 's/warmMilliseconds = 1;/fast = 1;/' "$flake/flake.nix"
run mvm build --flake "$flake" --json
has 'a budget of another kind is refused' "$(json .error)" 'bootBudget'

# The page, as a browser sees it; tests/cli/report.t looks at it closely.
browser=$(command -v chromium || :)
if [ -n "$browser" ]; then
    HOME=$tmp timeout 60 "$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$tmp/chromium" --dump-dom "file://$tmp/r.html" >"$tmp/dom" 2>/dev/null
    is 'a browser sees two plots' "$(grep -o '<svg role="img"' "$tmp/dom" | wc -l)" 2
    is 'with a dot for every sample' "$(grep -o '<circle' "$tmp/dom" | wc -l)" 6
else
    skip 'a browser sees two plots' 'no chromium'
    skip 'with a dot for every sample' 'no chromium'
fi
check 'the page needs nothing else' test -z "$(grep -oE 'https?:|<script|<link|@import' "$tmp/r.html")"
finish
