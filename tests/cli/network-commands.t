#!/bin/sh
# mvmctl network create, ls and rm, and --network NAME, as far as they need no VM.
. "$(dirname "$0")/../lib/tap.sh"
# refused NAME STATUS SAID HINT COMMAND...: fails so, with the reason and the way out.
refused() {
    title=$1 wanted=$2 said=$3 hint=$4
    shift 4
    run mvm "$@"
    has "$title" "$status $(printf '%s' "$err" | tr '\n' ' ')" "^$wanted .*${said#--}.*hint: .*$hint"
}

run mvm network ls
is 'there is no network at first' "$status/$out" 0/
run mvm network create app
is 'a network is made' "$status/$out" 0/app
run mvm network create db --policy none
is 'another one, of its own policy' "$status/$out" 0/db
run mvm network create web --allow example.org:443 --allow host:8080
is 'and one that reaches what is named' "$status/$out" 0/web
is 'ls names them' "$(mvm network ls --names | tr '\n' ' ')" 'app db web '
run mvm network ls --json
is 'its JSON has the policies' "$(json '.networks[] | .name + " " + .policy + " " + (.allow | join(",")) + " " + (.vms | length | tostring)')" \
    'app public  0
db none  0
web listed example.org:443,host:8080 0'
has 'the table has what is allowed' "$(mvm network ls)" 'allowed example.org:443 host:8080'

refused 'a name that is taken' 14 "network 'app' already" 'network rm app' network create app
for name in public none full; do
    refused "a policy's name: $name" 2 "called '$name'" 'another name' network create "$name"
done
for name in a/b .. A a.b 'a b' ''; do
    refused "no name of a network: '$name'" 2 "'$name' is no name" 'a-z' network create "$name"
done
refused 'no name at all' 2 'one name' 'mvmctl network create NAME' network create
refused 'a policy that there is not' 2 '[-]-policy strange' 'public, none or full' network create x --policy strange
refused 'a rule that is none' 2 'allow' '.' network create x --allow '*'
refused 'a rule in a network that allows nothing' 2 'allows nothing' 'leave out none' network create x --policy none --allow example.org
is 'what was refused is not there' "$(mvm network ls --names | wc -l)" 3

image=$tmp/image
mkdir "$image"
: >"$image/vmlinux"
: >"$image/rootfs.ext4"
refused 'up in a network that is not there' 14 "no network 'nowhere'" 'mvmctl network create nowhere' up "$image" --network nowhere
refused 'run in a network that is not there, before anything is built' 14 "no network 'nowhere'" 'mvmctl network create nowhere' run --flake "$tmp" --network nowhere
refused 'a copy in a network that is not there' 14 "no network 'nowhere'" 'mvmctl network create nowhere' fork a b --network nowhere
refused 'a network and rules of its own at once' 2 '[-]-allow and network' 'network create NAME --allow' up "$image" --network app --allow example.org
refused 'a name that can be no network' 2 "--network Pub/lic" 'public, none or full' up "$image" --network Pub/lic
refused 'exec in a VM that runs' 2 'runs already' 'mvmctl up --network' exec web --network app -- true

run mvm network rm web
is 'a network is removed' "$status/$out" 0/web
refused 'one that is not there' 14 "no network 'web'" 'mvmctl network create web' network rm web
refused 'rm of a name that can be none' 2 'no name' 'a-z' network rm ../vms
is 'the others are left' "$(mvm network ls --names | tr '\n' ' ')" 'app db '
is 'nothing else is kept' "$(ls "$MVM_HOME/networks" | tr '\n' ' ')" 'app db '
mkdir "$MVM_HOME/networks/half"
is 'what a killed command left is no network' "$(mvm network ls --names | tr '\n' ' ')" 'app db '
run mvm network create half
is 'and in nobody'"'"'s way' "$status/$(mvm network rm half)" 0/half
finish
