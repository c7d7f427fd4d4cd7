# The builder VM's image. mvmctl builds it inside a Stage 0 image: it stages the nix/ folder with its own programs beside
# (programs/), and has the sandbox show the Stage 0 image's own packages as /packages, so that no network is needed and
# nothing of them is copied into the store. Which image that is stands in the file seed, which makes it a part of the
# derivation. The result: vmlinux, rootfs.ext4, initrd, cmdline.txt and manifest.json.
{
  description = "mvm: the builder VM";

  outputs =
    { self }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAll = f: builtins.listToAttrs (map (system: { name = system; value = f system; }) systems);
      image =
        system:
        derivation {
          name = "mvm-builder-vm";
          inherit system;
          builder = "/packages/bin/busybox";
          args = [ "sh" "${self}/build.sh" ];
          packages = "/packages";
          source = self.sourceInfo.outPath;
          preferLocalBuild = true;
          allowSubstitutes = false;
          # OpenSSL's plain SHA-256 is four times faster than its vector code under software emulation.
          OPENSSL_ia32cap = "~0x1000020000000000:0";
        };
    in
    {
      packages = forAll (system: { default = image system; });
    };
}
