# The builder VM's image. mvmctl builds it inside a Stage 0 image: it stages the nix/ folder with its own programs beside
# (programs/), and the Stage 0 image's registry provides the distribution's packages it was made of, so that no network is
# needed. The result: vmlinux, rootfs.ext4, initrd, cmdline.txt and manifest.json.
{
  description = "mvm: the builder VM";

  inputs.packages = {
    url = "mvm-packages";
    flake = false;
  };

  outputs =
    { self, packages }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAll = f: builtins.listToAttrs (map (system: { name = system; value = f system; }) systems);
      image =
        system:
        derivation {
          name = "mvm-builder-vm";
          inherit system;
          builder = "${packages}/bin/busybox";
          args = [ "sh" "${self}/build.sh" ];
          packages = "${packages}";
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
