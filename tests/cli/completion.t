#!/bin/sh
# What the completion scripts offer, asked of real shells.
. "$(dirname "$0")/../lib/tap.sh"

# Names as if there were VMs and snapshots; all else is the program's.
mkdir "$tmp/bin" "$tmp/work" "$tmp/work/folder"
touch "$tmp/work/report.html" "$tmp/work/zfile"
cat >"$tmp/bin/mvmctl" <<N
#!/bin/sh
case "\$*" in
'ls --names') printf 'webserver\ndatabase\n' ;;
'snapshot ls --names') printf 'alpha:good\nalpha:worse\nomega:only\n' ;;
*) exec "$MVMCTL" "\$@" ;;
esac
N
chmod +x "$tmp/bin/mvmctl"
PATH=$tmp/bin:$PATH
export PATH
cd "$tmp/work" || exit 1

# A line typed, and what it becomes.
cat >"$tmp/wanted" <<'N'
mvmctl ls --na|mvmctl ls --names
mvmctl logs --fo|mvmctl logs --follow
mvmctl doctor --js|mvmctl doctor --json
mvmctl exec --us|mvmctl exec --user
mvmctl down web|mvmctl down webserver
mvmctl exec web|mvmctl exec webserver
mvmctl exec -it -e A=B web|mvmctl exec -it -e A=B webserver
mvmctl exec h web|mvmctl exec h web
mvmctl exec h --us|mvmctl exec h --user
mvmctl exec --flake folder/ web|mvmctl exec --flake folder/ web
mvmctl dow|mvmctl down
mvmctl dev cache insp|mvmctl dev cache inspect
mvmctl dev cache inspect --verb|mvmctl dev cache inspect --verb
mvmctl dev cache inspect --veri|mvmctl dev cache inspect --verify
mvmctl snapshot rm om|mvmctl snapshot rm omega:only
mvmctl snapshot rm alpha:g|mvmctl snapshot rm alpha:good
mvmctl up --from om|mvmctl up --from omega:only
mvmctl up --from=alpha:w|mvmctl up --from=alpha:worse
mvmctl help snap|mvmctl help snapshot
mvmctl help dev cac|mvmctl help dev cache
mvmctl build --trace rep|mvmctl build --trace report.html
mvmctl build --flake fol|mvmctl build --flake folder/
mvmctl cp zf|mvmctl cp zfile
mvmctl cp zfile web|mvmctl cp zfile webserver:/
mvmctl up fol|mvmctl up folder/
mvmctl completion zs|mvmctl completion zsh
mvmctl build --system aarch|mvmctl build --system aarch64-linux
N
for shell in bash zsh; do
    "$MVMCTL" completion "$shell" >"$tmp/script"
    set --
    while IFS='|' read -r typed _; do set -- "$@" "$typed"; done <"$tmp/wanted"
    run "$MVM_SOURCE/tests/cli/complete.py" "$shell" "$tmp/script" "$@"
    printf '%s\n' "$out" >"$tmp/got"
    while IFS='|' read -r typed wanted <&3; do
        IFS= read -r got || got=
        is "C1: $shell completes '$typed'" "${got% }" "$wanted"
    done 3<"$tmp/wanted" <"$tmp/got"
done

"$MVMCTL" completion fish >"$tmp/script"
for pair in 'mvmctl ls --na|--names' 'mvmctl snapshot rm om|omega:only' 'mvmctl up --from om|omega:only' \
    'mvmctl help dev cac|cache' 'mvmctl cp zf|zfile' 'mvmctl cp zfile web|webserver:/' 'mvmctl build --trace rep|report.html' \
    'mvmctl build --flake fol|folder/'; do
    got=$(fish --no-config -c "source '$tmp/script'; complete -C '${pair%|*}'" 2>&1 | cut -f 1)
    is "C1: fish completes '${pair%|*}'" "$got" "${pair#*|}"
done
finish
