#!/bin/sh
# logs of VMs that have stopped: which lines are printed, and how. No VM is needed for it.
. "$(dirname "$0")/../lib/tap.sh"
TZ=UTC
export TZ

mkdir -p "$MVM_HOME/vms/web" && chmod 700 "$MVM_HOME" "$MVM_HOME/vms"
# Lines with their times (seconds since 1970), as the supervisor writes them.
python3 - "$MVM_HOME/vms/web" <<'P'
import struct, sys
def log(name, lines):
    with open(f"{sys.argv[1]}/{name}.log", "wb") as f, open(f"{sys.argv[1]}/{name}.times", "wb") as t:
        for at, text in lines:
            t.write(struct.pack("=QQ", f.tell(), int(at * 1e9)))
            f.write(text)
log("console", [(1000000000, b"[    0.123456] PCI: Fatal: No config space access function found\r\n"), (1000000000.5, b"Linux version 6\r\n"), (1000000003, b"late \x1b[31mred\xc2\x9b\n")])
log("agent", [(1000000001, b"mvm: agent of role runtime is there\n"), (1000000001.25, b"mvm: service hello started (0)\n"),
              (1000000002, b"hello: one\nhello: two\n"), (1000000004, b"other: mine\n"), (1000000100, b"hello: three\n")])
log("vmm", [(1000000005, b"qemu: a complaint")])
P
# logs NAME WANTED OPTION...
logs() {
    wanted=$2
    name=$1
    shift 2
    run "$MVMCTL" logs web "$@"
    is "logs: $name" "$out" "$wanted"
}
logs 'C6: all lines in the order in which they came, but the complaint that there is no PCI' 'Linux version 6
mvm: agent of role runtime is there
mvm: service hello started (0)
hello: one
hello: two
late ?[31mred?
other: mine
qemu: a complaint
hello: three'
logs '--tail' 'qemu: a complaint
hello: three' --tail 2
logs '--tail 0' '' --tail 0
is 'logs: --tail all' "$("$MVMCTL" logs web --tail all | wc -l)" 9
is 'logs: --tail beyond what there is' "$("$MVMCTL" logs web -n 1000 | wc -l)" 9
logs '--since in seconds' 'qemu: a complaint
hello: three' --since 1000000005
logs '--since as a date' 'hello: three' --since 2001-09-09T01:48:00Z
logs '--since in another zone' 'hello: three' --since 2001-09-09T03:48:00+02:00
logs '--since a while ago' '' --since 10m
logs '--service' 'mvm: service hello started (0)
hello: one
hello: two
hello: three' --service hello
logs '--service and --tail' 'hello: two
hello: three' --service hello --tail 2
logs '--service, --since and --tail' 'hello: three' --service hello --tail 5 --since 2001-09-09T01:46:43
logs '--timestamps' '2001-09-09T01:46:45.000000Z qemu: a complaint
2001-09-09T01:48:20.000000Z hello: three' --timestamps --tail 2
logs '-f of a VM that has stopped ends' 'qemu: a complaint
hello: three' -f -n 2
logs '-f with all of them' '2001-09-09T01:48:20.000000Z hello: three' --follow --timestamps --service hello --since 1000000000 --tail 1
run "$MVMCTL" logs web --json
is 'logs: --json is one object' "$(printf '%s' "$out" | jq -s 'length')" 1
is 'logs: --json has all lines' "$(printf '%s' "$out" | jq -c '.lines | length')" 9
is 'logs: --json has the fields' "$(printf '%s' "$out" | jq -c '.lines[3]')" \
    '{"time":"2001-09-09T01:46:42.000000Z","log":"agent","service":"hello","text":"hello: one"}'
has 'logs: --json escapes what a terminal would obey' "$out" 'late \\u001b\[31mred\\u009b'
is 'logs: --json with --service and --tail' "$("$MVMCTL" logs web --json --service hello --tail 1 | jq -r '.lines[].text')" 'hello: three'
is 'logs: --json of nothing' "$("$MVMCTL" logs web --json --tail 0)" '{"lines":[]}'
run "$MVMCTL" logs web --json --follow --tail 2
is 'logs: --json with --follow is an object a line' "$(printf '%s' "$out" | jq -r .log | tr '\n' ' ')" 'vmm agent '
run "$MVMCTL" logs web --service helo
is 'logs: a service without a line is no failure' "$status/$out" 0/
has 'logs: but it is said, with a guess' "$err" "about a service 'helo': did you mean hello"
for o in '--tail x' '--tail -1' '--since x' '--since 25:00' '--since 1y' '--since 2026-13-01' '--since 2026-11-27T16:00:00X' '--service'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" logs web $o
    is "logs: $o is a usage error" "$status" 2
done
rm "$MVM_HOME"/vms/web/*.times
is 'logs: without their times the lines are printed log by log' "$("$MVMCTL" logs web --timestamps | head -n 1)" '- Linux version 6'
finish
