# shellcheck shell=sh disable=SC2154 # Nix sets tools, kernel, out, specPath, metadataPath
# Runs in Nix's sandbox under the builder's busybox: the description becomes an image folder.
set -eu
bb=$tools/bin/busybox

# Every applet of busybox under its name; what the image itself says comes later and wins.
for applet in $($bb --list); do
    case $applet in
    busybox) ;;
    *) echo "link /usr/bin/$applet busybox" ;;
    esac
done >spec
if [ -e graph ]; then
    echo "store graph" >>spec
fi
if [ -e copies ]; then
    echo "references copies" >>spec
fi
$bb cat "$specPath" >>spec

$bb mkdir "$out"
"$tools/bin/mvm-mkrootfs" --spec spec --output "$out/rootfs.ext4"
for file in vmlinux initrd cmdline.txt; do
    if [ -e "$kernel/$file" ]; then # the slim kernel has no initrd
        $bb ln -s "$kernel/$file" "$out/$file"
    fi
done
$bb cp "$metadataPath" "$out/image.json"
